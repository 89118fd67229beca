"""The paper's claims and whether they hold here, with every table and figure: one folder of static pages, without a server.

    python -m analysis.report [runs=runs] [results=results] [out=report]
    python -m analysis.report table=5 missing=true      # the runs that Table 5 lacks, as commands; draws nothing
    python -m analysis.report readme=true               # from results/: claims of README.md, docs/results.md; experiments' headers

    index.html                    claims, headline figure, tables, figures, runs and their cost; at most 1 MB
    paper.html                    the paper's figures of which there are no runs here
    responses.html, run.html      load data/<run>/*.js on demand, as scripts: file:// allows no fetch
    claims.md                     the claims as Markdown
    tables/<artefact>.csv|md|tex  figures/<artefact>.png|pdf|svg

Run folders stand before the committed results, each seed counts once; what is left out is listed with its reason. Cells of
committed results have no answers to open.
"""

import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from analysis import claims, figures, headers, needed_runs, table_files, text_numbers
from analysis.manifests import Manifest, check_columns, load_manifests
from analysis.page_answers import in_link, store_responses, store_run, stored_path, untrained
from analysis.page_values import (
    CLAIM_MARKS,
    about_run,
    as_html,
    by_benchmark,
    claim_for_page,
    evidence_for_page,
    name_of,
    table_for_page,
)
from analysis.post_saturation import around_saturation
from analysis.results import RESULTS, ROOT, load, untracked
from analysis.run_data import Run
from analysis.seed_estimates import Estimator, Pick, inflation
from analysis.tables import Table
from rlvr.cli import ConfigError, command, did_you_mean, option
from rlvr.data import scales

PAGE = Path(__file__).parent / "page"
PAGES = ("responses.html", "run.html", "page.js", "page.css")
FOLDERS = ("tables", "figures", "data")
README = ROOT / "README.md"
RESULTS_PAGE = ROOT / "docs" / "results.md"
GAIN = "gain.csv"  # of analysis.gain
HEADLINE = "figure02_post_saturation"
DRAWERS = 2  # more processes that draw; each has a copy of the runs' numbers
_runs: Sequence[Run] = ()  # of a drawing process


def given_runs(runs: Sequence[Run]) -> None:
    """In a drawing process, before its first figure."""
    global _runs
    _runs = runs


def draw_figure(manifest: Manifest, out: Path) -> dict[str, Any]:
    """In a drawing process: draw a figure, at the paper's scale if that was run, else at another; returns the page's text for it."""
    scales = (s for s in Estimator(_runs).scales if figures.shown_panels(manifest, s, _runs))
    scale = next(scales, None)
    width, height, alt = figures.write(manifest, scale, _runs, out)
    about = {
        "stem": manifest.stem,
        "name": name_of(manifest),
        "title": manifest.title,
        "see": manifest.see,
        "scale": scale,
    }
    if manifest.stem == HEADLINE:
        first = [panel for panel, _ in figures.shown_panels(manifest, scale, _runs)][:1]
        figures.write(replace(manifest, stem="headline", panels=tuple(first)), scale, _runs, out)
    return about | {"width": width, "height": height, "alt": alt}


def build(
    runs: Sequence[Run],
    out: Path,
    manifests: Sequence[Manifest],
    track: Callable[..., Iterable] = untracked,
    left_out: Sequence[str] = (),
    claimed: Sequence[dict[str, Any]] = (),
    results: Path | None = None,
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
    # A process is given the runs once: with each of 15 figures, copying 297 runs took two thirds of the drawing's time.
    with ProcessPoolExecutor(DRAWERS, get_context("spawn"), given_runs, (runs,)) as pool:
        drawing = pool.map(partial(draw_figure, out=out / "figures"), of_figures)
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
    made_of = (
        pd.read_csv(results / GAIN, dtype={"row": str}) if results and (results / GAIN).exists() else pd.DataFrame()
    )
    with_runs = [figure for figure in shown if figure["scale"]]
    headline = next((figure for figure in shown if figure["stem"] == HEADLINE), None)
    page = Environment(loader=FileSystemLoader(PAGE), autoescape=True, trim_blocks=True)
    about = {
        "runs": as_html(pd.DataFrame([about_run(run, runs) for run in runs]), "runs-table", "Runs and their cost"),
        "hours": sum(run.hours for run in runs),
        "scales": sorted(Counter(run.scale for run in runs).items()),
        "claims": [claim_for_page(claim) for claim in judged],
        "evidence": evidence_for_page(judged, [*drawn, *with_runs]),
        "counts": Counter(CLAIM_MARKS[claim.mark][2] for claim in judged),
        "headline": headline,
        "saturation": as_html(saturation, "saturation-table", "Before and after saturation"),
        "papers": [figure for figure in shown if not figure["scale"]],
        "gain": as_html(made_of, "gain-table", "What gains are made of"),
        "inflation": as_html(by_benchmark(flattered), "inflation-table", "What choosing on the tests flatters"),
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
        "write the claims of README.md and docs/results.md and the experiments' headers from results/, draw nothing",
        False,
    )


def chosen(name: str | None, manifests: Sequence[Manifest]) -> list[Manifest]:
    """The manifests that an option names; all for None. ConfigError if there is none."""
    if name is None:
        return list(manifests)
    wanted = f"table{int(name):02d}" if name.isdigit() else name
    found = [m for m in manifests if wanted in (m.stem, m.paper, name_of(m).lower().replace(" ", ""))]
    if not found:
        raise ConfigError(f"table={name}: {did_you_mean(name, [m.stem for m in manifests])}")
    return found


def print_missing(manifests: Sequence[Manifest], scale: str, runs: Sequence[Run]) -> None:
    """One command for each missing run."""
    commands: dict[str, None] = {}
    for manifest in manifests:
        for row in needed_runs.rows(manifest):
            lacking = needed_runs.missing(row, manifest, scale, runs, manifest.seeds or (0,))
            commands |= dict.fromkeys(needed_runs.command([run]) for run in lacking)
    print("\n".join([*commands, f"# {len(commands)} runs are missing"]))


def report(options: Options) -> None:
    """Load the runs, write the folder, print its path; on a terminal with a line of progress for each part."""
    manifests = load_manifests()
    if options.readme:
        committed = load(None, options.results)[0]
        headers.write(committed)
        judged = claims.judge(claims.read(manifests), manifests, Estimator(committed))
        claims.between_markers(README, claims.short_markdown(judged))
        claims.between_markers(RESULTS_PAGE, claims.markdown(judged))
        for page in (README, RESULTS_PAGE):
            text_numbers.fill(page, committed)
        return
    own = chosen(options.table, manifests)
    scales.check_scale(options.scale)
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
        index = build(runs, options.out, own, progress.track, left_out, claimed, options.results)
    for line in left_out:
        print(f"left out: {line}", file=sys.stderr)
    print(f"{len(runs)} runs; {index} ({index.stat().st_size / 1000:.0f} kB)")


if __name__ == "__main__":
    sys.exit(command(Options, report, __doc__))
