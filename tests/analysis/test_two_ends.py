"""Where the seed decides whether a run ends high or low: the line, which runs are meant, and what tables and claims say."""

import numpy as np
import pandas as pd
import pytest

from analysis import claims, figures, page_values, table_files
from analysis.manifests import average_at, load_manifest, load_manifests
from analysis.run_data import Run
from analysis.seed_estimates import Estimator
from analysis.tables import Table
from analysis.two_ends import Ends
from analysis.verdicts import DEPENDS, NOISE
from rlvr.runs.evaluations import Evaluations

IDS = [f"p{i}" for i in range(100)]
MANIFEST = """
kind: table
paper: table08
title: A test
selection: last
columns: [MATH500]
reference: pool
rows:
  - {label: Base, paper: 1, base: true}
  - {label: pool, paper: 3, experiment: full_set}
  - {label: one, paper: 5, experiment: one_shot}
  - {label: steady, paper: 6, experiment: one_shot_pi13}
"""


def run_of(name, seed, right, **settings):
    """A run that answers 30 of 100 problems at first, and `right` of them at last."""
    scores = np.array([[i < count for i in range(100)] for count in (30, 30, right)], float)
    about = {"experiment_name": name, "variant": None, "overrides": [], "train_set.name": name, "updates_per_step": 1}
    about |= {"label.name": "correct", "reward_rule.name": "outcome", "loss": {"policy": "vanilla"}, "scale.steps": 60}
    about |= {"scale.prompts_per_step": 8, "scale.samples_per_prompt": 8} | settings
    found = Evaluations(np.array([0, 30, 60]), scores, 1, IDS, np.array(["Algebra"] * 100, dtype=object))
    metrics = pd.DataFrame({"train/accuracy": [0.5]}, index=pd.Index([60], name="step"))
    return Run(
        "tiny",
        "tiny",
        name,
        seed,
        about,
        "finished",
        0.1,
        "a CPU",
        "",
        "run.py",
        metrics,
        dict.fromkeys(average_at("tiny"), found),
    )


def runs_of(ends, **named):
    """A pool that ends at 70, and experiments by their seeds' last numbers."""
    named = {"full_set": [70] * len(ends), "one_shot": ends} | named
    return [run_of(name, seed, right) for name, of in named.items() for seed, right in enumerate(of)]


def test_the_line_is_halfway_between_base_and_pool_where_they_are_ten_points_apart():
    runs = runs_of([68, 35])
    assert Ends(runs).line(runs[0], ["tiny500"]) == pytest.approx(50)
    assert np.isnan(Ends(runs[2:]).line(runs[2], ["tiny500"]))  # no pool
    assert np.isnan(Ends([run_of("full_set", 0, 39), *runs[2:]]).line(runs[2], ["tiny500"]))
    assert np.isnan(Ends(runs).line(runs[0], ["tiny500", "elsewhere"]))


@pytest.mark.parametrize(
    "ends, two_ended",
    [
        ([68, 35, 66], True),
        ([68, 67, 66], False),
        ([35, 32], False),
        ([54, 47, 45], False),  # on both sides, but 7 points apart and not 10, a quarter of the way
        ([55, 45], True),
    ],
)
def test_seeds_on_both_sides_and_a_gap_between_them_are_two_ends(ends, two_ended):
    runs = runs_of(ends)
    assert Ends(runs).two_ended(runs[-1]) is two_ended and not Ends(runs).two_ended(runs[0])


def test_what_one_experiment_shows_holds_for_all_that_the_same_reward_teaches():
    runs = runs_of([68, 35, 66])
    kin = {"alike": {}, "other_label": {"label.name": "guessable"}, "no_reward": {"loss": {"policy": "none"}}}
    kin |= {"other_example": {"train_set.name": "pi7"}, "more_updates": {"updates_per_step": 8}}
    others = [run_of(name, 0, 68, **{"train_set.name": "one_shot"} | changed) for name, changed in kin.items()]
    ends = Ends([*runs, *others])
    assert [run.name for run in others if ends.two_ended(run)] == ["alike"]


@pytest.fixture
def table(tmp_path):
    def made(ends, **named):
        (tmp_path / "mine.yaml").write_text(MANIFEST)
        return Table(load_manifest(tmp_path / "mine.yaml"), "tiny", Estimator(runs_of(ends, **named)))

    return made


def test_a_table_shows_the_share_beside_the_mean_and_the_verdict_speaks_of_it(table, tmp_path):
    found = table([68, 66, 67, 69, 70, 65, 35, 31, 33, 36], one_shot_pi13=[69, 70, 71])
    cell = found.cell("one", "MATH500")
    assert cell.ours == 54 and cell.ends == "6 of 10 seeds end high (60 %, 26–88)"
    assert cell.interval.low < 40 and cell.interval.high > 65  # a t interval would be 54 +- 12
    above, against = cell.verdicts
    assert above.word == DEPENDS and against.word == NOISE and against.share.value == -40
    steady = found.cell("steady", "MATH500")
    assert steady.ends == "" and all(verdict.share is None for verdict in steady.verdicts)
    table_files.write([found], tmp_path)
    line = next(line for line in (tmp_path / "mine.md").read_text().splitlines() if line.startswith("| one |"))
    assert "above base: depends on the seed, by share of seeds: 6 of 10 seeds end high (60 %, 26–88)" in line
    csv = pd.read_csv(tmp_path / "mine.csv").set_index("row")
    assert csv.at["one", "share_high"] == 60 and np.isnan(csv.at["steady", "share_high"])
    assert page_values.cell_for_page(cell)["seeds"] == cell.ends


def test_a_claim_says_which_of_the_two_its_verdict_speaks_of(table):
    manifests = load_manifests()
    read = [one for one in claims.read(manifests) if "lifts accuracy a lot" in one["claim"]]
    (one, pool) = claims.judge(
        read, manifests, table([68, 66, 67, 69, 70, 65, 35, 31, 33, 36], one_shot_pi13=[69, 70, 71]).estimator
    )
    assert (
        claims.said(one) == "1 of 2 reproduced, 1 depends on the seed (by mean and share of seeds)"
        and one.mark == "seed"
    )
    assert "6 of 10 seeds end high (60 %, 26–88)" in claims.ours_of(one)
    assert claims.said(pool) == "direction reproduced" and pool.mark == "yes"


def test_sides_with_two_ends_are_compared_on_the_same_seeds_only(table):
    found = table([68, 35, 66, 34])
    rows = {row.label: row for row in found.manifest.rows}
    of_pool = found.against(rows["one"], rows["pool"], found.manifest.columns[0])
    assert of_pool.seeds == 4 and of_pool.contrast.paired and of_pool.share.value == -50
    apart = runs_of([68, 35, 66, 34])
    for run in apart[:4]:
        run.seed += 10
    other = Table(found.manifest, "tiny", Estimator(apart))
    assert other.against(rows["one"], rows["pool"], found.manifest.columns[0]).word == "too few seeds"


@pytest.mark.parametrize("seeds", [2, 5])
def test_a_figure_draws_every_seed(seeds):
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    line = figures.Line("one", {"color": "C0", "marker": "o", "ls": "-"}, "accuracy/tiny500", pd.Series(dtype=float),
                        runs_of([68, 35, 66, 34, 67][:seeds])[seeds:])  # fmt: skip
    figures.draw_ours(ax, line)
    drawn = [tuple(one.get_ydata()) for one in ax.lines]
    assert {(30, 30, right) for right in [68, 35, 66, 34, 67][:seeds]} <= set(drawn) and len(drawn) == seeds + 1
