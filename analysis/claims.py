"""What the paper claims, and whether it holds here: experiments/claims.yaml, one row a claim.

    claim     what is claimed, in words
    where     section, table or figure of the paper
    in_readme a line of README.md's short table for each number of the claim, in plain words; null: none
    figure    the manifest whose figure shows it
    cells     {table, row or rows, column or columns, against}: over the untrained model, or against another row
    gains     {figure, panel}: the gain of the test average after training accuracy has saturated
    curves    {figure, panel, row, against}: the mean of a curve over the second half of training, less that of another row, or
              without `against` less its first value

A claim is judged at the paper's scale where it was run, else at another; the verdicts are those of analysis.verdicts. A gain and a
curve are tested alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from analysis import comparisons, curves, needed_runs
from analysis.manifests import CLAIMS, MANIFESTS, Column, Manifest, ManifestError, Panel, Row, benchmarks_at
from analysis.run_data import Run
from analysis.seed_estimates import Estimator, Pick, gain_after_saturation
from analysis.style import pretty
from analysis.tables import Table
from analysis.verdicts import DEPENDS, FEW, NOISE, SEEDS, CellVerdict, corrected
from rlvr.cli import ConfigError, did_you_mean
from rlvr.runs.plain_files import LOADER
from rlvr.stats import Interval, Part, printed

NOT_RUN = "not run"
KEYS = {"claim", "where", "in_readme", "figure", "cells", "gains", "curves"}
MOST_SEEDS = 20  # a command for more seeds is not printed
MOST_NUMBERS = 3  # in one cell
BEGIN, END = "<!-- claims: python -m analysis.report readme=true -->\n", "<!-- end of claims -->\n"


@dataclass
class Evidence:
    """One number of a claim. paper and the verdict's contrast in points, or the unit of the curve."""

    what: str
    paper: float
    verdict: CellVerdict | None = None
    picks: list[Pick] = field(default_factory=list)
    source: str = ""  # stem of the table or figure
    missing: list[str] = field(default_factory=list)
    in_readme: str | None = None

    @property
    def ours(self) -> Interval:
        return self.verdict.contrast.interval if self.verdict else Interval(float("nan"))

    @property
    def by_seed(self) -> list[float]:
        return list(self.verdict.contrast.of_seeds) if self.verdict else []

    @property
    def seeds(self) -> int:
        return self.verdict.seeds if self.verdict else 0

    @property
    def word(self) -> str:
        return self.verdict.word if self.verdict else NOT_RUN

    @property
    def said(self) -> str:
        """The word of the verdict, and whether it is about the share of seeds."""
        return f"{self.word} (by share of seeds)" if self.verdict and self.verdict.share else self.word


@dataclass
class Claim:
    claim: str
    where: str
    figure: str | None
    evidence: list[Evidence]
    scale: str

    @property
    def word(self) -> str:
        """One word if all evidence agrees, else how much of it is reproduced."""
        words = [one.word for one in self.evidence]
        if len(set(words)) == 1:
            return words[0]
        run = [word for word in words if word not in (NOT_RUN, FEW)]
        if not run:
            return f"{words.count(FEW)} of {len(words)} run, {FEW}"
        reproduced = sum("reproduced" in word and "not" not in word for word in run)
        rest = f", {run.count(DEPENDS)} {DEPENDS}" if DEPENDS in run else ""
        rest += f", {len(words) - len(run)} open" if len(run) < len(words) else ""
        return f"{reproduced} of {len(run)} reproduced{rest}"

    @property
    def speaks_of(self) -> str:
        """What the verdict is about, if not the mean over seeds alone."""
        shares = [one.verdict.share is not None for one in self.evidence if one.verdict]
        return "" if not any(shares) else "by share of seeds" if all(shares) else "by mean and share of seeds"

    @property
    def mark(self) -> str:
        """yes, no, seed, noisy or none."""
        words = {one.word for one in self.evidence}
        if "not reproduced" in words:
            return "no"
        if all("reproduced" in word for word in words):
            return "yes"
        if words <= {DEPENDS, "direction reproduced"}:
            return "seed"
        return "none" if words <= {NOT_RUN, FEW} else "noisy"

    @property
    def missing(self) -> list[str]:
        """The commands that would settle the claim, each once."""
        return list(dict.fromkeys(command for one in self.evidence for command in one.missing))

    @property
    def settles(self) -> str:
        """The reason why most of the open evidence is open."""
        said = [one.verdict.settles for one in self.evidence if one.verdict and one.verdict.settles]
        return max(said, key=said.count) if said else ""


def read(manifests: Sequence[Manifest], path: Path = MANIFESTS / CLAIMS) -> list[dict[str, Any]]:
    """Read and check the file: each cell, panel and row that it names must be in a manifest. Raises ManifestError."""
    known = {manifest.stem: manifest for manifest in manifests}
    claims = yaml.load(path.read_text(), LOADER)
    for claim in claims:
        for key in claim:
            _one_of(path, claim, key, KEYS)
        for one in claim.get("cells", []):
            table = _one_of(path, claim, one["table"], known)
            one["rows"] = one.pop("rows", None) or [one.pop("row")]
            one["columns"] = one.pop("columns", None) or [one.pop("column")]
            for row in one["rows"]:
                _one_of(path, claim, row, [row.label for row in known[table].rows])
            for column in one["columns"]:
                _one_of(path, claim, column, [column.name for column in known[table].columns])
            if "against" in one:
                _one_of(path, claim, one["against"], [row.label for row in known[table].rows])
        for one in (*claim.get("gains", []), *claim.get("curves", [])):
            figure = known[_one_of(path, claim, one["figure"], known)]
            _one_of(path, claim, one["panel"], [panel.title for panel in figure.panels])
            for row in (one[key] for key in ("row", "against") if key in one):
                _one_of(path, claim, row, [row.label for row in figure.rows])
    return claims


def _one_of(path: Path, claim: dict, value: str, expected: Iterable[str]) -> str:
    if value not in (expected := list(expected)):
        raise ManifestError(f"{path.name}: {claim.get('claim')}: {value}: {did_you_mean(value, expected)}")
    return value


def judge(claims: Sequence[dict[str, Any]], manifests: Sequence[Manifest], estimator: Estimator) -> list[Claim]:
    """Each claim at the first scale that has runs for it."""
    known = {manifest.stem: manifest for manifest in manifests}
    tables: dict[tuple[str, str], Table] = {}

    def table(stem: str, scale: str) -> Table:
        return tables.setdefault((stem, scale), Table(known[stem], scale, estimator))

    judged = []
    for claim in claims:
        for scale in estimator.scales or ["tiny"]:
            evidence = [found for one in claim.get("cells", []) for found in _cells(table(one["table"], scale), one)]
            evidence += [_gain(known[one["figure"]], one, scale, estimator) for one in claim.get("gains", [])]
            evidence += [_curve(known[one["figure"]], one, scale, estimator) for one in claim.get("curves", [])]
            if any(one.verdict for one in evidence):
                break
        for one, words in zip(evidence, claim.get("in_readme", []), strict=False):
            one.in_readme = words
        asked = [one for one in evidence if one.verdict or one.missing] or evidence
        judged.append(Claim(claim["claim"], claim["where"], claim.get("figure"), asked, scale))
    return judged


def _cells(table: Table, one: dict[str, Any]) -> list[Evidence]:
    rows = {row.label: row for row in table.manifest.rows}
    columns = {column.name: column for column in table.manifest.columns}
    other, found = one.get("against"), []
    for label, name in product(one["rows"], one["columns"]):
        cell = table.cell(label, name)
        verdict, paper = cell.verdict("above base"), cell.paper_gain
        if other:
            verdict, paper = (
                table.against(rows[label], rows[other], columns[name]),
                cell.paper - table.cell(other, name).paper,
            )
            corrected([verdict] if verdict else [])
        what = pretty(f"{label} on {name}" + (f", against {other}" if other else ", over the base"))
        trained = [rows[label], *([rows[other]] if other else [])]
        missing = (
            _missing(verdict, trained, table.manifest, table.scale, table.estimator)
            if _can(table, columns[name])
            else []
        )
        found.append(Evidence(what, paper, verdict, cell.picks, table.manifest.stem, missing))
    return found


def _can(table: Table, column: Column) -> bool:
    """Whether this scale has a benchmark for a column."""
    return any(benchmarks_at(table.scale, part) for part in column.benchmarks)


def _gain(of: Manifest, one: dict[str, Any], scale: str, estimator: Estimator) -> Evidence:
    panel = next(panel for panel in of.panels if panel.title == one["panel"])
    row = needed_runs.with_panel(of.rows[0], panel)
    runs = of.runs_of(row, scale, estimator.runs)
    gain = gain_after_saturation(runs) if runs else None
    train, test = (curves.paper_curve(of, panel, row) for row in of.rows)
    paper = curves.gain_of(train, test)
    what = pretty(f"{panel.title}, test average after saturation")
    verdict = CellVerdict("gain", gain.contrast, paper, len(gain.spans)) if gain else None
    if verdict:
        corrected([verdict])
    return Evidence(what, paper, verdict, [], of.stem, _missing(verdict, [row], of, scale, estimator))


def _curve(of: Manifest, one: dict[str, Any], scale: str, estimator: Estimator) -> Evidence:
    panel = next(panel for panel in of.panels if panel.title == one["panel"])
    labels = [one[key] for key in ("row", "against") if key in one]
    rows = [row for label in labels for row in of.rows if row.label == label]
    paper = _late([curves.paper_curve(of, panel, row) for row in rows])
    trained = [needed_runs.with_panel(row, panel) for row in rows]
    runs = [of.runs_of(row, scale, estimator.runs) for row in trained]
    found = [_of_seeds(panel, row, own, alone=len(rows) == 1) for row, own in zip(rows, runs, strict=True)]
    what = pretty(f"{rows[0].label}: {panel.title}" + (f", against {rows[1].label}" if len(rows) > 1 else ""))
    verdict = None
    if all(found):
        sides = [([Part(np.array(list(one.values()))[:, None])], list(one)) for one in found]
        (ours, seeds), (theirs, their_seeds) = [*sides, ([], [])][:2]
        contrast = comparisons.contrast(ours, theirs, (seeds, their_seeds))
        percent = curves.is_percent(curves.quantity_of(panel, rows[0]))
        if percent and any(estimator.ends.two_ended(run) for own in runs for run in own):
            # No t interval for the mean of a few seeds with two ends.
            contrast = replace(contrast, bounds=(-100.0, 100.0))
        verdict = CellVerdict("curve", contrast, paper, min(map(len, found)))
        if not percent:  # tokens of another model: only the direction can be compared
            verdict.same = verdict.little = 0.0
        corrected([verdict])
    return Evidence(what, paper, verdict, [], of.stem, _missing(verdict, trained, of, scale, estimator))


def _of_seeds(panel: Panel, row: Row, runs: Sequence[Run], alone: bool) -> dict[int, float]:
    """The number of each run, by its seed."""
    drawn = {run.seed: curves.curve([run], curves.quantity_of(panel, row)) for run in runs}
    lines = {seed: curves.as_series(curve) for seed, curve in drawn.items() if curve is not None}
    found = {seed: _late([line] if alone else [line, line * 0]) for seed, line in lines.items()}
    return {seed: value for seed, value in found.items() if not np.isnan(value)}


def _late(lines: Sequence[Any]) -> float:
    """The mean over the second half of the steps, minus the same of the second line; for a single line minus its first value."""
    means = [line[line.index > line.index.max() / 2].mean() for line in lines if len(line)]
    if len(means) < len(lines) or not means:
        return float("nan")
    return float(means[0] - (means[1] if len(means) > 1 else lines[0].iloc[0]))


def _missing(
    verdict: CellVerdict | None, rows: Sequence[Row], of: Manifest, scale: str, estimator: Estimator
) -> list[str]:
    """Commands for the missing seeds; none if the verdict is settled or more seeds do not help."""
    wanted = SEEDS
    if verdict and verdict.word != FEW:
        wanted = (verdict.needed or 0) if verdict.word == NOISE else 0
    if wanted > MOST_SEEDS:
        return []
    lacking = (needed_runs.missing(row, of, scale, estimator.runs, range(wanted)) for row in rows)
    return [needed_runs.command(runs) for runs in lacking if runs]


def paper_of(claim: Claim) -> str:
    return _several([one.paper for one in claim.evidence])


def ours_of(claim: Claim) -> str:
    """A few numbers each with its interval (below SEEDS seeds: the number of each seed); of many numbers the lowest and the highest."""
    if len(claim.evidence) > MOST_NUMBERS:
        return _several([one.ours.value for one in claim.evidence])
    return "; ".join(number_of(one) for one in claim.evidence)


def number_of(one: Evidence) -> str:
    """The number with its interval, or with the share of seeds if outcomes have two ends; below SEEDS seeds the number of each seed."""
    if one.seeds >= SEEDS:
        ends = one.verdict.ends if one.verdict and one.verdict.share else ""
        return f"{printed(one.ours.value, '+.1f')}, {ends}" if ends else f"{one.ours:+.1f}"
    return _several(one.by_seed if one.seeds and len(one.by_seed) == one.seeds else [one.ours.value])


def seeds_of(claim: Claim) -> str:
    """The fewest and the most seeds of the evidence."""
    counts = [one.seeds for one in claim.evidence if one.seeds]
    return "-".join(map(str, sorted({min(counts), max(counts)})))


def _several(values: Sequence[float]) -> str:
    """A few values each, of many values the lowest and the highest; NaN if not run."""
    if len(values) <= MOST_NUMBERS:
        return ", ".join(printed(value, "+.1f") or NOT_RUN for value in values)
    known = [value for value in values if not np.isnan(value)]
    return f"{printed(min(known), '+.1f')} to {printed(max(known), '+.1f')}" if known else NOT_RUN


def markdown(claims: Sequence[Claim]) -> str:
    """A table of the claims that have runs, then a line with the others."""
    run = [claim for claim in claims if claim.word != NOT_RUN]
    lines = [(f"{c.claim} ({c.where})", paper_of(c), ours_of(c), seeds_of(c), said(c)) for c in run]
    table = _table(("claim of the paper", "paper", _ours_header(run), "seeds", "verdict"), lines)
    idle = [claim.claim for claim in claims if claim.word == NOT_RUN]
    return (table if run else "") + (f"\nNot run yet: {'; '.join(idle)}.\n" if idle else "")


def said(claim: Claim) -> str:
    """The verdict, and what it is about if not the mean alone."""
    return f"{claim.word} ({claim.speaks_of})" if claim.speaks_of else claim.word


def short_markdown(claims: Sequence[Claim]) -> str:
    """README.md's table: the numbers that `in_readme` names, one in each row; for two-ended outcomes also the seeds that end high."""
    shown = [(claim, one) for claim in claims for one in claim.evidence if one.in_readme]
    lines = [(one.in_readme or "", printed(one.paper, "+.1f"), number_of(one), one.said) for _, one in shown]
    return _table(("claim", "paper", _ours_header([claim for claim, _ in shown]), "verdict"), lines)


def _ours_header(claims: Sequence[Claim]) -> str:
    return f"ours, scale={'/'.join(sorted({claim.scale for claim in claims}))}"


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in [header, ["---"] * len(header), *lines])


def between_markers(path: Path, table: str) -> None:
    """Put a table between the two markers of a page. ConfigError if the page lacks them."""
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ConfigError(f"{path.name}: no claims between markers: expected {BEGIN.strip()}, then {END.strip()}")
    path.write_text(f"{before}{begin}\n{table}\n{end}{after}")
