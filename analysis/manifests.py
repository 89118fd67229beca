"""The paper's tables and figures as data: `experiments/<name>.yaml` says which runs are compared with which numbers of the paper.

A table has rows (what is trained) and columns (what is measured); a figure has panels and rows (curves).

    kind        table, figure or post_saturation
    paper       stem of a file in analysis/paper; left out in a table of one's own
    see         of a figure: what to look for, a sentence for its caption
    base_model  conf/base_model at scale=paper; a smaller scale's own model (conf/scale) stands for that of scale=paper
    selection   best_average (one checkpoint, best mean of the tests), best_each (each column its own), validation (best on
                `validation`), last, or step. The first two choose on the test problems, as the paper does: the report
                says so, shows beside them what `validation` chooses, and what the choice flatters.
    columns     a benchmark by the paper's name or ours, or {name, benchmark (one or a list, averaged), subject, quantity, step}
    rows        {label, paper, experiment, overrides, base_model, base, baseline, selection, step, quantity, protocol, note}:
                the runs of a row are those of its experiment with its overrides, by their configuration, not by their name
                (overrides: a list, or {scale: list} where they differ); paper is the row number (a figure: the series) of
                the paper's file; base: true is the untrained model, baseline: the untrained model under another prompt
                (rlvr.evaluate.baselines); a row with none of these is one that nothing here can run, and `note` says
                why; protocol: r1_8k stands for the benchmarks of that group (math500_r1_8k, ...) at scale=paper
    panels      {title, paper, experiment, overrides, benchmark, quantity}: what all curves of a panel share; where there are
                no runs with its overrides of the scale (longer ones), those of the plain experiment are drawn
    quantity    accuracy, boxed, response_tokens, pass_at_8; in figures also accuracy/<column>, subject/<benchmark>/<subject>,
                reflections, or a column of metrics.jsonl
    facts       what a table says of its rows in words: {name, paper: a column of the paper's file, ours: one of FACTS, column}
    reference   the row that others are compared with
    paper_base  the paper's row that its gains are counted from, where no row of ours is the untrained model
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from analysis.results import ROOT
from analysis.run_data import Run
from rlvr.cli import ConfigError, did_you_mean
from rlvr.data import protocols, scales
from rlvr.runs.naming import science
from rlvr.runs.plain_files import LOADER

MANIFESTS = ROOT / "experiments"
PAPER = Path(__file__).parent / "paper"
MAIN_MODEL = scales.scale_file("paper")["base_model"]
SELECTIONS = ("best_average", "best_each", "validation", "last", "step")
GROUPS = ("tiny", "paper", "arc", "r1_8k", "r1_32k")
KINDS = ("table", "figure", "post_saturation")
PAPER_STEPS = 2000
FACTS = ("steps", "subjects", "converged")  # chosen for a column; trained on; training accuracy saturates
CLAIMS = "claims.yaml"  # no table: analysis/claims.py


class ManifestError(ConfigError):
    """A manifest that cannot be drawn; one line with the file, the value and what was expected."""


@dataclass(frozen=True)
class Column:
    name: str
    benchmark: Any = None
    subject: str | None = None
    quantity: str | None = None
    step: int | None = None

    @property
    def benchmarks(self) -> tuple[str, ...]:
        """What it is the mean of, by the paper's names or ours."""
        return tuple(self.benchmark) if isinstance(self.benchmark, list) else (self.benchmark or self.name,)


@dataclass(frozen=True)
class Row:
    label: str
    paper: Any = None
    experiment: str | None = None
    overrides: tuple[str, ...] | dict[str, tuple[str, ...]] = ()
    base_model: str | None = None
    base: bool = False
    baseline: str | None = None
    selection: str | None = None
    step: int | None = None
    quantity: str | None = None
    protocol: str | None = None
    note: str | None = None

    def given_at(self, scale: str) -> tuple[str, ...]:
        """What its runs override at a scale, as written."""
        return self.overrides.get(scale, ()) if isinstance(self.overrides, dict) else self.overrides

    def overrides_at(self, scale: str) -> list[str]:
        """The same as a run's configuration keeps it."""
        return science(self.given_at(scale))


@dataclass(frozen=True)
class Panel:
    title: str
    paper: str | None = None
    experiment: str | None = None
    overrides: tuple[str, ...] | dict[str, tuple[str, ...]] = ()
    benchmark: str | None = None
    quantity: str | None = None


@dataclass(frozen=True)
class Fact:
    name: str
    paper: str
    ours: str
    column: str | None = None


@dataclass(frozen=True)
class Manifest:
    stem: str
    kind: str
    title: str
    rows: tuple[Row, ...]
    columns: tuple[Column, ...] = ()
    panels: tuple[Panel, ...] = ()
    facts: tuple[Fact, ...] = ()
    paper: str | None = None
    see: str = ""
    base_model: str = MAIN_MODEL
    selection: str = "last"
    seeds: tuple[int, ...] = ()  # that a launch asks for; all that are there are drawn
    quantity: str = "accuracy"
    reference: str | None = None
    paper_base: int | None = None

    def model_at(self, scale: str, row: Row) -> str:
        """The model whose runs fill a row: the paper's, or at another scale the one that takes the place of the main model."""
        wanted = row.base_model or self.base_model
        return scales.scale_file(scale).get("base_model", wanted) if wanted == MAIN_MODEL else wanted

    def runs_of(self, row: Row, scale: str, runs: Iterable[Run]) -> list[Run]:
        """The finished runs of a row at a scale, one for each seed: of a seed's variants the one without a name, else the first.

        Of an untrained model any run, for all begin with it: the one that was evaluated on most benchmarks.
        """
        model = self.model_at(scale, row)
        of_model = [r for r in runs if (r.scale, r.base_model, r.status) == (scale, model, "finished")]
        if row.base or row.baseline:
            prefix = f"{row.baseline}/" if row.baseline else ""
            with_it = [run for run in of_model if any(name.startswith(prefix) for name in run.scores)]
            return sorted(with_it, key=lambda run: -sum(name.startswith(prefix) for name in run.scores))[:1]
        wanted = (row.experiment, row.overrides_at(scale))
        of_row = [r for r in of_model if (r.settings["experiment_name"], r.settings.get("overrides")) == wanted]
        of_seed: dict[int, Run] = {}
        for run in sorted(of_row, key=lambda run: run.settings.get("variant") is not None):
            of_seed.setdefault(run.seed, run)
        return [of_seed[seed] for seed in sorted(of_seed)]


def load_manifests(folder: Path = MANIFESTS) -> list[Manifest]:
    """All manifests of a folder, in order. Raises ManifestError on the first that is wrong."""
    return [load_manifest(path) for path in sorted(folder.glob("*.yaml")) if path.name != CLAIMS]


def load_manifest(path: Path) -> Manifest:
    where = path.name
    try:
        given = yaml.load(path.read_text(), LOADER)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ManifestError(f"{where}: is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(given, dict):
        raise ManifestError(f"{where}: {given}: expected keys and values")
    _check_keys(where, given, Manifest)
    for key in ("rows", "columns", "panels", "facts", "seeds"):
        _check_list(where, key, given.get(key, []))
    for key in ("kind", "title", "rows"):
        if key not in given:
            raise ManifestError(f"{where}: has no {key}")
    given["columns"] = [{"name": c} if isinstance(c, str) else c for c in given.get("columns", [])]
    for key, kind in (("rows", Row), ("columns", Column), ("panels", Panel), ("facts", Fact)):
        given[key] = tuple(_build(where, one, kind) for one in given.get(key, []))
    manifest = Manifest(**given | {"stem": path.stem, "seeds": tuple(given.get("seeds", []))})
    _one_of(where, "kind", manifest.kind, KINDS)
    _one_of(where, "selection", manifest.selection, SELECTIONS)
    for row in manifest.rows:
        selection = row.selection or manifest.selection
        _one_of(where, f"{row.label}: selection", selection, SELECTIONS)
        stepless = row.step is None and any(column.step is None for column in manifest.columns)
        if selection == "step" and stepless and row.experiment:
            raise ManifestError(f"{where}: {row.label}: selection step needs a step")
    labels = [row.label for row in manifest.rows]
    if manifest.reference is not None:
        _one_of(where, "reference", manifest.reference, labels)
    if len(set(labels)) < len(labels):
        raise ManifestError(f"{where}: a label occurs twice: {max(labels, key=labels.count)}")
    if manifest.kind == "table" and not manifest.columns:
        raise ManifestError(f"{where}: a table needs columns")
    if manifest.kind != "table" and not manifest.panels:
        raise ManifestError(f"{where}: a figure needs panels")
    if manifest.paper is not None:
        _check_paper(where, manifest, manifest.paper)
    return manifest


def _build(where: str, given: Any, kind: type) -> Any:
    if not isinstance(given, Mapping):
        raise ManifestError(f"{where}: {given}: expected keys and values")
    _check_keys(where, given, kind)
    if "overrides" in given:
        own = given["overrides"]
        for one in own.values() if isinstance(own, Mapping) else [own]:
            _check_list(where, "overrides", one)
        own = {scale: tuple(o) for scale, o in own.items()} if isinstance(own, Mapping) else tuple(own)
        given = {**given, "overrides": own}
    return kind(**given)


def _check_list(where: str, key: str, value: Any) -> None:
    if not isinstance(value, list):
        raise ManifestError(f"{where}: {key}: {value}: expected a list, in YAML [{value}]")


def _check_keys(where: str, given: Mapping, kind: type) -> None:
    for key in given:
        _one_of(where, "key", key, [one.name for one in fields(kind) if one.name != "stem"])


def _one_of(where: str, what: str, value: Any, expected: Iterable[str]) -> None:
    expected = list(dict.fromkeys(expected))
    if value not in expected:
        raise ManifestError(f"{where}: {what} {value}: {did_you_mean(str(value), expected)}")


def _check_paper(where: str, manifest: Manifest, paper: str) -> None:
    """Check that every row and column named as the paper's is in the paper's file."""
    _one_of(where, "paper", paper, (path.stem for path in PAPER.glob("[ft]*.csv")))
    data = paper_data(paper)
    for column in manifest.columns:
        _one_of(where, "column", column.name, data.columns)
    for fact in manifest.facts:
        _one_of(where, f"{fact.name}: paper", fact.paper, data.columns)
        _one_of(where, f"{fact.name}: ours", fact.ours, FACTS)
        if fact.ours == "steps":
            _one_of(where, f"{fact.name}: column", fact.column, (column.name for column in manifest.columns))
    for panel in manifest.panels:
        _one_of(where, "panel", panel.paper or panel.title, data["panel"])
    for row in manifest.rows:
        if manifest.kind != "table":
            _one_of(where, "series", row.paper or row.label, data["series"])
        elif row.paper is not None and row.paper not in data.index:
            raise ManifestError(f"{where}: {row.label}: paper row {row.paper}: {paper}.csv has 1..{len(data)}")


@cache
def paper_data(stem: str) -> pd.DataFrame:
    """A file of analysis/paper; tables are indexed by row."""
    data = pd.read_csv(PAPER / f"{stem}.csv", keep_default_na=False, na_values=[""])
    return data.set_index("row") if stem.startswith("table") else data


def benchmarks_at(scale: str, column: str) -> tuple[str, ...]:
    """The benchmarks of a scale whose mean is a column; a name that the paper does not have is its own benchmark."""
    column = "Avg" if column == "Average" else column
    own = scales.paper_columns(scale)
    return own.get(column, ()) if column in scales.paper_columns("paper") else (column,)


def average_at(scale: str) -> tuple[str, ...]:
    """The benchmarks whose mean is the test average of a scale."""
    return benchmarks_at(scale, "Avg")


def check_columns(manifests: Iterable[Manifest], runs: Iterable[Run]) -> None:
    """That each column of a table of one's own is a benchmark somewhere. Raises ManifestError."""
    known = {name for run in runs for name in run.scores} | {
        name for group in GROUPS for name in protocols.group(group)
    }
    known |= scales.paper_columns("paper").keys() | {"Average"}
    for manifest in (m for m in manifests if m.paper is None):
        for column in manifest.columns:
            for name in column.benchmarks:
                _one_of(f"{manifest.stem}.yaml", f"column {column.name}: benchmark", name, sorted(known))
