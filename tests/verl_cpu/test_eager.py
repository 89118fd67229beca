"""A process without torch's compiler, until something asks for it. Each test needs a process of its own."""

import subprocess
import sys

import pytest

START = """
import inspect, sys
from rlvr.verl_cpu import eager
eager.install()
import tensordict, torch, torch.distributed
from transformers import AutoModelForCausalLM
import transformers.models.qwen2.modeling_qwen2
NAME = "torch._dynamo"
def absent(): return "torch._dynamo.eval_frame" not in sys.modules
"""


def python(code):
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", START + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_a_run_does_needs_no_compiler():
    python("""
inspect.getmodule(inspect.currentframe())  # asks every module for its file
parameter = torch.nn.Parameter(torch.ones(3))
optimizer = torch.optim.AdamW([parameter])
parameter.sum().backward()
optimizer.step()
optimizer.zero_grad()
torch.distributed.init_process_group("gloo", init_method="tcp://127.0.0.1:0", rank=0, world_size=1)
torch.distributed.destroy_process_group()
assert absent()
""")


@pytest.mark.parametrize(
    "code",
    [
        "assert torch.compile(lambda x: x + 1, backend='eager')(torch.ones(2)).tolist() == [2, 2]",
        "import torch._dynamo.config as config; assert config is torch._dynamo.config is sys.modules[NAME + '.config']",
        "from transformers.masking_utils import TransformGetItemToIndex as T; T().__enter__()",
    ],
)
def test_what_asks_for_the_compiler_gets_it(code):
    python(
        f"assert absent()\n{code}\nassert not absent() and sys.modules[NAME].__file__\neager.install(); assert not absent()"
    )
