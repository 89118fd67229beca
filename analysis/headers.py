"""The header of an experiment file ends with what the experiment gave here and what it cost, as `results/` has it.

    # Ours: scale=tiny, tiny500 35.0 -> 71.8 (3 seeds, last step). Cost: 3 min a run on AMD EPYC.

`python -m analysis.report readme=true` writes these lines anew. An experiment without runs says why in words of its own.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from analysis.results import ROOT
from analysis.run_data import Run
from rlvr.data import scales

EXPERIMENTS = ROOT / "conf" / "experiment"


def plain_runs(runs: Iterable[Run]) -> dict[str, dict[str, list[Run]]]:
    """Finished runs without a variant or an override: experiment -> scale -> one run a seed."""
    found: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        if run.status == "finished" and run.settings["variant"] is None and not run.settings.get("overrides"):
            found.setdefault(run.settings["experiment_name"], {}).setdefault(run.scale, []).append(run)
    return found


def line(scale: str, runs: Sequence[Run]) -> str:
    """The `# Ours:` line of one experiment's runs at one scale, on its main benchmark."""
    benchmark = scales.shown(scale, [*runs[0].scores])
    scores = [run.scores[benchmark] for run in runs]
    base, last = (100 * np.mean([score.accuracy()[i] for score in scores]) for i in (0, -1))
    seeds = f"{len(runs)} seed{'s' if len(runs) > 1 else ''}"
    low, high = (round(60 * extreme(run.hours for run in runs)) for extreme in (min, max))
    minutes = f"{low}" if low == high else f"{low} to {high}"
    machines = " or ".join(sorted({re.sub(r"\((R|TM)\)| Processor", "", run.machine.split(" x ")[1]) for run in runs}))
    return (
        f"# Ours: scale={scale}, {benchmark} {base:.1f} -> {last:.1f} ({seeds}, last step). "
        f"Cost: {minutes} min a run on {machines}."
    )


def rendered(text: str, runs: Mapping[str, Sequence[Run]]) -> str:
    """The text of an experiment file with one `# Ours:` line for each scale in `runs`; a text without such a line is unchanged."""
    lines = text.splitlines(keepends=True)
    at = next((i for i, written in enumerate(lines) if written.startswith("# Ours: ")), None)
    if at is None:
        return text
    others = [written for written in lines if not written.startswith("# Ours: ")]
    return "".join([*others[:at], *(f"{line(scale, runs[scale])}\n" for scale in sorted(runs)), *others[at:]])


def write(runs: Iterable[Run]) -> None:
    """Bring the file of every experiment that was run in step with its runs."""
    for experiment, of_scale in plain_runs(runs).items():
        path = EXPERIMENTS / f"{experiment}.yaml"
        if path.exists():
            path.write_text(rendered(path.read_text(), of_scale))
