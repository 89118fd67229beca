"""What the user sees: a clean screen beside a full log, one line of progress, and a cause instead of a traceback."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from rlvr.runs.evaluations import Evaluations
from rlvr.runs.folder import RunFolder
from rlvr.runs.metrics_file import MetricsWriter
from rlvr.training import progress
from rlvr.training.console import report_failure, root_cause, summary_table
from rlvr.training.progress import Follower, duration, status_text

ROOT = Path(__file__).resolve().parents[2]
RAY_TEXT = (
    "\x1b[36mray::TaskRunner.run()\x1b[39m (pid=7, ip=10.0.0.1, actor_id=ab)\n"
    '  File "rlvr/training/task_runner.py", line 20, in run\n'
    "    trainer.fit()\n"
    "ray.exceptions.RayTaskError(ValueError): \x1b[36mray::Worker.update()\x1b[39m (pid=8)\n"
    '  File "worker.py", line 3, in update\n'
    "    raise ValueError('x')\n"
    "ValueError: micro batch 3 does not divide 8"
)


def of(steps):
    return {"steps": steps, "evaluate_every": 10, "save_every": 10}


LINES = [
    {"step": 0, "eval/tiny500/accuracy": 0.36, "time/eval_s": 3.0},
    {"step": 1, "train/reward": 0.5, "train/accuracy": 0.5, "time/step_s": 2.0},
    {"step": 2, "train/reward": 0.75, "train/accuracy": 0.75, "time/step_s": 4.0, "eval/tiny500/accuracy": 0.5},
]


def screen(width=200, terminal=False):
    return Console(file=io.StringIO(), width=width, force_terminal=terminal)


def test_the_log_takes_what_anyone_prints_and_the_screen_only_ours(tmp_path):
    code = f"""
import os, subprocess, sys
from rlvr.training.console import capture_output
with capture_output({str(tmp_path / "run.log")!r}) as console:
    print("from python")
    os.write(2, b"from c\\n")
    subprocess.run(["echo", "from a child"])
    console.print("for the user")
print("after")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["for the user", "after", ""] and done.stderr == ""
    log = (tmp_path / "run.log").read_text()
    assert all(text in log for text in ("from python", "from c", "from a child")) and "for the user" not in log


def test_the_log_of_an_earlier_attempt_is_kept(tmp_path):
    (tmp_path / "run.log").write_text("first attempt\n")
    code = f"from rlvr.training.console import capture_output\nwith capture_output({str(tmp_path / 'run.log')!r}): print('second')"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    assert (tmp_path / "run.log").read_text() == "first attempt\nsecond\n"


def test_the_progress_line_says_reward_accuracies_speed_and_time_left():
    # Median of 2 and 4 s is 3 s a step, for 20 steps; and evaluations of 3 s after steps 10, 20 and the last.
    expected = "reward 0.75  train 75%  tiny500 50.0%  3.0 s/step  1m09s left"
    assert status_text(LINES, of(22), "tiny500") == expected


def test_a_follower_without_a_terminal_prints_phases_and_every_tenth_step(tmp_path):
    folder = RunFolder(tmp_path)
    console = screen()
    follower = Follower(console, folder, of(11), benchmark="tiny500", poll_s=60)
    folder.phase_path.write_text("starting Ray")
    follower._show()
    writer = MetricsWriter(folder.metrics_path)
    for step in range(12):
        writer.write({"step": step, "train/reward": 0.5, "train/accuracy": 0.5})
        follower._show()
        follower._show()
    lines = console.file.getvalue().splitlines()
    assert lines[0] == "starting Ray"
    assert [line.split("  ")[0] for line in lines[1:]] == ["step 0/11", "step 10/11", "step 11/11"]


def test_a_follower_without_a_terminal_prints_slow_steps_one_by_one(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "PLAIN_S", 0.0)
    folder = RunFolder(tmp_path)
    console = screen()
    follower = Follower(console, folder, of(11), benchmark="tiny500", poll_s=60)
    writer = MetricsWriter(folder.metrics_path)
    for step in range(3):
        writer.write({"step": step, "train/reward": 0.5, "train/accuracy": 0.5})
        follower._show()
    lines = console.file.getvalue().splitlines()
    assert [line.split("  ")[0] for line in lines] == ["step 0/11", "step 1/11", "step 2/11"]


def test_a_follower_draws_on_a_terminal_until_the_block_ends(tmp_path):
    folder = RunFolder(tmp_path)
    console = screen(terminal=True)
    writer = MetricsWriter(folder.metrics_path)
    with Follower(console, folder, of(2), benchmark="tiny500", poll_s=0.01):
        for line in LINES:
            writer.write(line)
    assert "2/2" in console.file.getvalue() and "tiny500 50.0%" in console.file.getvalue()


def test_the_progress_line_fits_80_columns(tmp_path):
    folder = RunFolder(tmp_path)
    console = screen(width=80, terminal=True)
    last = {"train/reward": 0.75, "train/accuracy": 1.0, "time/step_s": 115.2, "eval/math500/accuracy": 0.736}
    with Follower(console, folder, of(2000), benchmark="math500", poll_s=60):
        MetricsWriter(folder.metrics_path).write({"step": 1000, **last})
    assert "115.2 s/step  32h00m left" in console.file.getvalue()


def test_a_follower_ignores_a_torn_line_and_starts_again_after_a_resume(tmp_path):
    folder = RunFolder(tmp_path)
    follower = Follower(screen(), folder, of(2), benchmark="tiny500", poll_s=60)
    writer = MetricsWriter(folder.metrics_path)
    for line in LINES:
        writer.write(line)
    with open(folder.metrics_path, "a") as file:
        file.write('{"step": 3')
    follower._show()
    assert [line["step"] for line in follower.lines] == [0, 1, 2]
    MetricsWriter(folder.metrics_path, resume_at=0)
    follower._show()
    assert [line["step"] for line in follower.lines] == [0]


def test_the_table_compares_base_and_last_step_with_intervals():
    shares = np.array([[i < right for i in range(10)] for right in (3, 5, 8)], float)
    console = screen()
    console.print(summary_table({"tiny500": Evaluations([0, 2, 4], shares, 1)}, saturation=2, steps=4, wall_s=250))
    shown = console.file.getvalue()
    # Wilson for 8 of 10: 49.0 to 94.3; 80 - 30 = 50 points, of them 30 after step 2.
    assert "80.0 (49.0–94.3)" in shown and "+50.0" in shown and "+30.0" in shown
    assert "4 steps in 4m10s; training accuracy saturated at step 2" in shown


def test_a_benchmark_that_was_not_run_is_an_empty_row():
    console = screen()
    console.print(summary_table({"a": None}, saturation=None, steps=4, wall_s=1))
    assert "not saturated" in console.file.getvalue()


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (RuntimeError(RAY_TEXT), "ValueError: micro batch 3 does not divide 8"),
        (ValueError("seed=-1: expected 0 or more"), "ValueError: seed=-1: expected 0 or more"),
        (KeyError(), "KeyError"),
        (RuntimeError("first line\nmore words"), "RuntimeError: first line"),
    ],
)
def test_the_cause_is_the_innermost_error_in_one_line(error, cause):
    assert root_cause(error) == cause


def test_the_cause_that_ray_keeps_is_preferred_to_its_text():
    carried = RuntimeError("ray::TaskRunner.run() (pid=7)")
    carried.cause = StopIteration("no more rows")
    assert root_cause(carried) == "StopIteration: no more rows"


def test_a_failure_names_the_log(capsys):
    console = screen()
    report_failure(console, RuntimeError(RAY_TEXT), "runs/x/run.log")
    assert console.file.getvalue().splitlines() == [
        "ValueError: micro batch 3 does not divide 8",
        "full log: runs/x/run.log",
    ]
    assert "ray::TaskRunner.run()" in capsys.readouterr().err  # which is the log
    report_failure(console, KeyboardInterrupt(), "run.log")


def test_durations_are_short():
    assert [duration(s) for s in (9.4, 61, 7260)] == ["9s", "1m01s", "2h01m"]
