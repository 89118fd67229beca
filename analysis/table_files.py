"""Tables as files: CSV with everything a cell says, Markdown and LaTeX with what a reader wants; not run is empty."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analysis.manifests import benchmarks_at
from analysis.tables import BEST, Table
from analysis.verdicts import FEW, CellVerdict
from rlvr.stats import printed

HEADER = ("", "", "ours", "95 %", "seeds", "on validation", "paper", "difference", "verdict")


def lines_of(table: Table) -> list[tuple[str, ...]]:
    """The lines of a table as they are printed; what was not run is empty."""
    lines: list[tuple[str, ...]] = []
    for row, cells in zip(table.manifest.rows, table.cells, strict=True):
        of_row = [
            (cell.column, printed(cell.ours, ".1f"), cell.interval.range(".1f"),
             " ".join(printed(seed, ".1f") for seed in cell.by_seed), printed(cell.on_validation.value, ".1f"),
             printed(cell.paper, ".1f"), printed(cell.difference, "+.1f"), sentences(cell.verdicts))
            for cell in cells
        ]  # fmt: skip
        of_row += [(name, ours, "", "", "", paper, "", "") for name, ours, paper in table.facts(row)]
        lines += [(row.label if i == 0 else "", *line) for i, line in enumerate(of_row)]
    return lines


def sentences(verdicts: Sequence[CellVerdict]) -> str:
    """Each verdict with its question and what would settle it; too few seeds are reported once."""
    if verdicts and all(verdict.word == FEW for verdict in verdicts):
        return FEW
    return "; ".join(map(_sentence, verdicts))


def _sentence(verdict: CellVerdict) -> str:
    settles = f" ({verdict.settles})" if verdict.settles else ""
    share = f", by share of seeds: {verdict.ends}" if verdict.share else ""
    return f"{'the number' if verdict.question == 'number' else verdict.question}: {verdict.word}{share}{settles}"


def described(table: Table) -> str:
    """One sentence under a table: what ours is, and what difference and verdict mean."""
    models = ", ".join(sorted({cell.model for cells in table.cells for cell in cells if cell.model}))
    ours = f"Ours: scale={table.scale}, {models or 'no run yet'}; the interval covers seeds and problems, with one seed problems only."
    if any(table.selection(row, column) in BEST for row in table.manifest.rows for column in table.manifest.columns):
        ours += " Checkpoints are chosen on the test problems themselves, as in the paper; beside them what `validation` chooses."
    if table.scale == "paper":
        return f"{ours} Difference: ours minus the paper's."
    stand_ins = {c.name: [n for part in c.benchmarks for n in benchmarks_at(table.scale, part)]
                 for c in table.manifest.columns if c.subject is None}  # fmt: skip
    names = ", ".join(f"{column} = {' + '.join(own)}" for column, own in stand_ins.items() if own)
    ours += " Rows with the same seeds are compared seed by seed; where seeds end high or low the verdict speaks of the share that ends high."
    return (
        f"{ours} Another model on other problems ({names or 'none of these benchmarks'}): the difference is that of "
        "the gains over the untrained model, and a verdict compares directions only."
    )


def write(tables: Sequence[Table], out: Path) -> None:
    """<stem>.csv, .md and .tex: the same manifest at each scale, one after the other."""
    stem, title = tables[0].manifest.stem, tables[0].manifest.title
    frame = pd.concat([table.frame() for table in tables])
    frame.to_csv(out / f"{stem}.csv", index=False, float_format="%.4g", lineterminator="\n")
    markdown, latex = [f"# {title}", ""], []
    for table in tables:
        lines, note = lines_of(table), described(table)
        markdown += [note, "", *map(_markdown, [HEADER, ["---"] * len(HEADER), *lines]), ""]
        latex.append(_latex(title, note, lines))
    (out / f"{stem}.md").write_text("\n".join(markdown))
    (out / f"{stem}.tex").write_text("\n".join(latex))


def _markdown(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _latex(title: str, note: str, lines: Sequence[Sequence[str]]) -> str:
    rows = [" & ".join(map(_escaped, line)) + r" \\" for line in [HEADER, *lines]]
    head = [r"% \usepackage{longtable}", rf"\begin{{longtable}}{{ll{'r' * 6}l}}"]
    head += [rf"\caption{{{_escaped(title)}. {_escaped(note)}}}\\", r"\hline", rows[0], r"\hline\endhead"]
    return "\n".join([*head, *rows[1:], r"\hline", r"\end{longtable}", ""])


def _escaped(text: str) -> str:
    return "".join("\\" + c if c in "{}%&_#$" else c for c in text)
