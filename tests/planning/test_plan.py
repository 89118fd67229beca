"""A start reads its configuration once, and a check refuses whatever a start would refuse."""

import sys
from pathlib import Path

import pytest
from omegaconf import DictConfig

from rlvr.config import schema
from rlvr.config.compose import compose
from rlvr.data import downloads
from rlvr.planning.plan import plan
from rlvr.runs.plain_files import RunFolderError
from rlvr.training import start_checks

ROOT = Path(__file__).resolve().parents[2]


def files_that_get_the_configuration(work) -> set[str]:
    """Modules of rlvr with a function that was called with a whole configuration while `work` ran."""
    seen = set()

    def watch(frame, event, argument):
        path = frame.f_code.co_filename
        if event == "call" and path.startswith(f"{ROOT}/rlvr/"):
            code = frame.f_code
            for name in code.co_varnames[: code.co_argcount]:
                value = frame.f_locals.get(name)
                if isinstance(value, DictConfig) and value._get_parent() is None and "scale" in value:
                    seen.add(Path(path).relative_to(ROOT).as_posix())

    sys.setprofile(watch)
    try:
        work()
    finally:
        sys.setprofile(None)
    return seen


def test_few_files_get_the_whole_configuration(tmp_path):
    cfg = compose("+experiment=one_shot", f"runs_dir={tmp_path}")

    def start():
        schema.check(cfg)
        start_checks.check(plan(cfg), here=True)

    assert files_that_get_the_configuration(start) <= {
        "rlvr/config/schema.py", "rlvr/data/prepare.py", "rlvr/data/protocols.py", "rlvr/planning/plan.py",
    }  # fmt: skip


def test_data_is_read_once(tmp_path, monkeypatch):
    file = tmp_path / "mine.yaml"
    file.write_text("question: What is 3+4?\nanswer: 7\n")
    cfg = compose("+experiment=one_shot", f"example.file={file}", f"runs_dir={tmp_path}/runs")
    opened = []
    sys.addaudithook(lambda event, args: opened.append(args[0]) if event == "open" else None)
    planned = plan(cfg)
    start_checks.check(planned, here=True)
    rows = planned.problems.training_rows
    assert opened.count(file) + opened.count(str(file)) == 1
    assert planned.problems.training_rows is rows


@pytest.mark.parametrize("here", [True, False])
def test_a_place_that_cannot_be_written_is_refused_by_the_check_too(here):
    planned = plan(compose("+experiment=one_shot", "runs_dir=/proc/x"), download=here)
    with pytest.raises(RunFolderError, match="/proc/x/.*: cannot write below /proc .*: give another runs_dir=<folder>"):
        start_checks.check(planned, here)


def test_a_folder_with_other_files_is_refused_by_the_check_too(tmp_path):
    planned = plan(compose("+experiment=one_shot", f"runs_dir={tmp_path}"))
    planned.folder.path.mkdir(parents=True)
    (planned.folder.path / "notes.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="holds notes.txt but no config.yaml"):
        start_checks.check(planned, here=False)


def test_a_check_leaves_nothing_behind(tmp_path):
    start_checks.check(plan(compose("+experiment=one_shot", f"runs_dir={tmp_path}/runs"), download=False), here=False)
    assert list(tmp_path.iterdir()) == []


def test_a_plan_without_downloads_says_what_it_could_not_check(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cfg = compose("+experiment=one_shot", "scale=paper", "hardware=eight_gpus", f"runs_dir={tmp_path}")
    planned = plan(cfg, download=False)
    (note, *_) = start_checks.check(planned, here=False)
    assert note == "not checked: train/dsr_sub.parquet is downloaded when the run starts"
    assert planned.needs is not None and planned.needs.gpu_hours > 1
    with pytest.raises(downloads.NotAtHand):
        planned.problems  # noqa: B018
