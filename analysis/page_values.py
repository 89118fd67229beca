"""Values for the template of the report's index.html (claims, tables, runs), and strips of dots as SVG."""

import re
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from analysis import claims, figures, style, table_files
from analysis.claims import Claim
from analysis.manifests import Manifest, paper_data
from analysis.page_answers import flat, in_link, link_to
from analysis.run_data import Run
from analysis.tables import Cell, Table
from analysis.verdicts import FEW, SEEDS
from rlvr.stats import Interval, printed

REFERENCE = "one_shot"  # the run that others are compared with; of the same scale and, if possible, the same seed
MARKS = {"not reproduced": ("no", "✗"), "too noisy to say": ("noisy", "?"), "too few seeds": ("noisy", "·")}
MARKS |= dict.fromkeys(("reproduced", "direction reproduced"), ("yes", "✓"))
MARKS["depends on the seed"] = ("noisy", "±")
CLAIM_MARKS = {"seed": ("noisy", "±", "depending on the seed"), "yes": ("yes", "✓", "reproduced"), "no": ("no", "✗", "not reproduced"), "noisy": ("noisy", "?", "open"),
               "none": ("noisy", "·", "not run with three seeds")}  # fmt: skip


def strip(marks: Sequence[float], interval: Interval, paper: float, span: tuple[float, float], zero: bool) -> str:
    """Dots for the seeds, a bar for the interval and a tick for the paper's number, as SVG; span: its left and right end."""
    low, high = span
    wide, spread_out = 120, max(high - low, 1e-9)

    def at(value: float) -> str:
        return f"{4 + (wide - 8) * min(max((value - low) / spread_out, 0), 1):.1f}"

    said = f"seeds {', '.join(printed(mark, '.1f') for mark in marks)}" + (
        f"; paper {paper:g}" if paper == paper else ""
    )
    shapes = [f'<line class="axis" x1="4" x2="{wide - 4}" y1="9" y2="9"/>']
    if zero:
        shapes.append(f'<line class="zero" x1="{at(0)}" x2="{at(0)}" y1="1" y2="17"/>')
    if not np.isnan(interval.low):
        shapes.append(f'<line class="range" x1="{at(interval.low)}" x2="{at(interval.high)}" y1="9" y2="9"/>')
    if not np.isnan(paper):
        shapes.append(f'<path class="tick" d="M{at(paper)} 2v14"/>')
    shapes += [f'<circle cx="{at(mark)}" cy="9" r="3"/>' for mark in marks]
    return f'<svg role="img" aria-label="{said}" width="{wide}" height="18">{"".join(shapes)}</svg>'


def cell_for_page(cell: Cell, subject: str | None = None) -> dict[str, Any]:
    form = ".0f" if cell.ours >= 200 else ".1f"
    verdicts = [
        {"mark": MARKS.get(v.word, ("noisy", "·")), "text": style.pretty(v.question), "word": v.word, "why": v.why,
         "settles": v.settles}
        for v in cell.verdicts
    ]  # fmt: skip
    percent = cell.ours <= 100
    few = bool(cell.verdicts) and all(verdict.word == FEW for verdict in cell.verdicts)
    return {
        "ours": printed(cell.ours, form), "range": cell.interval.range(form), "paper": printed(cell.paper, "g"),
        "seeds": (cell.ends or figures.seeds(cell.seeds)) if cell.verdicts else "", "why": cell.why, "steps": cell.steps,
        "strip": strip(cell.by_seed, cell.interval, cell.paper, (0, 100), False) if cell.is_run and percent else "",
        "validation": printed(cell.on_validation.value, form), "verdicts": verdicts, "few": f"no verdict below {SEEDS} seeds" if few else "", "link": link_to(cell.picks, subject),
    }  # fmt: skip


def table_for_page(tables: Sequence[Table]) -> dict[str, Any]:
    manifest = tables[0].manifest
    parts = []
    for table in tables:
        run = [any(cells[i].is_run for cells in table.cells) for i in range(len(manifest.columns))]
        part: dict[str, Any] = {"note": table_files.described(table), "rows": [], "idle": []}
        part["columns"] = [column.name for column, shown in zip(manifest.columns, run, strict=True) if shown]
        part["columns"] += [fact.name for fact in manifest.facts]
        for row, cells in zip(manifest.rows, table.cells, strict=True):
            label = style.pretty(cells[0].row)
            if any(cell.is_run for cell in cells):
                shown = zip(cells, manifest.columns, run, strict=True)
                own = [cell_for_page(cell, column.subject) for cell, column, there in shown if there]
                part["rows"].append((label, own + [{"ours": o, "paper": paper} for _, o, paper in table.facts(row)]))
            else:
                part["idle"].append((label, cells[0].why))
        parts.append(part)
    known = paper_data(manifest.paper)["discrepancy"].dropna() if manifest.paper else pd.Series(dtype=str)
    numbers = [
        (
            style.pretty(row.label),
            [printed(c.paper, "g") for c in cells] + [paper for _, _, paper in tables[0].facts(row)],
        )
        for row, cells in zip(manifest.rows, tables[0].cells, strict=True)
    ]
    return {
        "stem": manifest.stem, "name": name_of(manifest), "title": manifest.title, "parts": parts,
        "discrepancies": [f"row {row}: {text}" for row, text in known.items()],
        "has_runs": any(part["rows"] for part in parts), "columns": [*(c.name for c in manifest.columns), *(fact.name for fact in manifest.facts)],
        "numbers": numbers if manifest.paper else [],
    }  # fmt: skip


def claim_for_page(claim: Claim) -> dict[str, Any]:
    """A claim on the page: a line for each of its numbers; for many numbers one line with the lowest and the highest."""
    run = [one for one in claim.evidence if one.verdict]
    numbers = [0.0] + [
        value for one in run for value in (one.paper, one.ours.value, one.ours.low, one.ours.high, *one.by_seed)
    ]
    span = (float(np.nanmin(numbers)), float(np.nanmax(numbers)))
    lines = [
        {"what": one.what, "paper": printed(one.paper, "+.1f"), "ours": claims.number_of(one), "word": one.said,
         "strip": strip(one.by_seed, one.ours, one.paper, span, True) if one.verdict else "", "link": link_to(one.picks)}
        for one in claim.evidence
    ]  # fmt: skip
    values = [one.ours.value for one in run]
    summary = {"what": f"{len(lines)} numbers", "paper": claims.paper_of(claim), "ours": claims.ours_of(claim) if run else "",
               "word": claims.said(claim), "strip": strip(values, Interval(float("nan")), float("nan"), span, True) if run else ""}  # fmt: skip
    return {
        "claim": claim.claim, "where": claim.where, "id": _anchor(claim), "mark": CLAIM_MARKS[claim.mark],
        "shown": lines if len(lines) <= claims.MOST_NUMBERS else [summary], "lines": lines, "missing": claim.missing,
        "settles": claim.settles.replace("to settle this: ", ""),
    }  # fmt: skip


def _anchor(claim: Claim) -> str:
    return "claim-" + re.sub(r"[^a-z]+", "-", claim.claim.lower()).strip("-")[:40]


def evidence_for_page(judged: Sequence[Claim], artefacts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The tables and figures, each under the first claim that it supports; those without a claim are in the last group.

    also: what a later claim rests on too, as links.
    """
    left, names, groups = {one["stem"]: one for one in artefacts}, {one["stem"]: one["name"] for one in artefacts}, []
    for claim in judged:
        stems = dict.fromkeys(filter(None, [claim.figure, *(one.source for one in claim.evidence)]))
        own = [left.pop(stem) for stem in stems if stem in left]
        also = [
            (stem, names[stem]) for stem in stems if stem in names and names[stem] not in {one["name"] for one in own}
        ]
        groups.append(
            {"claim": claim.claim, "id": _anchor(claim), "mark": CLAIM_MARKS[claim.mark], "own": own, "also": also}
        )
    title = "Other tables and figures" if judged else "Tables and figures"
    return [*groups, {"claim": title, "id": "others", "mark": None, "own": [*left.values()], "also": []}]


def name_of(manifest: Manifest) -> str:
    """`table05` as `Table 5`; an artefact of one's own by its stem."""
    return f"{manifest.paper[:-2].capitalize()} {int(manifest.paper[-2:])}" if manifest.paper else manifest.stem


def as_html(lines: pd.DataFrame, name: str, caption: str) -> str:
    """A table of the page that can be sorted; a run links to its own page, and what is not known is empty."""
    if lines.empty:
        return ""
    shown = lines.map(lambda value: escape(value) if isinstance(value, str) else value)
    links = {"run": lambda run: f'<a href="run.html#{in_link(run)}">{run}</a>'}
    form: dict[str, Any] = {"index": False, "border": 0, "justify": "left", "na_rep": "", "escape": False}
    text = shown.to_html(float_format="{:.4g}".format, formatters=links, table_id=name, classes="sortable", **form)
    head, body = text.replace("<th>", '<th scope="col">').split("<thead>", 1)
    return f"{head}<caption>{caption}</caption><thead>{body}"


def about_run(run: Run, runs: Sequence[Run]) -> dict[str, Any]:
    """Its line on the page, with the settings in which it differs from the reference of its scale."""
    same = [other for other in runs if (other.scale, other.name) == (run.scale, REFERENCE)]
    theirs = flat(next((other for other in same if other.seed == run.seed), same[0] if same else run).settings)
    names = ("experiment_name", "variant")
    differs = [f"{k}: {v}" for k, v in flat(run.settings).items() if k not in names and v != theirs.get(k)]
    return {
        "run": run.id, "state": run.status, "steps": int(run.metrics.index.max()) if len(run.metrics) else 0,
        "hours": f"{run.hours:.2f}", "machine": run.machine, "commit": run.commit,
        f"differs from {REFERENCE} in": ", ".join(differs),
    }  # fmt: skip


def by_benchmark(flattered: pd.DataFrame) -> pd.DataFrame:
    """`estimates.inflation` over the runs: a line for each scale and benchmark."""
    if flattered.empty:
        return flattered
    of_scale = flattered.assign(scale=flattered["run"].str.partition("/")[0]).groupby(["scale", "benchmark"])
    means = {name: (name, "mean") for name in ("checkpoints", "split_half", "on_validation")}
    return of_scale.agg(runs=("run", "size"), **means, split_half_at_most=("split_half", "max")).reset_index()
