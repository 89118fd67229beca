"""Numbers in the text of a page, written from the runs by `python -m analysis.report readme=true`.

    <!--acc one_shot_pi13-->72.2, 71.4<!--/-->

Between the two comments stands the accuracy, in percent, of each seed of an experiment (its name in results/). Options after the
name: `on` (benchmark, tiny500), `step` (the last), `seed` (all), `show` (each, mean, range or ends), `scale` and `model` (tiny).
`ends` tells the seeds that end high from the others (analysis/two_ends.py): "14 of 24 seeds end at 62.0 to 71.8, the others at 18.2 to 41.0".
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from analysis.run_data import Run
from analysis.two_ends import Ends
from rlvr.cli import ConfigError, did_you_mean

PLACE = re.compile(r"(<!--acc (.*?)-->)(.*?)(<!--/-->)", re.DOTALL)
DEFAULTS = {"on": "tiny500", "step": "-1", "seed": "", "show": "each", "scale": "tiny", "model": "tiny"}


def fill(page: Path, runs: Sequence[Run]) -> None:
    """Write every number of the page. ConfigError for one that the runs do not have."""
    page.write_text(PLACE.sub(lambda place: place[1] + _number(page, place[2], runs) + place[4], page.read_text()))


def _number(page: Path, text: str, runs: Sequence[Run]) -> str:
    name, *options = re.split(r"\s+(?=\w+=)", text)
    given = dict(option.partition("=")[::2] for option in options)
    if unknown := set(given) - set(DEFAULTS):
        raise ConfigError(f"{page.name}: {text}: {did_you_mean(unknown.pop(), list(DEFAULTS))}")
    one = DEFAULTS | given
    like = [run for run in runs if (run.scale, run.base_model) == (one["scale"], one["model"])]
    if not (own := [run for run in like if run.name == name]):
        raise ConfigError(f"{page.name}: {text}: {did_you_mean(name, sorted({run.name for run in like}))}")
    values = []
    for run in own:
        scores = run.scores.get(one["on"])
        step = int(one["step"]) if one["step"] != "-1" or scores is None else int(scores.steps[-1])
        if one["seed"] not in ("", str(run.seed)):
            continue
        if scores is None or step not in scores.steps:
            raise ConfigError(f"{page.name}: {text}: {run.id} has no {one['on']} at step {step}")
        values.append(100 * float(scores.accuracy()[scores.steps.tolist().index(step)]))
    if not values:
        raise ConfigError(f"{page.name}: {text}: no seed {one['seed']} of {name}")
    shown: dict[str, Callable[[list[float]], str]] = {"each": _each, "mean": _mean, "range": _range}
    shown["ends"] = lambda values: _ends(values, Ends(like).line(own[0], [one["on"]]))
    if one["show"] not in shown:
        raise ConfigError(f"{page.name}: {text}: {did_you_mean(one['show'], list(shown))}")
    return shown[one["show"]](values)


def _each(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in values)


def _mean(values: Sequence[float]) -> str:
    return f"{np.mean(values):.1f}"


def _range(values: Sequence[float]) -> str:
    return " to ".join(f"{value:.1f}" for value in dict.fromkeys([min(values), max(values)]))


def _ends(values: Sequence[float], line: float) -> str:
    high, low = [v for v in values if v >= line], [v for v in values if v < line]
    if not high or not low:
        return f"all {len(values)} seeds end at {_range(values)}"
    verb, others = "ends" if len(high) == 1 else "end", "other" if len(low) == 1 else "others"
    return f"{len(high)} of {len(values)} seeds {verb} at {_range(high)}, the {others} at {_range(low)}"
