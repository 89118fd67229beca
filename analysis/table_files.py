"""Tables as files: CSV with everything a cell says, Markdown and LaTeX with what a reader wants; not run is empty."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analysis.manifests import benchmarks_at
from analysis.tables import Table
from rlvr.stats import printed

HEADER = ("", "", "ours", "95 %", "seeds", "paper", "difference", "verdict")


def lines_of(table: Table) -> list[tuple[str, ...]]:
    """The lines of a table as they are printed; what was not run is empty."""
    lines: list[tuple[str, ...]] = []
    for cells in table.cells:
        for i, cell in enumerate(cells):
            ours = (printed(cell.ours, ".1f"), cell.interval.range(".1f"), str(cell.seeds) if cell.is_run else "")
            lines.append(
                (cell.row if i == 0 else "", cell.column, *ours, printed(cell.paper, ".1f"),
                 printed(cell.difference, "+.1f"), cell.verdict if cell.is_run else "")
            )  # fmt: skip
    return lines


def described(table: Table) -> str:
    """One sentence under a table: what ours is, and what difference and verdict mean."""
    models = sorted({cell.model for cells in table.cells for cell in cells if cell.model})
    ours = (
        f"Ours: scale={table.scale}, {', '.join(models) or 'no run yet'}; the interval covers seeds and problems, "
        "with one seed problems only."
    )
    if table.scale == "paper":
        return f"{ours} Difference: ours minus the paper's."
    names = [
        f"{c.name} = {' + '.join(n for part in c.benchmark for n in benchmarks_at(table.scale, part))}"
        for c in table.manifest.columns
        if c.subject is None and any(benchmarks_at(table.scale, part) for part in c.benchmark)
    ]
    return (
        f"{ours} Another model on other problems ({', '.join(names) or 'none of these benchmarks'}): the difference is that of "
        "the gains over the untrained model, and a verdict compares directions only."
    )


def write(tables: Sequence[Table], out: Path) -> None:
    """<stem>.csv, .md and .tex: the same manifest at each scale, one after the other."""
    manifest = tables[0].manifest
    pd.concat([table.frame() for table in tables]).to_csv(
        out / f"{manifest.stem}.csv", index=False, float_format="%.4g", lineterminator="\n"
    )
    markdown, latex = [f"# {manifest.title}", ""], []
    for table in tables:
        lines = lines_of(table)
        markdown += [described(table), "", _markdown(HEADER), _markdown(["---"] * len(HEADER))]
        markdown += [*(_markdown(line) for line in lines), ""]
        latex.append(_latex(manifest.title, described(table), lines))
    (out / f"{manifest.stem}.md").write_text("\n".join(markdown))
    (out / f"{manifest.stem}.tex").write_text("\n".join(latex))


def _markdown(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _latex(title: str, note: str, lines: Sequence[Sequence[str]]) -> str:
    rows = [" & ".join(map(_escaped, line)) + r" \\" for line in [HEADER, *lines]]
    head = [r"% \usepackage{longtable}", rf"\begin{{longtable}}{{ll{'r' * 5}l}}"]
    head += [rf"\caption{{{_escaped(title)}. {_escaped(note)}}}\\", r"\hline", rows[0], r"\hline\endhead"]
    return "\n".join([*head, *rows[1:], r"\hline", r"\end{longtable}", ""])


def _escaped(text: str) -> str:
    return "".join("\\" + c if c in "{}%&_#$" else c for c in text)
