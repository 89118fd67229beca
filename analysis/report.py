"""Every table and figure again, and one folder of static pages: each cell opens the answers behind it, without any server.

    python -m analysis.report [runs=runs] [results=results] [out=report]

    index.html                    headline figure, tables, figures, runs and their cost; at most 1 MB
    responses.html, run.html      load data/<run>/*.js on demand, as scripts: file:// allows no fetch
    tables/<artefact>.csv|md|tex  figures/<artefact>.png|pdf|svg

Without run folders the committed results are drawn; cells then have nothing to open.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import dynamics, figures, style, table_files
from analysis.estimates import Estimator, Pick, inflation
from analysis.manifests import Manifest, load_manifests, paper_data
from analysis.results import RESULTS, Run, load, read_columns, spread, step_files
from analysis.tables import Cell, Table
from rlvr.cli import command, option
from rlvr.stats import printed

PAGE = Path(__file__).parent / "page"
HEADLINE = "figure02_post_saturation"
OPEN = ("table05_loss_ablation", "table08_main")  # the other tables unfold on a click
PART = 500
EVOLUTION_STEPS = 40
ROW = (
    "id", "subject", "sample", "prompt", "response", "gold", "score", "reason", "truncated", "response_tokens",
)  # fmt: skip
MARKS = {
    "reproduced": ("yes", "✓"),
    "direction reproduced": ("yes", "✓"),
    "not": ("no", "✗"),
    "too noisy to say": ("noisy", "?"),
}


def slug(run: Run) -> str:
    return run.id.replace("/", ".")


def in_link(benchmark: str) -> str:
    """A benchmark's name as part of a file's; those of baselines have a slash."""
    return benchmark.replace("/", ".")


def flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with nested ones by dotted key."""
    leaves: dict[str, Any] = {}
    for key, value in settings.items():
        leaves |= {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
    return leaves


def differences(run: Run, reference: Run) -> dict[str, tuple[Any, Any]]:
    """Setting -> (reference's, run's), where they differ; names of the run itself left out."""
    mine, theirs = flat(run.settings), flat(reference.settings)
    keys = [key for key in mine if key not in ("experiment_name", "variant")]
    return {key: (theirs.get(key), mine[key]) for key in keys if theirs.get(key) != mine[key]}


def draw_figures(manifests: Sequence[Manifest], runs: Sequence[Run], out: Path) -> dict[str, tuple[int, int]]:
    """All figures, at the paper's scale where it was run, else at another; stem -> (width, height) of the PNG in pixels."""
    from PIL import Image

    scales = Estimator(runs).scales()
    sizes = {}
    for manifest in manifests:
        run_at = [
            scale
            for scale in scales
            for panel in manifest.panels
            for row in manifest.rows
            if figures.runs_of(manifest, panel, row, scale, runs)
        ]
        with Image.open(figures.write(manifest, run_at[0] if run_at else None, runs, out)) as image:
            sizes[manifest.stem] = image.size
    return sizes


def script(path: Path, root: Path, data: Any) -> None:
    """A data file: a script that hands its data to the page that asked for it."""
    name = path.relative_to(root).as_posix()
    body = json.dumps(data, ensure_ascii=False, separators=(",", ":"), default=float)
    path.write_text(f"arrived({json.dumps(name)},{body})\n")


def store_responses(pick: Pick, root: Path) -> None:
    """The answers of one evaluation, in parts."""
    columns = read_columns(pick.run.samples_path(pick.benchmark, pick.step), ROW)
    rows = list(zip(*(columns[name].to_pylist() for name in ROW), strict=True))
    parts = max(1, -(-len(rows) // PART))
    for i in range(parts):
        path = root / "data" / slug(pick.run) / f"{in_link(pick.benchmark)}-{pick.step}-{i}.js"
        script(path, root, {"parts": parts, "rows": rows[i * PART : (i + 1) * PART]})


def evolution(run: Run) -> list[dict[str, Any]]:
    """The first answer to the best-ranked example of some training steps, with the share of its answers that were right."""
    if run.folder is None:
        return []
    files = step_files(run.folder.rollouts_dir)
    names = ("rank", "prompt", "response", "gold", "score", "reason", "response_tokens")
    lines = []
    for step in spread(list(files), EVOLUTION_STEPS):
        columns = read_columns(files[step], names)
        ranks = columns["rank"].to_numpy()
        best = ranks == ranks.min()
        first = int(best.argmax())
        line = {name: columns[name][first].as_py() for name in names[1:]}
        line["tokens"] = line.pop("response_tokens")
        line |= {"step": step, "answers": int(best.sum())}
        lines.append(line | {"share": columns["score"].to_numpy()[best].mean()})
    return lines


def store_run(run: Run, stored: Sequence[str], root: Path) -> None:
    evaluations = [
        {
            "benchmark": name,
            "steps": scores.steps.tolist(),
            "accuracy": [float(printed(100 * a, ".1f")) for a in scores.accuracy()],
        }
        for name, scores in run.scores.items()
    ]
    about = {name: getattr(run, name) for name in ("id", "status", "hours", "machine", "commit", "command")}
    settings = {key: str(value) for key, value in flat(run.settings).items()}
    data = about | {
        "settings": settings,
        "stored": list(stored),
        "evaluations": evaluations,
        "evolution": evolution(run),
    }
    script(root / "data" / slug(run) / "run.js", root, data)


def cell_for_page(cell: Cell) -> dict[str, Any]:
    stored = [pick for pick in cell.picks if pick.run.folder is not None]
    form = ".0f" if cell.ours >= 200 else ".1f"
    gain = "" if np.isnan(cell.gain) else f"gain over base {printed(cell.gain, '+.1f')}"
    adjusted = "" if np.isnan(cell.p_holm) else f"p against the reference row {cell.p_holm:.3g} (Holm)"
    at = f"step {cell.steps}" if cell.steps else ""
    seeds = f"{cell.seeds} seed{'s' if cell.seeds > 1 else ''}" if cell.is_run else ""
    return {
        "ours": printed(cell.ours, form),
        "range": cell.interval.range(form),
        "paper": printed(cell.paper, "g"),
        "mark": MARKS.get(cell.verdict),
        "why": "; ".join(filter(None, (cell.verdict, cell.why, gain, adjusted, seeds, at))),
        "link": ";".join(f"{slug(pick.run)},{in_link(pick.benchmark)},{pick.step}" for pick in stored),
    }


def table_for_page(tables: Sequence[Table]) -> dict[str, Any]:
    manifest = tables[0].manifest
    parts = [
        {
            "note": table_files.described(table),
            "columns": [column.name for column in manifest.columns],
            "rows": [
                (style.pretty(row.label), [cell_for_page(cell) for cell in cells])
                for row, cells in zip(manifest.rows, table.cells, strict=True)
            ],
        }
        for table in tables
    ]
    known = paper_data(manifest.paper)["discrepancy"].dropna() if manifest.paper else pd.Series(dtype=str)
    return {
        "stem": manifest.stem,
        "name": name_of(manifest),
        "title": manifest.title,
        "parts": parts,
        "open": manifest.stem in OPEN,
        "has_runs": any(cell.is_run for table in tables for cells in table.cells for cell in cells),
        "discrepancies": [f"row {row}: {text}" for row, text in known.items()],
    }


def name_of(manifest: Manifest) -> str:
    """`table05` as `Table 5`; an artefact of one's own by its stem."""
    if manifest.paper is None:
        return manifest.stem
    return f"{manifest.paper[:-2].capitalize()} {int(manifest.paper[-2:])}"


def lines_for_page(frame: pd.DataFrame) -> list[dict[str, str]]:
    def shown(value: Any) -> str:
        if value is None or (isinstance(value, float) and np.isnan(value)):
            return ""
        return f"{value:.3g}" if isinstance(value, float) and value != int(value) else f"{value:g}"

    return [
        {str(name): value if isinstance(value, str) else shown(value) for name, value in row.items()}
        for row in frame.to_dict("records")
    ]


def build(runs: Sequence[Run], out: Path, manifests: Sequence[Manifest]) -> Path:
    """Write the whole folder, replacing what an earlier report left there; returns index.html."""
    from jinja2 import Environment, FileSystemLoader

    for folder in ("tables", "figures", "data"):
        shutil.rmtree(out / folder, ignore_errors=True)
        (out / folder).mkdir(parents=True)
    for name in ("responses.html", "run.html", "page.js", "page.css"):
        shutil.copyfile(PAGE / name, out / name)
    for run in runs:
        (out / "data" / slug(run)).mkdir()
    of_figures = [m for m in manifests if m.kind != "table"]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        drawing = pool.submit(draw_figures, of_figures, runs, out / "figures")
        estimator = Estimator(runs)
        drawn: list[dict[str, Any]] = []
        picks: set[tuple[str, str, int]] = set()
        for manifest in manifests:
            if manifest.kind == "table":
                tables = [Table(manifest, scale, estimator) for scale in estimator.scales() or ["paper"]]
                table_files.write(tables, out / "tables")
                drawn.append(table_for_page(tables))
                found = [p for t in tables for cells in t.cells for cell in cells for p in cell.picks]
                picks |= {(p.run.id, p.benchmark, p.step) for p in found}
        by_id = {run.id: run for run in runs}
        picks |= {(run.id, b, int(s.steps[-1])) for run in runs for b, s in run.scores.items()}
        stored: dict[str, list[str]] = {run.id: [] for run in runs}
        for run_id, benchmark, step in sorted(picks):
            if by_id[run_id].folder is not None:
                store_responses(Pick(by_id[run_id], benchmark, step), out)
                stored[run_id].append(f"{in_link(benchmark)}-{step}")
        for run in runs:
            store_run(run, stored[run.id], out)
        saturation, flattered = dynamics.compare(runs), inflation(runs)
        saturation.to_csv(out / "tables" / "post_saturation.csv", index=False, float_format="%.4g")
        flattered.to_csv(out / "tables" / "selection_inflation.csv", index=False, float_format="%.4g")
        sizes = drawing.result()

    page = Environment(loader=FileSystemLoader(PAGE), autoescape=True, trim_blocks=True)
    text = page.get_template("index.html.jinja").render(
        runs=[about_run(run, reference_for(run, runs)) for run in runs],
        reference="one_shot",
        hours=sum(run.hours for run in runs),
        scales=sorted(Counter(run.scale for run in runs).items()),
        headline=HEADLINE if HEADLINE in sizes else None,
        saturation=lines_for_page(saturation),
        slugs={run.id: slug(run) for run in runs},
        tables=drawn,
        figures=[
            {"stem": m.stem, "name": name_of(m), "title": m.title, "width": w, "height": h}
            for m in of_figures
            for w, h in [sizes[m.stem]]
        ],
        inflation=lines_for_page(flattered),
    )
    (out / "index.html").write_text(text)
    return out / "index.html"


def reference_for(run: Run, runs: Sequence[Run]) -> Run:
    """one_shot of the same scale and seed where there is one, for telling what a run changes."""
    same = [other for other in runs if other.scale == run.scale and other.name == "one_shot"]
    return next((other for other in same if other.seed == run.seed), same[0] if same else run)


def about_run(run: Run, reference: Run) -> dict[str, Any]:
    differs = [f"{key}: {new}" for key, (_, new) in differences(run, reference).items()]
    about = {name: getattr(run, name) for name in ("id", "status", "hours", "machine", "commit")}
    last = int(run.metrics.index.max()) if len(run.metrics) else 0
    return about | {"slug": slug(run), "steps": last, "differences": ", ".join(differs)}


@dataclass
class Options:
    runs: Path = option("folder with the run folders", Path("runs"))
    results: Path = option("the committed results, drawn where there are no run folders", RESULTS)
    out: Path = option("the folder to write", Path("report"))


def report(options: Options) -> None:
    """Load the runs, write the folder, say where it is."""
    runs = load(options.runs, options.results)
    index = build(runs, options.out, load_manifests())
    print(f"{len(runs)} runs; {index} ({index.stat().st_size / 1000:.0f} kB)")


if __name__ == "__main__":
    sys.exit(command(Options, report, __doc__))
