"""The end of an evaluation: eval/summary.csv over all that is stored, and the table on the screen."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence

import numpy as np
from rich.table import Table

from rlvr.evaluation import metrics
from rlvr.runs.folder import RunFolder
from rlvr.stats import printed

COLUMNS = ("benchmark", "step", "n", "percent (95 %)", "authors", "boxed", "cut off", "tokens", "repeats")


def table(rows: list[dict], quoted: Mapping[str, str]) -> Table:
    """One row per benchmark and step: the metric quoted, with its interval, and what explains it."""
    shown = Table(box=None, pad_edge=False)
    for name in COLUMNS:
        shown.add_column(name, justify="left" if name == "benchmark" else "right", no_wrap=True)
    cells: dict[tuple[str, int], dict[str, dict]] = {}
    for row in rows:
        if not row["subject"]:
            cells.setdefault((row["benchmark"], row["step"]), {})[row["metric"]] = row
    for (benchmark, step), values in cells.items():
        shares = (values[m]["value"] if m in values else np.nan for m in ("accuracy_authors", "boxed", "truncated"))
        share = [printed(100 * value, ".1f") for value in shares]
        shown.add_row(
            benchmark + (f", {quoted[benchmark]}" if quoted[benchmark] != "accuracy" else ""), str(step), str(values["accuracy"]["problems"]),
            metrics.percent(values["accuracy"]), *share,
            f"{values['response_tokens']['value']:.0f}", f"{values['repetition']['value']:.2f}" if "repetition" in values else "",
        )  # fmt: skip
    return shown


def write(folder: RunFolder, names: list[str], words: Sequence[str] = ()) -> list[dict]:
    """eval/summary.csv over all that is stored, and its rows of these benchmarks."""
    rows = list(metrics.summary(folder.eval_dir, words=words))
    unfinished = folder.eval_dir / ".summary.csv"
    with open(unfinished, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.8g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    unfinished.rename(folder.eval_dir / "summary.csv")
    return [row for row in rows if row["benchmark"] in names]
