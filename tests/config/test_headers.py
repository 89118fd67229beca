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


# Worked out by hand from results/: seeds 0 to 2 of one_shot end at 56.8, 36.8 and 25.4, seeds 3 and 4 at 71.2 and 70.8.
LINES = {
    ("one_shot", 0, 1): "tiny500 35.0 -> 56.8 (1 seed, last step). Cost: 3 min a run on AMD EPYC.",
    ("one_shot", 0, 3): "tiny500 35.0 -> 39.7 (3 seeds, last step). Cost: 3 min a run on AMD EPYC.",
    ("one_shot", 3, 5): "tiny500 35.0 -> 71.0 (2 seeds, last step). Cost: 3 min a run on Intel Xeon.",
    ("full_set", 0, 5): "tiny500 35.0 -> 71.4 (5 seeds, last step). Cost: 3 to 9 min a run on AMD EPYC or Intel Xeon.",
}


@pytest.mark.parametrize("experiment, first, end", LINES)
def test_the_line_of_some_runs_is_the_one_worked_out_by_hand(experiment, first, end):
    runs = [run for run in plain_runs()[experiment]["tiny"] if first <= run.seed < end]
    expected = f"# Ours: scale=tiny, {LINES[experiment, first, end]}"
    text = (
        "# @package _global_\n# Does it?\n# Ours: of yesterday\n# Ours: of the day before\n# Paper: nowhere\nseed: 1\n"
    )
    written = headers.rendered(text, {"tiny": runs})
    assert written.splitlines()[2:] == [expected, "# Paper: nowhere", "seed: 1"]


def test_a_file_without_such_a_line_stays_as_it_is():
    assert headers.rendered("# Does it?\nseed: 1\n", plain_runs()["one_shot"]) == "# Does it?\nseed: 1\n"


def test_runs_with_overrides_or_a_variant_are_not_the_experiments_own():
    for runs in (runs for scales in plain_runs().values() for runs in scales.values()):
        assert all(run.id.split("/")[2] == run.settings["experiment_name"] for run in runs)
        assert len({int(score.steps[-1]) for run in runs for score in run.scores.values()}) == 1
