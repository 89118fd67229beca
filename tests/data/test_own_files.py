"""A file of the user's own counts by what it holds: not by how its path was typed, where it lies, or what it is called."""

import os
import shutil
from pathlib import Path

import pytest

from rlvr.cli import DataError
from rlvr.config.compose import compose
from rlvr.data import prepare, protocols
from rlvr.planning.plan import Plan, plan
from rlvr.runs.config_changes import RunConflict, refuse_other_config
from rlvr.runs.folder import RunFolder, open_run
from rlvr.runs.naming import run_name, science


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Two files of one name that hold different things, a copy of the first under another name, and a link to it."""
    monkeypatch.chdir(tmp_path)
    for folder, text in (("a", "question: 1 + 1?\nanswer: 2\n"), ("b", "question: 1 + 2?\nanswer: 3\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "best.yaml").write_text(text)
    shutil.copy("a/best.yaml", "copy.yml")
    os.symlink("a/best.yaml", "link.yaml")
    return tmp_path


def made(*overrides: str) -> Plan:
    return plan(compose("+experiment=one_shot", "runs_dir=runs", *overrides))


def begin(planned: Plan) -> RunFolder:
    """The folder of a run that has taken a step."""
    with open_run(planned.folder.path, planned.stored_config) as folder:
        prepare.write_rows(folder, planned.problems.training_rows, planned.problems.test_rows[:3])
        folder.metrics_path.write_text('{"step": 1}\n')
    return planned.folder


def test_examples_are_named_by_what_they_hold(place):
    same = ["a/best.yaml", "./a/../a/best.yaml", f"{place}/a/best.yaml", "copy.yml", "link.yaml"]
    names = {run_name("one_shot", None, [f"example.file={path}"]) for path in same}
    assert len(names) == 1 and run_name("one_shot", None, ["example.file=b/best.yaml"]) not in names
    assert names == {compose("+experiment=one_shot", "example.file=copy.yml").experiment_folder}
    for key in ("pool.ranking", "benchmarks.mine.file"):
        assert science([f"+{key}=a/best.yaml"]) == science([f"{key}=copy.yml"]) != science([f"{key}=b/best.yaml"])


@pytest.mark.parametrize("more", [[], ["variant=x"]])
def test_a_run_goes_on_with_a_moved_copy_and_not_with_another_text(place, more):
    folder = begin(made("example.file=a/best.yaml", *more))
    for path in ("./a/../a/best.yaml", "copy.yml"):
        again = made(f"example.file={path}", *more)
        assert again.folder.path == folder.path and refuse_other_config(folder, again.stored_config) == {}
    if more:
        other = made("example.file=b/best.yaml", *more)
        with pytest.raises(RunConflict, match="train_set.examples.*1 \\+ 1"):
            refuse_other_config(folder, other.stored_config)


def test_a_ranking_and_a_benchmark_may_move_but_not_change(place):
    ranking = Path(compose("+experiment=one_shot").pool.ranking).read_text()
    Path("a/r.csv").write_text(ranking)
    Path("b/r.csv").write_text(ranking)
    given = [
        "pool.ranking={}/r.csv",
        "+benchmarks.mine.file={}/best.yaml",
        "scale.benchmarks=[validation,mine]",
        "variant=x",
    ]
    shutil.copy("a/best.yaml", "copy.yaml")
    folder = begin(made(*(one.format("a") for one in given)))
    shutil.copy("copy.yaml", "b/best.yaml")
    moved = made(*(one.format("b") for one in given))
    assert refuse_other_config(folder, moved.stored_config) == {}
    Path("b/r.csv").write_text(ranking + "\n")
    with pytest.raises(RunConflict, match="overrides: .*pool.ranking="):
        refuse_other_config(folder, made(*(one.format("b") for one in given)).stored_config)


def test_what_an_own_benchmark_asks_is_its_identity(place):
    def record(path):
        (row,) = protocols.select("mine", {"mine": {"file": path}})
        return row.record(0, protocols.load(row, None)[0])

    assert record("a/best.yaml") == record("./copy.yml") != record("b/best.yaml")


def test_rewards_of_one_name_have_folders_of_their_own_and_one_may_move(place):
    for folder in "ab":
        Path(folder, "r.py").write_text("def reward(r, l, i): return 1")
    names = {
        run_name("one_shot", None, [f"reward_rule.file={path}"]) for path in ("a/r.py", "b/r.py", f"{place}/./a/r.py")
    }
    assert names == {"one_shot-reward_rule.file=a_r.py", "one_shot-reward_rule.file=b_r.py"}
    folder = begin(made("reward_rule.file=a/r.py", "variant=x"))
    assert refuse_other_config(folder, made("reward_rule.file=b/r.py", "variant=x").stored_config) == {}
    with pytest.raises(RunConflict, match="reward_rule.file: .*r.py → None"):
        refuse_other_config(folder, made("variant=x").stored_config)


def test_a_run_that_has_begun_keeps_its_problems_and_labels(place):
    """Whatever file they came from: here a folder of data that changed below the run."""
    planned = made("example.file=a/best.yaml")
    folder, rows = begin(planned), planned.problems.training_rows
    tests = planned.problems.test_rows[:3]
    prepare.refuse_other_rows(folder, rows, tests)
    for training, testing in (([rows[0] | {"reward_model": {"ground_truth": "3"}}], tests), (rows, tests[:2])):
        with pytest.raises(DataError, match="this run began with other problems or labels .*label '"):
            prepare.refuse_other_rows(folder, training, testing)
    folder.metrics_path.unlink()
    prepare.refuse_other_rows(folder, rows, tests[:2])
