"""The end of an evaluation: eval/summary.csv over all stored answers, the table on the screen, and the pass/fail gate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from rlvr.cli import ConfigError
from rlvr.evaluate import metrics
from rlvr.evaluate.answer_store import Store
from rlvr.runs.folder import RunFolder
from rlvr.runs.plain_files import read_json, write_atomically
from rlvr.stats import printed

NAN = float("nan")
ALWAYS_SHOWN = ("benchmark", "step", "n", "percent (95 %)")
# Column, and its metric, format and factor.
DETAILS = {
    "boxed": ("boxed", ".1f", 100), "cut off": ("truncated", ".1f", 100), "tokens": ("response_tokens", ".0f", 1),
    "repeats": ("repetition", ".2f", 1), "tokens/s": ("tokens_per_s", ",.0f", 1), "s/answer": ("seconds_per_answer", ".3g", 1),
}  # fmt: skip
COLUMNS = (*ALWAYS_SHOWN, *DETAILS)


def grid(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table without lines. The first column is left-aligned, the others right-aligned; no cell is wrapped."""
    shown = Table(box=None, pad_edge=False)
    for i, name in enumerate(columns):
        shown.add_column(name, justify="right" if i else "left", no_wrap=True)
    for cells in rows:
        shown.add_row(*cells)
    return shown


def fitting(columns: Sequence[str], rows: Sequence[Sequence[str]], screen: Console) -> Table:
    """The grid without those last columns that do not fit on the screen."""
    shown = grid(columns, rows)
    wide = screen.options.update(max_width=1000)
    while len(columns) > len(ALWAYS_SHOWN) and Measurement.get(screen, wide, shown).maximum > screen.width:
        columns, rows = columns[:-1], [cells[:-1] for cells in rows]
        shown = grid(columns, rows)
    return shown


def table(rows: list[dict], quoted: Mapping[str, str], screen: Console) -> Table:
    """One row per benchmark and step: accuracy with its interval, and as many other metrics as fit on the screen.

    quoted: the metric that the paper quotes, by benchmark.
    """
    metric_of: dict[tuple[str, int], dict[str, dict]] = {}
    for row in rows:
        if not row["subject"]:
            metric_of.setdefault((row["benchmark"], row["step"]), {})[row["metric"]] = row
    cells = []
    for (benchmark, step), found in metric_of.items():
        name = benchmark if quoted[benchmark] == "accuracy" else f"{benchmark}, {quoted[benchmark]}"
        details = [
            printed(factor * found[metric]["value"], spec) if metric in found else ""
            for metric, spec, factor in DETAILS.values()
        ]
        accuracy = found["accuracy"]
        cells.append([name, str(step), str(accuracy["problems"]), metrics.percent(accuracy), *details])
    return fitting(COLUMNS, cells, screen)


def write(folder: RunFolder, names: list[str], words: Sequence[str] = ()) -> list[dict]:
    """Write eval/summary.csv over all stored answers; returns its rows of these benchmarks."""
    import pandas as pd

    rows = [*metrics.summary(folder.eval_dir, words=words), *speeds(folder)]
    text = pd.DataFrame(rows).to_csv(index=False, float_format="%.8g", lineterminator="\n")
    write_atomically(folder.eval_dir / "summary.csv", text)
    return [row for row in rows if row["benchmark"] in names]


def speeds(folder: RunFolder) -> list[dict]:
    """Rows for tokens per second and seconds per answer, of the steps whose answers this program generated.

    Benchmarks share batches, so both are means over all benchmarks of a step. They have no interval.
    """
    rows = []
    for path in sorted(folder.eval_dir.glob("*/protocol.json")):
        benchmark = path.parent.name
        for step, how in read_json(path)["steps"].items():
            answers = how.get("answers_of_step")
            if not answers or not folder.eval_path(benchmark, int(step)).exists():
                continue
            speed = {"tokens_per_s": float(how["tokens_per_s"]), "seconds_per_answer": how["seconds_of_step"] / answers}
            row = {
                "benchmark": benchmark,
                "step": int(step),
                "subject": "",
                "low": NAN,
                "high": NAN,
                "problems": answers,
            }
            rows += [row | {"metric": metric, "value": value} for metric, value in speed.items()]
    return rows


def gate(stores: Sequence[Store], last: int, min_gain: float, confidence: float, screen: Console) -> int:
    """Print each benchmark's gain from the base model to step `last` with its paired interval.

    Returns the exit code: 0 if the low end of every interval reaches `min_gain`, else 2 (errors have 1).
    """
    if not last:
        raise ConfigError("gate.min_gain: nothing to compare with the base model; give a run with a checkpoint")
    passed = True
    for store in stores:
        for step in (0, last):
            if not store.complete(step):
                raise ConfigError(f"gate.min_gain: {store.protocol.name} is not evaluated at step {step}")
        before, after = (metrics.read_columns(store.path(step)) for step in (0, last))
        gain = metrics.paired_gain(before, after, confidence)
        enough = gain.low >= min_gain
        passed &= enough
        text = (
            f"gate: {store.protocol.name}, step 0 to {last}: {gain * 100:+.1f}, at least {100 * min_gain:+.1f} wanted "
        )
        text += f"with {100 * confidence:g} % confidence: {'passed' if enough else 'not passed'}"
        screen.print(text, soft_wrap=True, highlight=False)
    return 0 if passed else 2
