"""What the paper claims and whether it holds, every table and figure: one folder of static pages, without any server.

    python -m analysis.report [runs=runs] [results=results] [out=report]
    python -m analysis.report table=5 missing=true      # the runs that Table 5 lacks, as commands; draws nothing
    python -m analysis.report readme=true               # README.md's claims and the experiments' headers anew, from results/

    index.html                    claims, headline figure, tables, figures, runs and their cost; at most 1 MB
    paper.html                    the paper's figures of which there are no runs here
    responses.html, run.html      load data/<run>/*.js on demand, as scripts: file:// allows no fetch
    claims.md                     the claims as Markdown
    tables/<artefact>.csv|md|tex  figures/<artefact>.png|pdf|svg

Run folders stand before the committed results, each seed counts once; what is left out is listed with its reason. Cells of
committed results have no answers to open.
"""

import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from analysis import claims, figures, headers, needed, style, table_files
from analysis.claims import Claim
from analysis.estimates import Estimator, Pick, inflation
from analysis.manifests import Manifest, check_columns, load_manifests, paper_data
from analysis.post_saturation import around_saturation
from analysis.responses import REPEATED_SHARE
from analysis.results import RESULTS, ROOT, Run, load, spread, untracked
from analysis.tables import FEW, SEEDS, Cell, Table
from rlvr.cli import ConfigError, command, did_you_mean, option
from rlvr.data import protocols
from rlvr.runs import samples
from rlvr.runs.folder import step_files
from rlvr.stats import Interval, printed

PAGE = Path(__file__).parent / "page"
PAGES = ("responses.html", "run.html", "page.js", "page.css")
FOLDERS = ("tables", "figures", "data")
README = ROOT / "README.md"
HEADLINE = "figure02_post_saturation"
OPEN = ("table05_loss_ablation", "table08_main")  # the other tables unfold on a click
PART = 500
DRAWERS = 2  # processes that draw beside this one; each has a copy of the runs' numbers
EVOLUTION_STEPS = 40
MOST_ANSWERS = 64
KINDS = ("right", "cut off", "repeating", "without a box", "wrong")
REFERENCE = "one_shot"  # the run of the same scale, and where it can be seed, that others are told apart from
_runs: Sequence[Run] = ()  # of a drawing process
ROW = ["id", "subject", "sample", "prompt", "response", "gold", "score", "reason", "truncated", "response_tokens"]
MARKS = {"not reproduced": ("no", "✗"), "too noisy to say": ("noisy", "?"), "too few seeds": ("noisy", "·")}
MARKS |= dict.fromkeys(("reproduced", "direction reproduced"), ("yes", "✓"))
CLAIM_MARKS = {"yes": ("yes", "✓", "reproduced"), "no": ("no", "✗", "not reproduced"), "noisy": ("noisy", "?", "open"),
               "none": ("noisy", "·", "not run with three seeds")}  # fmt: skip


def in_link(name: str) -> str:
    """A run or a benchmark (of a baseline) as part of a file's name."""
    return name.replace("/", ".")


def flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with nested ones by dotted key."""
    leaves: dict[str, Any] = {}
    for key, value in settings.items():
        leaves |= {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
    return leaves


def draw_figure(manifest: Manifest, runs: Sequence[Run], out: Path) -> dict[str, Any]:
    """A figure at the paper's scale where it was run, else at another; what a page says of it."""
    scales = (s for s in Estimator(runs).scales if figures.shown_panels(manifest, s, runs))
    scale = next(scales, None)
    width, height, alt = figures.write(manifest, scale, runs, out)
    about = {"stem": manifest.stem, "name": name_of(manifest), "title": manifest.title, "scale": scale}
    if manifest.stem == HEADLINE:
        first = [panel for panel, _ in figures.shown_panels(manifest, scale, runs)][:1]
        figures.write(replace(manifest, stem="headline", panels=tuple(first)), scale, runs, out)
    return about | {"width": width, "height": height, "alt": alt}


def _given_runs(runs: Sequence[Run]) -> None:
    """In a drawing process, before its first figure."""
    global _runs
    _runs = runs


def _draw_figure(manifest: Manifest, out: Path) -> dict[str, Any]:
    return draw_figure(manifest, _runs, out)


def script(path: Path, root: Path, data: Any) -> None:
    """A data file: a script that hands its data to the page that asked for it."""
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
        columns = samples.read(files[step], names[:-1], names[-1:])
        repeats = columns.get("repetition", np.zeros(len(columns["score"]))) >= REPEATED_SHARE
        # Of several that apply, the first.
        tests = [columns["score"] >= 1, columns["truncated"], repeats, ~columns["boxed"]]
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


def link_to(picks: Iterable[Pick], subject: str | None = None) -> str:
    """The answers behind a number: all its seeds, one subject where it is of one; empty where they are not at hand."""
    stored = [f"{in_link(p.run.id)},{in_link(p.benchmark)},{p.step}" for p in picks if stored_path(p) is not None]
    return ";".join(stored) + (f";subject={subject}" if stored and subject else "")


def stored_path(pick: Pick) -> Path | None:
    if pick.run.folder is None:
        return None
    path = pick.run.samples_path(pick.benchmark, pick.step)
    return path if path.exists() else None


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
        "seeds": figures.seeds(cell.seeds) if cell.verdicts else "", "why": cell.why, "steps": cell.steps,
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
        "open": manifest.stem in OPEN, "discrepancies": [f"row {row}: {text}" for row, text in known.items()],
        "has_runs": any(part["rows"] for part in parts), "columns": [*(c.name for c in manifest.columns), *(fact.name for fact in manifest.facts)],
        "numbers": numbers if manifest.paper else [],
    }  # fmt: skip


def claim_for_page(claim: Claim, drawn: set[str], tables: set[str]) -> dict[str, Any]:
    """One row of the first screen."""
    run = [one for one in claim.evidence if one.verdict]
    alone = run[0] if len(run) == 1 else None
    marks = alone.by_seed if alone else [one.ours.value for one in run]
    interval = alone.ours if alone else Interval(float("nan"))
    values = [
        0.0,
        interval.low,
        interval.high,
        *(value for one in run for value in (one.paper, *one.by_seed, one.ours.value)),
    ]
    span = (float(np.nanmin(values)), float(np.nanmax(values)))
    evidence = [(one.what, printed(one.paper, "+.1f"), f"{one.ours:+.1f}", one.word, link_to(one.picks), one.source)
                for one in claim.evidence]  # fmt: skip
    return {
        "claim": claim.claim, "where": claim.where, "word": claim.word, "mark": CLAIM_MARKS[claim.mark],
        "paper": claims.paper_of(claim), "ours": claims.ours_of(claim) if run else "",
        "strip": strip(marks, interval, alone.paper if alone else float("nan"), span, True) if run else "",
        "evidence": evidence, "missing": claim.missing, "settles": claim.settles, "scale": claim.scale,
        "figure": claim.figure if claim.figure in drawn else None, "tables": tables,
    }  # fmt: skip


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


def build(
    runs: Sequence[Run],
    out: Path,
    manifests: Sequence[Manifest],
    track: Callable[..., Iterable] = untracked,
    left_out: Sequence[str] = (),
    claimed: Sequence[dict[str, Any]] = (),
) -> Path:
    """Write the whole folder, replacing what an earlier report left there; returns index.html. ConfigError where other files
    would be lost.
    """
    foreign = [name for name in FOLDERS if (out / name).exists()] if not (out / PAGES[0]).exists() else []
    if foreign:
        raise ConfigError(
            f"out={out}: holds {', '.join(foreign)} of no report, which this one would replace: give a new folder"
        )
    out.mkdir(parents=True, exist_ok=True)
    for name in PAGES:
        shutil.copyfile(PAGE / name, out / name)
    for folder in FOLDERS:
        shutil.rmtree(out / folder, ignore_errors=True)
    for folder in ("tables", "figures", *(f"data/{in_link(run.id)}" for run in runs)):
        (out / folder).mkdir(parents=True)
    of_figures, of_tables = ([m for m in manifests if (m.kind == "table") is table] for table in (False, True))
    # A process is given the runs once: with every figure, that took longer than the drawing.
    with ProcessPoolExecutor(DRAWERS, get_context("spawn"), _given_runs, (runs,)) as pool:
        drawing = pool.map(partial(_draw_figure, out=out / "figures"), of_figures)
        estimator = Estimator(runs)
        drawn = []
        picks = {Pick(run, name, int(scores.steps[-1])) for run in runs for name, scores in run.scores.items()}
        for manifest in track(of_tables, description="tables"):
            tables = [Table(manifest, scale, estimator) for scale in estimator.scales or ["paper"]]
            table_files.write(tables, out / "tables")
            drawn.append(table_for_page(tables))
            picks |= {pick for table in tables for cells in table.cells for cell in cells for pick in cell.picks}
        judged = claims.judge(claimed, manifests, estimator)
        (out / "claims.md").write_text(claims.markdown(judged))
        bases = untrained(runs)
        picks |= set(bases.values())
        for run in track(runs, description="answers"):
            own = sorted((p.benchmark, p.step) for p in picks if p.run is run and stored_path(p) is not None)
            stored = [store_responses(Pick(run, *evaluation), out) for evaluation in own]
            kin = {key[2]: pick for key, pick in bases.items() if key[:2] == (run.scale, run.base_model)}
            store_run(run, stored, {in_link(name): in_link(pick.run.id) for name, pick in kin.items()}, out)
        saturation, flattered = around_saturation(runs), inflation(runs)
        for name, frame in {"post_saturation": saturation, "selection_inflation": flattered}.items():
            frame.to_csv(out / "tables" / f"{name}.csv", index=False, float_format="%.4g")
        shown = list(track(drawing, total=len(of_figures), description="figures"))
    with_runs = [figure for figure in shown if figure["scale"]]
    stems = {figure["stem"] for figure in with_runs}
    headline = next((figure for figure in shown if figure["stem"] == HEADLINE), None)
    page = Environment(loader=FileSystemLoader(PAGE), autoescape=True, trim_blocks=True)
    about = {
        "runs": as_html(pd.DataFrame([about_run(run, runs) for run in runs]), "runs-table", "Runs and their cost"),
        "hours": sum(run.hours for run in runs),
        "scales": sorted(Counter(run.scale for run in runs).items()),
        "claims": [claim_for_page(claim, stems, {m.stem for m in of_tables}) for claim in judged],
        "counts": Counter(CLAIM_MARKS[claim.mark][2] for claim in judged),
        "headline": headline,
        "saturation": as_html(saturation, "saturation-table", "Before and after saturation"),
        "tables": drawn,
        "figures": with_runs,
        "papers": [figure for figure in shown if not figure["scale"]],
        "inflation": as_html(flattered, "inflation-table", "What choosing on the tests flatters"),
        "left_out": left_out,
    }
    for name in ("index.html", "paper.html"):
        (out / name).write_text(page.get_template(f"{name}.jinja").render(about))
    return out / "index.html"


@dataclass
class Options:
    runs: Path = option("folder with the run folders", Path("runs"))
    results: Path = option("the committed results", RESULTS)
    out: Path = option("the folder to write", Path("report"))
    table: str | None = option("only this table or figure: 5, figure02, or its name in experiments/", None)
    missing: bool = option("print the runs that are missing, as commands, and draw nothing", False)
    scale: str = option("of the missing runs", "tiny")
    readme: bool = option(
        "write README.md's claims and the experiments' headers from the committed results, draw nothing", False
    )


def chosen(name: str | None, manifests: Sequence[Manifest]) -> list[Manifest]:
    """The manifests that an option names; all for None. ConfigError where there is none."""
    if name is None:
        return list(manifests)
    wanted = f"table{int(name):02d}" if name.isdigit() else name
    found = [m for m in manifests if wanted in (m.stem, m.paper, name_of(m).lower().replace(" ", ""))]
    if not found:
        raise ConfigError(f"table={name}: {did_you_mean(name, [m.stem for m in manifests])}")
    return found


def print_missing(manifests: Sequence[Manifest], scale: str, runs: Sequence[Run]) -> None:
    """One command for each run that is not there, each once."""
    commands: dict[str, None] = {}
    for manifest in manifests:
        for row in needed.rows(manifest):
            lacking = needed.missing(row, manifest, scale, runs, manifest.seeds or (0,))
            commands |= dict.fromkeys(needed.command([run]) for run in lacking)
    print("\n".join([*commands, f"# {len(commands)} runs are missing"]))


def report(options: Options) -> None:
    """Load the runs, write the folder, say where it is; on a terminal with a line of progress for each part."""
    manifests = load_manifests()
    if options.readme:
        committed = load(None, options.results)[0]
        headers.write(committed)
        judged = claims.judge(claims.read(manifests), manifests, Estimator(committed))
        README.write_text(claims.in_readme(README.read_text(), judged))
        return
    own = chosen(options.table, manifests)
    protocols.check_scale(options.scale)
    if not options.runs.is_dir() and not (options.results / "runs.csv").exists():
        raise ConfigError(f"runs={options.runs}: no such folder, and results={options.results} has no runs.csv")
    screen = Console()
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        runs, left_out = load(options.runs, options.results, progress.track)
        check_columns(own, runs)
        if options.missing:
            return print_missing(own, options.scale, runs)
        claimed = [] if options.table else claims.read(manifests)
        index = build(runs, options.out, own, progress.track, left_out, claimed)
    for line in left_out:
        print(f"left out: {line}", file=sys.stderr)
    print(f"{len(runs)} runs; {index} ({index.stat().st_size / 1000:.0f} kB)")


if __name__ == "__main__":
    sys.exit(command(Options, report, __doc__))
