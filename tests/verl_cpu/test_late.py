"""A process without the packages that it may never use, until something asks for one. Each test needs a process of its own."""

import subprocess
import sys

import pytest

START = """
import inspect, sys
from rlvr.verl_cpu import late
late.install()
def absent(package): return isinstance(sys.modules[package], late._Standin)
"""
TORCH = """
import tensordict, torch, torch.distributed
from transformers import AutoModelForCausalLM
import transformers.models.qwen2.modeling_qwen2
"""
PLACED = "inspect.getmodule(inspect.currentframe())  # asks every module for its file\n"


def python(code):
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", START + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_a_run_does_needs_none_of_them():
    python(f"""{TORCH}{PLACED}
import rlvr.tiny, rlvr.verl_cpu.engine, rlvr.verl_cpu.server, rlvr.training.trainer
AutoModelForCausalLM.from_pretrained(f"{{rlvr.tiny.__path__[0]}}/model")
parameter = torch.nn.Parameter(torch.ones(3))
optimizer = torch.optim.AdamW([parameter])
parameter.sum().backward()
optimizer.step()
optimizer.zero_grad()
torch.nested.nested_tensor_from_jagged(torch.ones(5), torch.tensor([0, 2, 5]), max_seqlen=3).sum()
torch.distributed.init_process_group("gloo", init_method="tcp://127.0.0.1:0", rank=0, world_size=1)
torch.distributed.destroy_process_group()
from torch._subclasses import FakeTensorMode
FakeTensorMode()  # reads the compiler's settings, a file of its own
assert sys.modules["torch._dynamo.config"].__spec__.origin.endswith("config.py")
assert all(map(absent, late.PACKAGES))
""")


@pytest.mark.parametrize(
    "code",
    [
        "assert torch.compile(lambda x: x + 1, backend='eager')(torch.ones(2)).tolist() == [2, 2]",
        "import torch._dynamo.config as config, torch._dynamo.source; assert config is torch._dynamo.config",
        "from transformers.masking_utils import TransformGetItemToIndex as T; T().__enter__()",
    ],
)
def test_what_asks_for_the_compiler_gets_it(code):
    python(f"{TORCH}assert absent(late.COMPILER)\n{code}\nassert not absent(late.COMPILER)\nlate.install()\n{PLACED}")


def test_what_asks_for_another_gets_it():
    python("""
def loads(package, code):
    assert absent(package), package
    exec(code)
    assert not absent(package) and sys.modules[package].__file__, package

import sympy
assert not isinstance(3, (str, sympy.Basic))  # nothing is an instance of what is not loaded
loads("sympy", "assert isinstance(sympy.S.One, sympy.Basic) and sympy.sqrt(4) == 2")
loads("scipy.optimize", "from scipy.optimize import linear_sum_assignment as f; assert f([[0]])[0].tolist() == [0]")
loads("aiohttp", "import aiohttp; assert issubclass(aiohttp.ClientError, Exception)")
loads("fastapi", "from fastapi.responses import JSONResponse; import fastapi; assert fastapi.FastAPI(title='a').title == 'a'")
loads("pandas", "import pandas; assert pandas.__version__ and pandas.DataFrame({'a': [1]}).a.tolist() == [1]")
loads("datasets", "from datasets.arrow_dataset import Dataset as D; import datasets; assert D is datasets.Dataset")
from peft import LoraConfig, TaskType
loads("peft", "assert LoraConfig(task_type=TaskType.CAUSAL_LM).r == 8")
""")


def test_conditions_on_sizes_have_their_answers_and_those_on_symbols_load_the_real_ones():
    python("""
import torch, torch.fx.experimental.symbolic_shapes as shapes
assert shapes.sym_eq((2, 3), torch.Size([2, 3])) and not shapes.sym_eq((2, 3), (2,))
assert shapes.sym_and(True, True) and not shapes.sym_or(False, False) and not shapes.is_nested_int(3)
assert shapes.guard_or_true(False) is False and absent(late.SHAPES)
guard = shapes.guard_or_false
n = shapes.ShapeEnv().create_unbacked_symint()
assert not guard(n == 3) and guard(True) and not absent(late.SHAPES)
""")
