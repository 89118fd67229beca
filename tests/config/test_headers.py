"""The header of every experiment: its question, its place in the paper, what it gave here and cost, as `results/` has it.

pytest tests/config/test_headers.py
"""

import re
from functools import cache

import numpy as np
import pytest

from analysis.results import RESULTS, Run, read_csv
from rlvr.config.schema import CONF, experiments

RUN = re.compile(
    r"# Ours: scale=(?P<scale>\w+), (?P<benchmark>\w+) (?P<base>\d+\.\d) -> (?P<last>\d+\.\d) "
    r"\((?P<seeds>1 seed|\d+ seeds), last step\)\. Cost: (?P<minutes>\d+( to \d+)?) min a run on (?P<machine>.+)\."
)
NOT_RUN = re.compile(r"# Ours: not run at any scale yet\. Cost: (?P<cost>.+)\.")
AS_ANOTHER = re.compile(r"about (?P<minutes>\d+( to \d+)?) min a run at scale=(?P<scale>\w+), as (?P<experiment>\w+)")


@cache
def plain_runs() -> dict[str, dict[str, list[Run]]]:
    """Finished runs without a variant or an override: experiment -> scale -> one run a seed."""
    found: dict[str, dict[str, list[Run]]] = {}
    for run in read_csv(RESULTS):
        if run.status == "finished" and run.settings["variant"] is None and not run.settings.get("overrides"):
            found.setdefault(run.settings["experiment_name"], {}).setdefault(run.scale, []).append(run)
    return found


def measured(runs: list[Run], benchmark: str) -> dict[str, str]:
    """The numbers of an `Ours:` line, as it prints them."""
    scores = [run.scores[benchmark] for run in runs]
    assert {int(score.steps[0]) for score in scores} == {0}, f"{benchmark}: a run without its base model's accuracy"
    assert len({int(score.steps[-1]) for score in scores}) == 1, f"{benchmark}: runs that end at different steps"
    base, last = (100 * np.mean([score.accuracy()[i] for score in scores]) for i in (0, -1))
    seeds = f"{len(runs)} seed{'s' if len(runs) > 1 else ''}"
    return {"base": f"{base:.1f}", "last": f"{last:.1f}", "seeds": seeds, "minutes": minutes(runs)}


def minutes(runs: list[Run]) -> str:
    low, high = (round(60 * extreme(run.hours for run in runs)) for extreme in (min, max))
    return f"{low}" if low == high else f"{low} to {high}"


def check_header(experiment: str, text: str) -> None:
    header = re.match(r"(#.*\n)*", text).group().splitlines()
    assert header[0] == "# @package _global_" and len(header) <= 6
    assert header[1].endswith("?") or header[1].startswith("# Control: "), "a question comes first"
    assert sum(line.startswith("# Paper: ") for line in header) == 1, "one line names the place in the paper"
    runs = plain_runs().get(experiment, {})
    ours = [line for line in header if line.startswith("# Ours: ")]
    assert len(ours) == max(len(runs), 1), f"one line for each of the scales {sorted(runs)}"
    for line in ours:
        if not_run := NOT_RUN.fullmatch(line):
            assert not runs, f"results/ has runs at {sorted(runs)}"
            check_estimate(not_run["cost"])
        else:
            said = RUN.fullmatch(line)
            assert said, line
            numbers = measured(runs[said["scale"]], said["benchmark"])
            assert {key: said[key] for key in numbers} == numbers
            assert all(run.machine.split(" x ")[1] in said["machine"] for run in runs[said["scale"]])
    assert len(set(ours)) == len(ours)


def check_estimate(cost: str) -> None:
    """What a run would cost: that of another experiment, or why it is not known."""
    if other := AS_ANOTHER.fullmatch(cost):
        assert other["minutes"] == minutes(plain_runs()[other["experiment"]][other["scale"]])
    else:
        assert cost.startswith("not measured; "), cost


def text_of(experiment: str) -> str:
    return (CONF / "experiment" / f"{experiment}.yaml").read_text()


@pytest.mark.parametrize("experiment", experiments())
def test_the_header_says_what_results_say(experiment: str) -> None:
    check_header(experiment, text_of(experiment))


@pytest.mark.parametrize("group", ["base", "last", "seeds", "minutes"])
@pytest.mark.parametrize("experiment", [name for name in experiments() if name in plain_runs()])
def test_a_changed_number_is_found(experiment: str, group: str) -> None:
    text = text_of(experiment)
    at = RUN.search(text).start(group)
    changed = f"{text[:at]}{(int(text[at]) + 1) % 10}{text[at + 1 :]}"
    with pytest.raises(AssertionError):
        check_header(experiment, changed)


@pytest.mark.parametrize("experiment", [*plain_runs()][:1])
def test_an_experiment_with_results_is_not_called_not_run(experiment: str) -> None:
    text = RUN.sub("# Ours: not run at any scale yet. Cost: not measured; not run.", text_of(experiment))
    with pytest.raises(AssertionError, match="results/ has runs"):
        check_header(experiment, text)


@pytest.mark.parametrize("experiment", [*plain_runs()][:1])
def test_another_experiments_cost_is_its_own(experiment: str) -> None:
    scale, runs = next(iter(plain_runs()[experiment].items()))
    check_estimate(f"about {minutes(runs)} min a run at scale={scale}, as {experiment}")
    with pytest.raises(AssertionError):
        check_estimate(f"about 1{minutes(runs)} min a run at scale={scale}, as {experiment}")
