"""Numbers of the saturation analysis, worked out by hand."""

import re

import numpy as np
import pytest

from analysis import post_saturation
from analysis.post_saturation import gain_after, gain_span, saturation_step
from experiments.timings.synthetic_runs import sample_columns
from rlvr.cli import command
from rlvr.runs import samples
from rlvr.runs.folder import MetricsWriter, RunFolder
from rlvr.stats import Interval

STEPS = [1, 2, 3, 4, 5, 6, 7]
TRAIN = [0.5, 0.99, 0.9, 1.0, 0.995, 1.0, 0.98]


def test_the_first_touch_and_the_sustained_step_differ():
    assert saturation_step(STEPS, TRAIN) == 2
    assert saturation_step(STEPS, TRAIN, sustained=2) == 4
    assert saturation_step(STEPS, TRAIN, sustained=3) == 4
    assert saturation_step(STEPS, TRAIN, sustained=4) is None
    assert saturation_step(STEPS, TRAIN, threshold=1.0) == 4
    assert saturation_step([], []) is None


def test_the_gain_starts_at_the_first_evaluation_after_saturation():
    # 4 problems; evaluated at 0, 10, 20, 30. Saturated at 4: from step 10 (1 of 4 right) to 30 (3 of 4 right).
    scores = [[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]]
    gain = gain_after(4, [0, 10, 20, 30], scores, np.random.default_rng(0))
    assert (gain.from_step, gain.to_step, gain.change.value) == (10, 30, 0.5)
    # The mean of 4 draws from {0, 1, 1, 0}: all 0 or all 1 with 1/16 each, more than 2.5 %.
    assert (gain.change.low, gain.change.high) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("saturation", "span", "strict"),
    [(0, (0, 30), (0, 30)), (10, (10, 30), (10, 30)), (11, (20, 30), (20, 30)), (21, (20, 30), None), (30, None, None)],
)
def test_the_only_evaluation_after_saturation_is_counted_from_the_last_before(saturation, span, strict):
    assert gain_span(saturation, [0, 10, 20, 30]) == span
    assert gain_span(saturation, [0, 10, 20, 30], strict=True) == strict


def test_problems_that_all_change_alike_leave_no_doubt():
    gain = gain_after(0, [0, 10], [[0.25] * 8, [0.5] * 8], np.random.default_rng(0))
    assert gain.change == Interval(0.25, 0.25, 0.25)


@pytest.mark.parametrize("saturation", [30, 45])
def test_without_an_evaluation_on_both_sides_there_is_no_gain(saturation):
    assert gain_after(saturation, [0, 30], [[0.0], [1.0]], np.random.default_rng(0)) is None


def test_the_command_reads_a_run_folder_and_writes_its_figure(tmp_path, capsys):
    folder = RunFolder(tmp_path / "one_shot" / "seed0")
    folder.path.mkdir(parents=True)
    writer = MetricsWriter(folder.metrics_path)
    for step, accuracy in [(0, 0.25), (1, None), (2, 0.5), (3, None), (4, 0.75)]:
        line = {"step": step}
        if step:
            line["train/accuracy"] = 0.5 if step < 2 else 1.0
        if accuracy is not None:
            line["eval/tiny500/accuracy"] = accuracy
            columns = sample_columns(id=["a", "b", "c", "d"], score=[float(i < 4 * accuracy) for i in range(4)])
            samples.write(folder.eval_path("tiny500", step), columns)
        writer.write(line)
    assert command(post_saturation.Options, post_saturation.show, None, [f"run={folder.path}"]) == 0
    shown = capsys.readouterr().out
    assert "training accuracy of 99%: from step 2; 5 steps in a row: never" in shown
    assert re.search(r"tiny500: \+25\.0 \(.* to .*\) points from step 2 to 4", shown)
    assert folder.figure_path.read_bytes().startswith(b"\x89PNG")


def test_a_wrong_folder_is_one_line(tmp_path, capsys):
    assert command(post_saturation.Options, post_saturation.show, None, [f"run={tmp_path}"]) == 1
    assert "no metrics.jsonl" in capsys.readouterr().err
