"""What a gain is made of, with numbers worked out by hand: four problems, one answer each."""

import numpy as np
import pandas as pd
import pytest

from analysis import gain
from rlvr.cli import ConfigError, command
from rlvr.evaluate.contamination import halves
from rlvr.runs import samples
from rlvr.runs.folder import RunFolder

# id -> (response, score, boxed, truncated, tokens) of the base and of the trained model
BASE = {
    "a": (r"so \boxed{1}", 1, True, False, 10),
    "b": (r"so \boxed{2}", 0, True, False, 10),
    "c": ("1 + 1 + 1", 0, False, True, 96),
    "d": ("```python\nprint(3)\n```", 0, False, False, 20),
}
TRAINED = {
    "a": (r"no \boxed{5}", 0, True, False, 12),
    "b": (r"so \boxed{1}", 1, True, False, 40),
    "c": (r"so \boxed{3}", 1, True, False, 90),
    "d": (r"so \boxed{4}", 0, True, False, 12),
}


def write(folder, step, rows, benchmark="test"):
    columns = {name: [""] * len(rows) for name in samples.SCHEMA}
    columns |= {"id": list(rows), "uid": list(rows), "benchmark": [benchmark] * len(rows)}
    for name in ("step", "sample", "rank"):
        columns[name] = [0] * len(rows)
    columns["reward"] = columns["repetition"] = [0.0] * len(rows)
    columns["reflection"] = [False] * len(rows)
    columns["loglikelihoods"] = columns["score_acc"] = [None] * len(rows)
    named = ("response", "score", "boxed", "truncated", "response_tokens")
    columns |= dict(zip(named, map(list, zip(*rows.values(), strict=True)), strict=True))
    columns["score"] = [float(score) for score in columns["score"]]
    samples.write(folder.eval_path(benchmark, step), columns)


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path)
    write(folder, 0, BASE)
    write(folder, 20, TRAINED)
    return folder


def test_the_parts_add_up_to_the_gain(run):
    base, trained = (gain.answers(run.eval_path("test", step)) for step in (0, 20))
    assert base.kind.ravel().tolist() == ["right", "boxed and wrong", "cut off", "code"]
    parts = gain.by_kind(base, trained)
    assert {kind: (share, points.value) for kind, (share, points) in parts.items()} == {
        "right": (0.25, -25), "cut off": (0.25, 25), "code": (0.25, 0), "no box": (0, 0), "boxed and wrong": (0.25, 25),
    }  # fmt: skip
    assert sum(points.value for _, points in parts.values()) == 25


def test_an_answer_counts_only_within_the_budget(run):
    base, trained = (gain.answers(run.eval_path("test", step)) for step in (0, 20))
    found = gain.by_budget(base, trained, 96)
    values = {tokens: (first.value, last.value, change.value) for tokens, (first, last, change) in found.items()}
    assert values == {3: (0, 0, 0), 6: (0, 0, 0), 12: (25, 0, -25), 24: (25, 0, -25), 48: (25, 25, 0), 96: (25, 50, 25)}


def test_the_command_prints_every_part_and_what_is_missing(run, capsys):
    assert command(gain.Options, gain.report, "", [f"run={run.path}"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "test, 4 problems: base 25.0 (" in printed and "gain +25.0 (" in printed
    assert (
        "contamination=true" in printed
        and "baselines=true" in printed
        and "steps=0,20 benchmarks.pass8.dataset=test benchmarks.pass8.k=8" in printed
    )
    assert command(gain.Options, gain.report, "", [f"run={run.path}", "benchmark=other"]) == 1
    assert "benchmark=other: not evaluated in" in capsys.readouterr().err
    assert command(gain.Options, gain.report, "", [f"run={run.path}", "step=40"]) == 1
    assert "needs answers of steps 0 and 40 to test, there are 0, 20" in capsys.readouterr().err


def test_the_numbers_are_kept_once_as_csv(run, tmp_path, capsys):
    out = tmp_path / "gain.csv"
    for _ in range(2):
        assert command(gain.Options, gain.report, "", [f"run={run.path}", f"out={out}"]) == 0
    table = pd.read_csv(out, dtype={"row": str})
    assert table["part"].value_counts().to_dict() == {"tokens at most": 6, "what the base did": 5, "answers, %": 3}
    of_base = table[table["part"] == "what the base did"]
    assert of_base["gain"].sum() == 25 and of_base["base"].sum() == 100
    (last,) = table[table["row"] == "96"].itertuples()
    assert (last.benchmark, last.step, last.base, last.trained, last.gain) == ("test", 20, 25, 50, 25)
    shown = capsys.readouterr().out
    assert "boxed and wrong" in shown and "points of the gain" in shown


def test_other_problems_are_refused(run):
    write(run, 20, {"a": TRAINED["a"]})
    with pytest.raises(ConfigError, match="steps 0 and 20 answer different problems"):
        gain.report(gain.Options(run=run.path))


def test_several_answers_to_a_problem(tmp_path):
    folder = RunFolder(tmp_path)
    for step, right in ((0, (1, 0)), (20, (1, 1))):
        rows = {f"{i}": (r"\boxed{1}", score, True, False, 5) for i, score in enumerate(right)}
        write(folder, step, rows)
    base, trained = (gain.answers(folder.eval_path("test", step)) for step in (0, 20))
    assert np.allclose([points.value for _, points in gain.by_kind(base, trained).values()], [0, 0, 0, 0, 50])


def test_a_question_is_cut_at_60_percent_of_its_words():
    assert halves("one two three  four five six seven eight nine ten") == (
        "one two three  four five six", "seven eight nine ten",
    )  # fmt: skip
    assert halves("a b a b a b a b a b") == ("a b a b a b", "a b a b")
    assert halves("too short a question") is None
