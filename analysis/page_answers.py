"""The answers behind a report's numbers, as scripts that its pages load on demand, and the links to them.

data/<run>/<benchmark>-<step>-<part>.js    the answers of one evaluation
data/<run>/run.js                          a run's settings, its evaluations, and how its training answers changed
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.run_data import Run, spread
from analysis.seed_estimates import Pick
from rlvr.runs import samples
from rlvr.runs.folder import step_files
from rlvr.stats import printed

PART = 500
EVOLUTION_STEPS = 40
MOST_ANSWERS = 64
LOOPING = 0.45  # share of an answer's four-word sequences that occurred before in it: a text written twice has 0.47; 999 in 1,000 of 2,322
# reference solutions of the benchmarks have less than 0.44
KINDS = ("right", "cut off", "repeating", "without a box", "wrong")
ROW = ["id", "subject", "sample", "prompt", "response", "gold", "score", "reason", "truncated", "response_tokens"]


def in_link(name: str) -> str:
    """A run or a benchmark (of a baseline) as part of a file's name."""
    return name.replace("/", ".")


def flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with nested ones by dotted key."""
    leaves: dict[str, Any] = {}
    for key, value in settings.items():
        leaves |= {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
    return leaves


def script(path: Path, root: Path, data: Any) -> None:
    """A data file: a script that passes its data to the page that loads it."""
    name = path.relative_to(root).as_posix()
    body = json.dumps(data, ensure_ascii=False, separators=(",", ":"), default=float)
    path.write_text(f"arrived({json.dumps(name)},{body})\n")


def store_responses(pick: Pick, root: Path) -> str:
    """The answers of one evaluation, in parts; returns how the files are called before the part's number."""
    columns = samples.read(pick.run.samples_path(pick.benchmark, pick.step), ROW)
    rows = pd.DataFrame(columns)[ROW].values.tolist()
    parts = max(1, -(-len(rows) // PART))
    stem = f"{in_link(pick.benchmark)}-{pick.step}"
    for i in range(parts):
        path = root / "data" / in_link(pick.run.id) / f"{stem}-{i}.js"
        script(path, root, {"parts": parts, "rows": rows[i * PART : (i + 1) * PART]})
    return stem


def evolution(run: Run) -> list[dict[str, Any]]:
    """Some training steps: the share of their answers of each kind (KINDS), and the first answers, equal ones counted once."""
    files = step_files(run.folder.rollouts_dir) if run.folder is not None else {}
    names = ("prompt", "response", "gold", "score", "reason", "response_tokens", "boxed", "truncated", "repetition")
    lines = []
    for step in spread(list(files), EVOLUTION_STEPS):
        columns = samples.read(files[step], names)
        # Of several that apply, the first.
        tests = [columns["score"] >= 1, columns["truncated"], columns["repetition"] >= LOOPING, ~columns["boxed"]]
        kinds = np.select(tests, range(len(tests)), len(tests))
        shown = pd.DataFrame(
            {name: columns[name][:MOST_ANSWERS] for name in names[:6]} | {"kind": kinds[:MOST_ANSWERS]}
        )
        groups = shown.groupby(["prompt", "response"], sort=False)
        answers = groups.agg(dict.fromkeys(["gold", "score", "reason", "response_tokens", "kind"], "first"))
        answers = answers.assign(count=groups.size()).reset_index().rename(columns={"response_tokens": "tokens"})
        answers = answers.sort_values("count", ascending=False, kind="stable")
        mix = np.bincount(kinds, minlength=len(KINDS)) / len(kinds)
        lines.append({"step": step, "mix": mix.round(4).tolist(), "answers": answers.to_dict("records")})
    return lines


def untrained(runs: Sequence[Run]) -> dict[tuple[str, str, str], Pick]:
    """By scale, base model and benchmark the answers at step 0 of the first run that has them: those of all its kin."""
    found: dict[tuple[str, str, str], Pick] = {}
    for pick in (Pick(run, name, 0) for run in runs for name in run.scores):
        if stored_path(pick) is not None:
            found.setdefault((pick.run.scale, pick.run.base_model, pick.benchmark), pick)
    return found


def store_run(run: Run, stored: Sequence[str], bases: dict[str, str], root: Path) -> None:
    """bases: by benchmark, as in a link, the run with the untrained model's answers."""
    evaluations = []
    for name, scores in run.scores.items():
        accuracy = [float(printed(100 * a, ".1f")) for a in scores.accuracy()]
        evaluations.append({"benchmark": name, "steps": scores.steps.tolist(), "accuracy": accuracy})
    about = {"id": run.id, "settings": {key: str(value) for key, value in flat(run.settings).items()}} | run.about()
    about |= {
        "bases": bases,
        "stored": list(stored),
        "evaluations": evaluations,
        "evolution": evolution(run),
        "kinds": KINDS,
    }
    script(root / "data" / in_link(run.id) / "run.js", root, about)


def link_to(picks: Iterable[Pick], subject: str | None = None) -> str:
    """The answers behind a number: all its seeds, and one subject if the number is of one. Empty if they are not on disk."""
    stored = [f"{in_link(p.run.id)},{in_link(p.benchmark)},{p.step}" for p in picks if stored_path(p) is not None]
    return ";".join(stored) + (f";subject={subject}" if stored and subject else "")


def stored_path(pick: Pick) -> Path | None:
    if pick.run.folder is None:
        return None
    path = pick.run.samples_path(pick.benchmark, pick.step)
    return path if path.exists() else None
