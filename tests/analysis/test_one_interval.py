"""One number has one interval: on the screen of a run, of an evaluation, in summary.csv, in the tables and on the page."""

import io
import re

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from analysis import page_values, table_files
from analysis.manifests import load_manifest
from analysis.run_data import load_run
from analysis.seed_estimates import Estimator
from analysis.tables import Table
from experiments.timings.synthetic_runs import write_run
from rlvr.evaluate import summary
from rlvr.evaluate.metrics import percent
from rlvr.runs.evaluations import evaluations
from rlvr.stats import Interval
from rlvr.training.console import summary_table

NAMES = ("tiny500", "tiny_hard")
PRINTED = r"\d+\.\d \(\d+\.\d–\d+\.\d\)"
MANIFEST = """
kind: table
title: One run
selection: last
columns: [tiny500, tiny_hard, Avg]
rows:
  - {label: one, experiment: one_shot}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run that answers 200 problems once, and 50 twice."""
    root = tmp_path_factory.mktemp("runs")
    answers = {"tiny500": 1, "tiny_hard": 2}
    return write_run(root, "one_shot", 0, 20, 10, 200, 8, "tiny", "tiny", answers)


def shown(table):
    console = Console(file=io.StringIO(), width=200)
    console.print(table)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def cells(folder, tmp_path_factory):
    manifest = tmp_path_factory.mktemp("manifest") / "one.yaml"
    manifest.write_text(MANIFEST)
    return Table(load_manifest(manifest), "tiny", Estimator([load_run(folder)]))


@pytest.mark.parametrize("name", NAMES)
def test_every_place_prints_the_same(name, folder, cells):
    of_run = shown(summary_table({name: evaluations(folder, name)}, None, 20, 1.0))
    expected = re.findall(PRINTED, of_run)[-1]

    rows = [row for row in summary.write(folder, [name]) if row["step"] == 20]
    of_evaluation = shown(summary.table(rows, {name: "accuracy"}, Console(width=200)))
    assert re.findall(PRINTED, of_evaluation) == [expected]

    stored = pd.read_csv(folder.eval_dir / "summary.csv").query(
        "step == 20 and metric == 'accuracy' and subject.isna()"
    )
    assert percent(stored.set_index("benchmark").loc[name]) == expected

    cell = cells.cells[0][NAMES.index(name)]
    (line,) = (line for line in table_files.lines_of(cells) if line[1] == name)
    assert f"{line[2]} ({line[3]})" == expected
    of_page = page_values.cell_for_page(cell)
    assert f"{of_page['ours']} ({of_page['range']})" == expected


def test_an_average_over_other_problems_counts_each_benchmark_once(folder, cells):
    means = [evaluations(folder, name).shares[-1].mean() for name in NAMES]
    assert cells.cells[0][2].ours == pytest.approx(100 * np.mean(means))
    assert cells.cells[0][2].interval.low < cells.cells[0][2].ours < cells.cells[0][2].interval.high


def test_the_figures_band_is_the_same_interval(folder, cells):
    from analysis.figures import curve

    band = curve([load_run(folder)], "accuracy/tiny_hard")
    cell = cells.cells[0][1]
    found = Interval(*(float(end[-1]) for end in (band.mean, band.low, band.high)))
    assert (found.value, found.low, found.high) == pytest.approx((cell.ours, cell.interval.low, cell.interval.high))
