"""Numbers of the saturation analysis, worked out by hand, and those of the committed runs."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import yaml

from analysis import post_saturation
from analysis.results import RESULTS, read_csv
from analysis.run_data import Run
from analysis.seed_estimates import gain_after_saturation, gain_span
from experiments.timings.synthetic_runs import sample_columns
from rlvr.cli import command
from rlvr.runs import samples
from rlvr.runs.evaluations import Evaluations
from rlvr.runs.folder import RunFolder
from rlvr.runs.metrics_file import MetricsWriter
from rlvr.stats import Interval


def run_of(train, scores=None, rollouts=1024):
    """A run with its training accuracy at steps 1, 2, ..., and one test: step -> right answers to its problems."""
    prompts = rollouts // 8
    settings = {"scale.prompts_per_step": prompts, "scale.samples_per_prompt": 8}
    metrics = pd.DataFrame({"train/accuracy": train}, index=range(1, len(train) + 1))
    of = {}
    if scores:
        correct = np.array(list(scores.values()))
        of["test"] = Evaluations(
            np.array(list(scores)), correct, 1, [str(i) for i in range(correct.shape[1])], np.array([])
        )
    return Run("paper", "base", "one_shot", 0, settings, "finished", 0, "", "", "", metrics, of)


def test_saturation_is_over_1024_rollouts():
    touches = [0.5, 1.0, 0.9, 1.0, 0.99, 1.0, 0.98]
    assert run_of(touches).saturation == 2  # 1,024 rollouts are one step
    # Two steps of 512: means 0.75, 0.95, 0.95, 0.995, ...
    assert run_of(touches, rollouts=512).saturation == 5
    # 600 a step take two steps as well; 256 take four: 0.85, 0.9725, 0.9725, 0.9925.
    assert run_of(touches, rollouts=600).saturation == 5
    assert run_of(touches, rollouts=256).saturation == 7
    assert run_of([1.0] * 15, rollouts=64).saturation is None  # not yet 1,024
    assert run_of([1.0] * 16, rollouts=64).saturation == 16
    assert run_of([0.99] * 20, rollouts=64).saturation == 16
    assert run_of([]).saturation is None


def test_saturation_of_the_committed_runs():
    saturated = {run.id: run.saturation for run in read_csv(RESULTS)}
    for name, steps in (("one_shot-scale.steps=240", [29, 26, 24, 27, 28]), ("entropy_only", [None] * 5)):
        assert [saturated[f"tiny/tiny/{name}/seed{seed}"] for seed in range(5)] == steps


def test_the_gain_starts_at_the_first_evaluation_after_saturation():
    # 4 problems; evaluated at 0, 10, 20, 30. Saturated at 4: from step 10 (1 of 4 right) to 30 (3 of 4 right).
    scores = {0: [0, 0, 0, 0], 10: [1, 0, 0, 0], 20: [1, 1, 0, 0], 30: [1, 1, 1, 0]}
    gain = gain_after_saturation([run_of([0.5, 0.5, 0.5, 1.0], scores)], ["test"])
    assert gain.spans == [(10, 30)] and gain.points.value == 50
    # Changes 0, 1, 1, 0: standard error 0.577 / 2, t(3) = 3.182.
    assert gain.points.high - 50 == pytest.approx(3.182 * 57.74 / 2, rel=1e-3)


@pytest.mark.parametrize(
    ("saturation", "span", "strict"),
    [(0, (0, 30), (0, 30)), (10, (10, 30), (10, 30)), (11, (20, 30), (20, 30)), (21, (20, 30), None), (30, None, None)],
)
def test_the_only_evaluation_after_saturation_is_counted_from_the_last_before(saturation, span, strict):
    assert gain_span(saturation, [0, 10, 20, 30]) == span
    assert gain_span(saturation, [0, 10, 20, 30], strict=True) == strict


def test_problems_that_all_change_alike_leave_no_doubt():
    gain = gain_after_saturation([run_of([1.0], {0: [0] * 8, 10: [0] * 8, 20: [1] * 8})], ["test"])
    assert gain.points == Interval(100, 100, 100)


@pytest.mark.parametrize("saturation", [30, 45])
def test_without_an_evaluation_on_both_sides_there_is_no_gain(saturation):
    run = run_of([0.5] * (saturation - 1) + [1.0], {0: [0], 30: [1]})
    assert run.saturation == saturation and gain_after_saturation([run], ["test"]) is None


def test_the_command_reads_a_run_folder_and_writes_its_figure(tmp_path, capsys):
    folder = RunFolder(tmp_path / "one_shot" / "seed0")
    folder.path.mkdir(parents=True)
    scale = {"name": "tiny", "prompts_per_step": 64, "samples_per_prompt": 8}
    config = {"experiment_name": "one_shot", "overrides": [], "seed": 0, "base_model": {"name": "tiny"}, "scale": scale}
    folder.config_path.write_text(yaml.safe_dump(config))
    folder.provenance_path.write_text(json.dumps({"status": "finished"}))
    writer = MetricsWriter(folder.metrics_path)
    for step, accuracy in [(0, 0.25), (1, None), (2, 0.5), (3, None), (4, 0.75)]:
        line = {"step": step}
        if step:
            line["train/accuracy"] = 0.99 if step < 2 else 1.0
        if accuracy is not None:
            line["eval/tiny500/accuracy"] = accuracy
            columns = sample_columns(id=["a", "b", "c", "d"], score=[float(i < 4 * accuracy) for i in range(4)])
            samples.write(folder.eval_path("tiny500", step), columns)
        writer.write(line)
    assert command(post_saturation.Options, post_saturation.show, None, [f"run={folder.path}"]) == 0
    shown = capsys.readouterr().out
    assert "training accuracy of 99% over 1,024 rollouts: from step 2" in shown
    assert re.search(r"tiny500: \+25\.0 \(.* to .*\) points from step 2 to 4", shown)
    assert folder.figure_path.read_bytes().startswith(b"\x89PNG")


def test_a_run_without_saturation_is_one_line(tmp_path):
    run = run_of([0.5] * 20, {0: [0], 20: [1]})
    run.metrics["eval/test/accuracy"] = 0.5
    run.folder = RunFolder(tmp_path)
    assert post_saturation.report(run) == [
        "training accuracy of 99% over 1,024 rollouts: never, so there is no gain after saturation"
    ]


def test_a_wrong_folder_is_one_line(tmp_path, capsys):
    assert command(post_saturation.Options, post_saturation.show, None, [f"run={tmp_path}"]) == 1
    assert "(no metrics.jsonl)" in capsys.readouterr().err
