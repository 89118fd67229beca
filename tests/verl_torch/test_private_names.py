"""Names that verl, Ray, torch and transformers do not promise: all are listed, and as expected; a start fails without those it overrides."""

import ast
import importlib
import inspect
import re
import subprocess
import sys

import pytest

from experiments.timings.verl_worker import join_world
from rlvr.verl_torch import private_names
from rlvr.verl_torch.private_names import OVERRIDDEN, USED

LIBRARIES = ("verl", "ray", "torch", "transformers", "tensordict", "transfer_queue", "vllm")
OTHERS = {"_asdict", "_exit", "_self_"}  # of Python and Hydra
BENIGN = re.compile(r"_(to_pi|after_stall|type)")  # parts of names in texts


def is_private(name):
    return name.startswith("_") and not name.startswith("__") or name == "__ray_call__"


@pytest.fixture(autouse=True, scope="module")
def on_a_cpu():
    """verl chooses a platform when it is first asked for one, for all tests of this process."""
    join_world()


@pytest.fixture(scope="module")
def modules(request):
    """Module of rlvr without "rlvr." -> syntax tree."""
    root = request.config.rootpath
    paths = set((root / "rlvr").rglob("*.py")) - {root / "rlvr/verl_torch/private_names.py"}
    return {".".join(p.relative_to(root / "rlvr").with_suffix("").parts): ast.parse(p.read_text()) for p in paths}


@pytest.mark.parametrize("one", OVERRIDDEN + USED, ids=lambda one: f"{one.user}-{one.name}")
def test_what_we_use_is_there_as_we_expect_it(one):
    private_names.expect(one)


def test_every_private_name_is_listed(modules):
    nodes = [node for tree in modules.values() for node in ast.walk(tree)]
    ours = {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    ours |= {n.attr for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)}
    ours |= {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    listed = {(one.user, one.name) for one in OVERRIDDEN + USED}
    found = set()
    for user, tree in modules.items():
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] in LIBRARIES:
                names = [alias.name for alias in node.names]
                if not any(map(is_private, str(node.module).split("."))):
                    names = list(filter(is_private, names))
                elif {"state", "worker"} & set(names):  # whose own names are listed
                    names = []
            elif isinstance(node, ast.Attribute) and is_private(node.attr):
                of_a_base = ast.unparse(node.value) == "super()"
                foreign = of_a_base or node.attr not in ours or ast.unparse(node.value) in ("worker", "config")
                names = [node.attr] if foreign else []
            elif isinstance(node, ast.Constant) and re.fullmatch(r"_[a-z]\w*", str(node.value)):
                names = [] if BENIGN.fullmatch(node.value) else [node.value]
            found |= {(user, name) for name in names if name not in OTHERS}
    assert len(found) >= 15
    assert found <= listed


def test_every_method_of_verl_that_is_overridden_is_listed(modules):
    listed = {(one.user, one.name) for one in OVERRIDDEN + USED}
    found = set()
    for user, tree in modules.items():
        imports = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and str(n.module).startswith("verl.")]
        if not imports or user.startswith("training.task_runner"):
            continue
        module = importlib.import_module(f"rlvr.{user}")
        for _, ours in inspect.getmembers(module, inspect.isclass):
            bases = [base for base in ours.__mro__ if base.__module__.startswith("verl.")]
            if ours.__module__ != module.__name__ or not bases:
                continue
            for name in vars(ours):
                theirs = [vars(base)[name] for base in bases if name in vars(base) and not name.startswith("__")]
                if callable(vars(ours)[name]) and any(not getattr(t, "__isabstractmethod__", False) for t in theirs):
                    found.add((user, name))
    assert len(found) >= 12
    assert found <= listed


RENAMED = """
import importlib, sys
from rlvr.verl_torch.private_names import OVERRIDDEN
for one in OVERRIDDEN:
    path, _, name = one.where.partition(":")
    owner = getattr(importlib.import_module(path), name) if name else importlib.import_module(path)
    owners = [owner for owner in (owner.__mro__[:-1] if name else [owner]) if one.name in vars(owner)]
    kept = [(owner, vars(owner)[one.name]) for owner in owners]
    for owner in owners:
        delattr(owner, one.name)
    sys.modules.pop(f"rlvr.{one.user}", None)  # verl itself loads the platform
    try:
        importlib.import_module(f"rlvr.{one.user}")
        print("loaded", one)
    except RuntimeError as error:
        print(error)
    for owner, value in kept:
        setattr(owner, one.name, value)
"""


def test_without_a_name_that_we_override_nothing_starts(request):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RENAMED], cwd=request.config.rootpath, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if ": not in " in line or line.startswith("loaded")]
    assert len(said) == len(OVERRIDDEN)
    for one, line in zip(OVERRIDDEN, said, strict=True):
        assert f".{one.name}(" in line and f"rlvr.{one.user} needs it (" in line, line
