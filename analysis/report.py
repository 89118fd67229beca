"""Every table and figure again, and one folder of static pages: each cell opens the answers behind it, without any server.

    python -m analysis.report [runs=runs] [results=results] [out=report]

    index.html                    headline figure, tables, figures, runs and their cost; at most 1 MB
    responses.html, run.html      load data/<run>/*.js on demand, as scripts: file:// allows no fetch
    tables/<artefact>.csv|md|tex  figures/<artefact>.png|pdf|svg

Without run folders the committed results are drawn; cells then have nothing to open.
"""

import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
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

from analysis import figures, style, table_files
from analysis.estimates import Estimator, Pick, inflation
from analysis.manifests import Manifest, load_manifests, paper_data
from analysis.post_saturation import around_saturation
from analysis.results import RESULTS, Run, load, spread, step_files, untracked
from analysis.tables import Cell, Table
from rlvr.cli import command, option
from rlvr.runs import samples
from rlvr.stats import printed

PAGE = Path(__file__).parent / "page"
HEADLINE = "figure02_post_saturation"
OPEN = ("table05_loss_ablation", "table08_main")  # the other tables unfold on a click
PART = 500
EVOLUTION_STEPS = 40
REFERENCE = "one_shot"  # the run of the same scale, and where it can be seed, that others are told apart from
ROW = ["id", "subject", "sample", "prompt", "response", "gold", "score", "reason", "truncated", "response_tokens"]
MARKS = {"not reproduced": ("no", "✗"), "too noisy to say": ("noisy", "?")}
MARKS |= dict.fromkeys(("reproduced", "direction reproduced"), ("yes", "✓"))


def in_link(name: str) -> str:
    """A run or a benchmark (of a baseline) as part of a file's name."""
    return name.replace("/", ".")


def flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with nested ones by dotted key."""
    leaves: dict[str, Any] = {}
    for key, value in settings.items():
        leaves |= {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
    return leaves


def draw_figure(manifest: Manifest, runs: Sequence[Run], out: Path) -> tuple[int, int]:
    """A figure at the paper's scale where it was run, else at another; its width and height in pixels."""
    curves = [(panel, row) for panel in manifest.panels for row in manifest.rows]
    scales = (s for s in Estimator(runs).scales if any(figures.runs_of(manifest, *of, s, runs) for of in curves))
    return figures.write(manifest, next(scales, None), runs, out)


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
    """The first answer to the best-ranked example of some training steps, with the share of its answers that were right."""
    files = step_files(run.folder.rollouts_dir) if run.folder is not None else {}
    names = ("rank", "prompt", "response", "gold", "score", "reason", "response_tokens")
    lines = []
    for step in spread(list(files), EVOLUTION_STEPS):
        columns = samples.read(files[step], names)
        best = columns["rank"] == columns["rank"].min()
        line = {name: columns[name][int(best.argmax())] for name in names[1:]}
        line |= {"tokens": line.pop("response_tokens"), "step": step, "answers": int(best.sum())}
        lines.append(line | {"share": columns["score"][best].mean()})
    return lines


def store_run(run: Run, stored: Sequence[str], root: Path) -> None:
    evaluations = []
    for name, scores in run.scores.items():
        accuracy = [float(printed(100 * a, ".1f")) for a in scores.accuracy()]
        evaluations.append({"benchmark": name, "steps": scores.steps.tolist(), "accuracy": accuracy})
    about = {"id": run.id, "settings": {key: str(value) for key, value in flat(run.settings).items()}} | run.about()
    about |= {"stored": list(stored), "evaluations": evaluations, "evolution": evolution(run)}
    script(root / "data" / in_link(run.id) / "run.js", root, about)


def cell_for_page(cell: Cell) -> dict[str, Any]:
    form = ".0f" if cell.ours >= 200 else ".1f"
    why = [cell.verdict, cell.why]
    why += [f"gain over base {printed(cell.gain.value, '+.1f')}"] if not np.isnan(cell.gain.value) else []
    why += [f"p against the reference row {cell.p_holm:.3g} (Holm)"] if not np.isnan(cell.p_holm) else []
    why += [figures.seeds(cell.seeds), f"step {cell.steps}"] if cell.is_run else []
    stored = [f"{in_link(p.run.id)},{in_link(p.benchmark)},{p.step}" for p in cell.picks if p.run.folder is not None]
    about = {"why": "; ".join(filter(None, why)), "mark": MARKS.get(cell.verdict), "link": ";".join(stored)}
    return about | {
        "ours": printed(cell.ours, form),
        "range": cell.interval.range(form),
        "paper": printed(cell.paper, "g"),
    }


def table_for_page(tables: Sequence[Table]) -> dict[str, Any]:
    manifest = tables[0].manifest
    labels, columns = [style.pretty(row.label) for row in manifest.rows], [column.name for column in manifest.columns]
    parts = []
    for table in tables:
        rows = [[cell_for_page(cell) for cell in cells] for cells in table.cells]
        note = table_files.described(table)
        parts.append({"note": note, "columns": columns, "rows": list(zip(labels, rows, strict=True))})
    known = paper_data(manifest.paper)["discrepancy"].dropna() if manifest.paper else pd.Series(dtype=str)
    return {
        "stem": manifest.stem, "name": name_of(manifest), "title": manifest.title, "parts": parts,
        "open": manifest.stem in OPEN, "discrepancies": [f"row {row}: {text}" for row, text in known.items()],
        "has_runs": any(cell.is_run for table in tables for cells in table.cells for cell in cells),
    }  # fmt: skip


def name_of(manifest: Manifest) -> str:
    """`table05` as `Table 5`; an artefact of one's own by its stem."""
    return f"{manifest.paper[:-2].capitalize()} {int(manifest.paper[-2:])}" if manifest.paper else manifest.stem


def as_html(lines: pd.DataFrame) -> str:
    """A table of the page; a run links to its own page, and what is not known is empty."""
    shown = lines.map(lambda value: escape(value) if isinstance(value, str) else value)
    links = {"run": lambda run: f'<a href="run.html#{in_link(run)}">{run}</a>'}
    form: dict[str, Any] = {"index": False, "border": 0, "justify": "left", "na_rep": "", "escape": False}
    return shown.to_html(float_format="{:.4g}".format, formatters=links, **form)


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
    runs: Sequence[Run], out: Path, manifests: Sequence[Manifest], track: Callable[..., Iterable] = untracked
) -> Path:
    """Write the whole folder, replacing what an earlier report left there; returns index.html."""
    for folder in ("tables", "figures", "data"):
        shutil.rmtree(out / folder, ignore_errors=True)
    for folder in ("tables", "figures", *(f"data/{in_link(run.id)}" for run in runs)):
        (out / folder).mkdir(parents=True)
    for name in ("responses.html", "run.html", "page.js", "page.css"):
        shutil.copyfile(PAGE / name, out / name)
    of_figures, of_tables = ([m for m in manifests if (m.kind == "table") is table] for table in (False, True))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        drawing = pool.map(partial(draw_figure, runs=runs, out=out / "figures"), of_figures)
        estimator = Estimator(runs)
        drawn = []
        picks = {Pick(run, name, int(scores.steps[-1])) for run in runs for name, scores in run.scores.items()}
        for manifest in track(of_tables, description="tables"):
            tables = [Table(manifest, scale, estimator) for scale in estimator.scales or ["paper"]]
            table_files.write(tables, out / "tables")
            drawn.append(table_for_page(tables))
            picks |= {pick for table in tables for cells in table.cells for cell in cells for pick in cell.picks}
        for run in track(runs, description="answers"):
            own = sorted((p.benchmark, p.step) for p in picks if p.run is run and run.folder is not None)
            store_run(run, [store_responses(Pick(run, *evaluation), out) for evaluation in own], out)
        saturation, flattered = around_saturation(runs), inflation(runs)
        for name, frame in {"post_saturation": saturation, "selection_inflation": flattered}.items():
            frame.to_csv(out / "tables" / f"{name}.csv", index=False, float_format="%.4g")
        sizes = list(track(drawing, total=len(of_figures), description="figures"))
    shown = [
        {"stem": m.stem, "name": name_of(m), "title": m.title, "width": width, "height": height}
        for m, (width, height) in zip(of_figures, sizes, strict=True)
    ]
    page = Environment(loader=FileSystemLoader(PAGE), autoescape=True, trim_blocks=True)
    text = page.get_template("index.html.jinja").render(
        runs=as_html(pd.DataFrame([about_run(run, runs) for run in runs])),
        hours=sum(run.hours for run in runs),
        scales=sorted(Counter(run.scale for run in runs).items()),
        headline=HEADLINE if HEADLINE in [m.stem for m in of_figures] else None,
        saturation=as_html(saturation),
        tables=drawn,
        figures=shown,
        inflation=as_html(flattered),
    )
    (out / "index.html").write_text(text)
    return out / "index.html"


@dataclass
class Options:
    runs: Path = option("folder with the run folders", Path("runs"))
    results: Path = option("the committed results, drawn where there are no run folders", RESULTS)
    out: Path = option("the folder to write", Path("report"))


def report(options: Options) -> None:
    """Load the runs, write the folder, say where it is; on a terminal with a line of progress for each part."""
    screen = Console()
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        runs = load(options.runs, options.results, progress.track)
        index = build(runs, options.out, load_manifests(), progress.track)
    print(f"{len(runs)} runs; {index} ({index.stat().st_size / 1000:.0f} kB)")


if __name__ == "__main__":
    sys.exit(command(Options, report, __doc__))
