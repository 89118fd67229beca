"""The end of an evaluation: eval/summary.csv over all that is stored, and the table on the screen."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from rlvr.evaluate import metrics
from rlvr.runs.folder import RunFolder
from rlvr.runs.plain_files import read_json, write_atomically
from rlvr.stats import printed

NAN = float("nan")
COLUMNS = ("benchmark", "step", "n", "percent (95 %)", "boxed", "cut off", "tokens", "repeats", "tokens/s", "s/answer")
FEWEST = 4  # columns that say how good a model is


def grid(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table without lines: names on the left, numbers on the right, no cell wrapped."""
    shown = Table(box=None, pad_edge=False)
    for i, name in enumerate(columns):
        shown.add_column(name, justify="right" if i else "left", no_wrap=True)
    for cells in rows:
        shown.add_row(*cells)
    return shown


def fitting(columns: Sequence[str], rows: Sequence[Sequence[str]], screen: Console) -> Table:
    """The grid without the last columns for which the screen is too narrow."""
    shown = grid(columns, rows)
    wide = screen.options.update(max_width=1000)
    while len(columns) > FEWEST and Measurement.get(screen, wide, shown).maximum > screen.width:
        columns, rows = columns[:-1], [cells[:-1] for cells in rows]
        shown = grid(columns, rows)
    return shown


def table(rows: list[dict], quoted: Mapping[str, str], screen: Console) -> Table:
    """One row per benchmark and step: the metric quoted, with its interval, and what explains it, as far as it fits."""
    metric_of: dict[tuple[str, int], dict[str, dict]] = {}
    for row in rows:
        if not row["subject"]:
            metric_of.setdefault((row["benchmark"], row["step"]), {})[row["metric"]] = row

    def value(found: dict[str, dict], metric: str, spec: str, factor: int = 1) -> str:
        return printed(factor * found[metric]["value"], spec) if metric in found else ""

    cells = []
    for (benchmark, step), found in metric_of.items():
        name = benchmark if quoted[benchmark] == "accuracy" else f"{benchmark}, {quoted[benchmark]}"
        shares = [value(found, metric, ".1f", 100) for metric in ("boxed", "truncated")]
        means = [value(found, name, spec) for name, spec in (
            ("response_tokens", ".0f"), ("repetition", ".2f"), ("tokens_per_s", ",.0f"), ("seconds_per_answer", ".3g"))]  # fmt: skip
        accuracy = found["accuracy"]
        cells.append([name, str(step), str(accuracy["problems"]), metrics.percent(accuracy), *shares, *means])
    return fitting(COLUMNS, cells, screen)


def write(folder: RunFolder, names: list[str], words: Sequence[str] = ()) -> list[dict]:
    """eval/summary.csv over all that is stored, and its rows of these benchmarks."""
    rows = [*metrics.summary(folder.eval_dir, words=words), *speeds(folder)]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {k: f"{v:.8g}" if isinstance(v, float) and v == v else v if v == v else "" for k, v in row.items()}
        for row in rows
    )
    write_atomically(folder.eval_dir / "summary.csv", text.getvalue())
    return [row for row in rows if row["benchmark"] in names]


def speeds(folder: RunFolder) -> list[dict]:
    """Rows of tokens a second and seconds for each answer, of the steps whose answers this program generated.

    Benchmarks share batches, so both are of all that was asked of a step; a row has no interval.
    """
    rows = []
    for path in sorted(folder.eval_dir.glob("*/protocol.json")):
        for step, how in read_json(path)["steps"].items():
            if (
                not (answers := how.get("answers_of_step"))
                or not folder.eval_path(path.parent.name, int(step)).exists()
            ):
                continue
            of_it = {"tokens_per_s": how["tokens_per_s"], "seconds_per_answer": how["seconds_of_step"] / answers}
            place = {"benchmark": path.parent.name, "step": int(step), "subject": ""}
            rows += [place | {"metric": metric, "value": float(value), "low": NAN, "high": NAN, "problems": answers}
                     for metric, value in of_it.items()]  # fmt: skip
    return rows
