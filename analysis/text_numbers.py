"""Numbers in the text of a page, written from the runs by `python -m analysis.report readme=true`.

    <!--acc one_shot_pi13-->72.2, 71.4<!--/-->

Between the two comments stands the accuracy, in percent, of each seed of an experiment (its name in results/). Options after the
name: `on` (benchmark, tiny500), `step` (the last), `seed` (all), `show` (each, mean or range), `scale` and `model` (tiny).
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from analysis.run_data import Run
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
    shown = {"mean": [float(np.mean(values))], "range": [min(values), max(values)], "each": values}
    if one["show"] not in shown:
        raise ConfigError(f"{page.name}: {text}: {did_you_mean(one['show'], list(shown))}")
    between = " to " if one["show"] == "range" else ", "
    return between.join(f"{value:.1f}" for value in shown[one["show"]])
