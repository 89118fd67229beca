"""The one-way rule between the packages, read from the imports themselves, and what importing the pure part may load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = {"rlvr", "analysis", "experiments", "run", "tests"}
# What analysis may use of rlvr: modules that read run folders and name benchmarks.
PURE_RLVR = {"rlvr.run_folder", "rlvr.benchmarks", "rlvr.config", "rlvr.evaluation.metrics", "rlvr.stats"}
ANALYSIS_LIBRARIES = {
    "numpy", "pandas", "matplotlib", "scipy", "rich", "yaml", "omegaconf", "pyarrow", "jinja2", "PIL",
}  # fmt: skip
PURE_MODULES = sorted(
    {*PURE_RLVR, "rlvr", "rlvr.provenance", "rlvr.console", "rlvr.pools", "rlvr.tiny.datasets"}
    | {
        "rlvr.evaluation.metrics",
        "rlvr.evaluation.samples",
        "rlvr.evaluation.checkpoints",
        "rlvr.evaluation.ask",
        "rlvr.evaluate",
    }
)
HEAVY = ("torch", "ray", "verl", "transformers", "vllm")


def python_files(folder):
    return sorted((ROOT / folder).rglob("*.py"))


def imports(file):
    """Full names of all modules a file imports, also inside functions and `if TYPE_CHECKING`."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                inside = ROOT / inner.replace(".", "/")
                is_module = inside.is_dir() or inside.with_suffix(".py").exists()
                names.add(inner if is_module else str(node.module))
    return names


def top(name):
    return name.partition(".")[0]


def is_command(file):
    return 'if __name__ == "__main__":' in file.read_text()


@pytest.mark.parametrize("file", python_files("rlvr"), ids=lambda file: str(file.relative_to(ROOT)))
def test_rlvr_imports_nothing_that_stands_on_it(file):
    assert not {name for name in imports(file) if top(name) in OURS - {"rlvr"}}


@pytest.mark.parametrize("file", python_files("rlvr/verl_cpu"), ids=lambda file: file.name)
def test_verl_cpu_stands_alone(file):
    outside = {name for name in imports(file) if top(name) in OURS and not name.startswith("rlvr.verl_cpu")}
    assert not outside


@pytest.mark.parametrize("file", python_files("analysis"), ids=lambda file: str(file.relative_to(ROOT)))
def test_analysis_reads_run_folders_only(file):
    for name in imports(file):
        if top(name) == "rlvr":
            assert name in PURE_RLVR
        else:
            assert top(name) in {"analysis", *ANALYSIS_LIBRARIES, *sys.stdlib_module_names}


def test_only_command_lines_import_hydra():
    files = [*python_files("rlvr"), *python_files("analysis"), *python_files("experiments"), ROOT / "run.py"]
    using = {file for file in files if any(top(name) == "hydra" for name in imports(file))}
    # rlvr/compose.py: what the command lines share, hence the only other one.
    assert {file for file in using if not is_command(file)} <= {ROOT / "rlvr" / "compose.py"}


def loaded_by(module):
    code = f"import {module}, sys; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def analysis_modules():
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in python_files("analysis")]
    return [name.removesuffix(".__init__") for name in names]


def test_the_pure_part_loads_neither_torch_nor_ray_nor_verl():
    assert loaded_by(", ".join([*PURE_MODULES, *analysis_modules()])).split() == []
