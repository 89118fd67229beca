"""Every command explains itself, and says in one line what is wrong with its options."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from command_line import run_module

from rlvr.cli import ConfigError, command, option, read, usable_cores, usage

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
    for folder in ("rlvr", "analysis", "experiments")
    for file in (ROOT / folder).rglob("*.py")
    if "sys.exit(command(" in file.read_text() and file.name != "cli.py"
)


def test_every_program_of_the_project_reads_its_options_here():
    programs = [f for d in ("rlvr", "analysis", "experiments") for f in (ROOT / d).rglob("*.py")]
    others = [
        f.relative_to(ROOT).as_posix()
        for f in programs
        if 'if __name__ == "__main__"' in f.read_text() and "command(" not in f.read_text()
    ]
    # Workers and a child process: their input is a pipe.
    assert sorted(others) == [
        "rlvr/grading/user_function.py", "rlvr/grading/worker_process.py", "rlvr/planning/base_model_probe.py", "rlvr/training/guardian.py",
    ]  # fmt: skip


@pytest.mark.parametrize("module", COMMANDS)
def test_help_has_the_options_and_an_example_and_loads_nothing_heavy(module):
    code = f"import runpy, sys; sys.argv = ['x', '-h']\ntry: runpy.run_module({module!r}, run_name='__main__', alter_sys=True)\n"
    code += "except SystemExit as end: assert not end.code\n"
    code += "print('HEAVY', sorted({'torch', 'ray', 'verl', 'transformers', 'hydra'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"python -m {module}" in done.stdout and "options:" in done.stdout
    assert done.stdout.splitlines()[-1] == "HEAVY []"


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")  # the module may be imported already
# experiments.launch hands such a key to run.py, which knows it or names it (tests/experiments/test_launch.py).
@pytest.mark.parametrize("module", [module for module in COMMANDS if module != "experiments.launch"])
def test_an_unknown_option_is_one_line(module):
    done = run_module(module, "nonsense=1")
    assert done.returncode == 1 and done.stderr.startswith("error: nonsense=1: expected key=value; ")
    assert done.stderr.count("\n") == 1 and done.stdout == ""


@dataclass
class Options:
    run: Path = option("a folder")
    rows: int = option("a number", 256, at_least=1)
    temperature: float = option("hot or cold", 0.5)
    engine: Literal["torch", "vllm"] = option("what generates", "torch")
    check: bool = option("only look", False)
    steps: list[int] = option("some steps", [])
    others: list[Path] = option("more folders", [])
    seed: int | None = option("of the draws", None)
    benchmarks: list[str] = option("some benchmarks", [])
    changes: dict = option("own rows", {}, key="benchmarks")
    min_gain: float | None = option("of the gate", None, key="gate.min_gain")


def test_values_are_read_as_their_annotations_say():
    given = ["run=~/a b, [c]=é", "rows=3", "temperature=1e-3", "engine=vllm", "check=true", "steps=[1,2]", "steps=5"]
    given += [
        "others=x,y",
        "others=z",
        "seed=null",
        "benchmarks.mine.k=4",
        "benchmarks.mine.file=a,b.csv",
        "benchmarks=x,y",
    ]
    options = read(Options, given)
    assert options.run == Path.home() / "a b, [c]=é" and options.others == [Path("x,y"), Path("z")]
    assert (options.rows, options.temperature, options.engine, options.check) == (3, 1e-3, "vllm", True)
    assert options.steps == [1, 2, 5] and options.seed is None
    assert options.changes == {"mine": {"k": 4, "file": "a,b.csv"}} and options.benchmarks == ["x", "y"]
    assert read(Options, ["run=x"]).rows == 256
    assert read(Options, ["run=x", "gate.min_gain=0.02"]).min_gain == 0.02 and "gate.min_gain=..." in usage(Options, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rows=abc", "run=x"], "rows=abc: expected a whole number"),
        (["rows=0", "run=x"], "rows=0: expected 1 or more"),
        (["temperature=hot", "run=x"], "temperature=hot: expected a number"),
        (["check=maybe", "run=x"], "check=maybe: expected true or false"),
        (["engine=vlm", "run=x"], "engine=vlm: did you mean vllm?"),
        (["steps=[1,2", "run=x"], "steps=[1,2: a bracket does not close"),
        (["row=3", "run=x"], "row=3: expected key=value; did you mean rows?"),
        (["--rows", "3"], "--rows: expected key=value; did you mean rows?"),
        (["rows.more=3", "run=x"], "rows has no keys below it"),
        (["benchmarks.mine=3", "run=x"], "expected benchmarks.<name>.<key>=value"),
        ([], "run=...: must be given: a folder"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ConfigError) as error:
        read(Options, arguments)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_the_usable_cores_are_the_machines_where_the_system_does_not_say(monkeypatch):
    assert usable_cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    assert usable_cores() == os.cpu_count()


def test_how_a_command_ends(capsys):
    def interrupted(options):
        raise KeyboardInterrupt

    assert command(Options, lambda options: None, "text", ["run=x"]) == 0
    assert command(Options, lambda options: 3, "text", ["run=x"]) == 3
    assert command(Options, interrupted, "text", ["run=x"]) == 130
    assert "rows=..." in usage(Options, "text") and "(default: 256)" in usage(Options, "text")
