"""The header of every experiment: its question, its place in the paper, what it gave here and cost, as `results/` has it."""

import re
from functools import cache

import pytest

from analysis import headers
from analysis.results import RESULTS, read_csv
from rlvr.config.schema import CONF, experiments


@cache
def plain_runs():
    return headers.plain_runs(read_csv(RESULTS))


def text_of(experiment: str) -> str:
    return (CONF / "experiment" / f"{experiment}.yaml").read_text()


@pytest.mark.parametrize("experiment", experiments())
def test_the_header_says_what_results_say(experiment):
    text, runs = text_of(experiment), plain_runs().get(experiment, {})
    header = re.match(r"(#.*\n)*", text).group().splitlines()
    assert header[0] == "# @package _global_" and len(header) <= 6
    assert header[1].endswith("?") or header[1].startswith("# Control: "), "a question comes first"
    assert sum(line.startswith("# Paper: ") for line in header) == 1, "one line names the place in the paper"
    ours = [line for line in header if line.startswith("# Ours: ")]
    assert len(ours) == max(len(runs), 1), f"one line for each of the scales {sorted(runs)}"
    if runs:
        assert headers.rendered(text, runs) == text, "run: python -m analysis.report readme=true"
    else:
        assert re.fullmatch(r"# Ours: not run at any scale yet\. Cost: not measured; .+\.", ours[0])


def test_a_header_follows_its_runs():
    runs = plain_runs()["one_shot"]
    text = text_of("one_shot")
    unrun = re.sub(r"# Ours: .*", "# Ours: not run at any scale yet. Cost: not measured; no machine.", text)
    assert headers.rendered(unrun, runs) == text
    fewer = headers.rendered(text, {"tiny": runs["tiny"][:1]})
    assert "(1 seed, last step)" in fewer and fewer.count("# Ours: ") == 1
    both = headers.rendered(text, runs | {"small": runs["tiny"]})
    assert both.count("# Ours: ") == 2 and headers.rendered(both, runs) == text


def test_runs_with_overrides_or_a_variant_are_not_the_experiments_own():
    for runs in (runs for scales in plain_runs().values() for runs in scales.values()):
        assert all(run.id.split("/")[2] == run.settings["experiment_name"] for run in runs)
        assert len({int(score.steps[-1]) for run in runs for score in run.scores.values()}) == 1
