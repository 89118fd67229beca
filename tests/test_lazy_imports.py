"""What importing may load: heavy libraries belong to the rooms that train, generate or pretrain. Arrows between the
rooms: import-linter's contracts in pyproject.toml."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "ray", "verl", "transformers", "vllm")
# Modules that say in their docstring that they load torch.
LOADING = ("training", "verl_torch", "evaluate/inference_engines", "evaluate/vllm_worker", "grading/worker_process")


def modules():
    files = [*ROOT.glob("rlvr/**/*.py"), *ROOT.glob("analysis/**/*.py")]
    inside = [file.relative_to(ROOT).with_suffix("") for file in files if file.stem != "__main__"]
    light = [path for path in inside if not path.as_posix().removeprefix("rlvr/").startswith(LOADING)]
    return [".".join(path.parts).removesuffix(".__init__") for path in light]


def test_everything_else_loads_neither_torch_nor_ray_nor_verl():
    code = f"import {', '.join(modules())}, sys; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []
