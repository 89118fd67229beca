"""Rankings of a pool, and how certain they are."""

import csv
from pathlib import Path

import numpy as np
import pytest

from rlvr import select
from rlvr.cli import command

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
HISTORY = {"a": [0.5, 0.5], "b": [0.0, 1.0], "c": [], "d": [1.0, 1.0, 1.0], "e": [0.25, 0.75]}


def test_scores_by_hand():
    accuracies = select.padded(list(HISTORY.values()))
    assert select.score(accuracies, "variance").tolist() == [0, 0.25, -np.inf, 0, 0.0625]
    assert select.score(accuracies, "mean_near_half").tolist() == [0, 0, -np.inf, -0.5, 0]
    # The pool's curve: visit 1 mean of .5 0 1 .25, visit 2 of .5 1 1 .75, visit 3 of 1.
    first, second = 0.4375, 0.8125
    norm = (1 - first) ** 2 + (1 - second) ** 2
    b = 1 - ((0 - first) ** 2 + (1 - second) ** 2) / norm
    assert select.score(accuracies, "limr")[1] == pytest.approx(b)
    assert select.score(accuracies, "limr")[3] == pytest.approx(0)  # 1 - norm / norm


def test_ties_keep_their_order_and_the_unvisited_come_last():
    ranking = select.rank(HISTORY, "variance", bootstrap=0)
    assert ranking.index == ["b", "e", "a", "d", "c"]
    assert ranking.visits == [2, 2, 2, 3, 0]


def test_random_is_seeded():
    orders = [select.rank(HISTORY, "random", seed=seed).index for seed in (0, 0, 1, 2, 3)]
    assert orders[0] == orders[1] and any(order != orders[0] for order in orders)
    assert sorted(orders[0][:4]) == ["a", "b", "d", "e"] and orders[0][-1] == "c"


def test_bootstrap_interval_widens_with_few_visits():
    """An example far above the others keeps its rank when it was visited often, not when twice."""
    generator = np.random.default_rng(0)
    others = {str(i): generator.choice([0.5, 0.625], 50).tolist() for i in range(30)}
    often = select.rank({"x": [0.0, 1.0] * 25, **others}, "variance", bootstrap=200)
    seldom = select.rank({"x": [0.0, 1.0], **others}, "variance", bootstrap=200)
    assert often.index[0] == seldom.index[0] == "x"
    assert (often.rank_low[0], often.rank_high[0]) == (1, 1)
    assert seldom.rank_high[0] == 31


@pytest.mark.skipif(not DATA.exists(), reason="the authors' files are not beside the checkout")
def test_the_papers_order_from_the_command(tmp_path, capsys):
    out = tmp_path / "ranking.csv"
    history = DATA / "train" / "acc_step_500.json"
    assert command(select.Options, select.select, None, [f"history={history}", f"out={out}", "bootstrap=50"]) == 0
    rows = list(csv.DictReader(out.open()))
    place = {row["index"]: int(row["rank"]) for row in rows}
    assert [place[index] for index in ("124", "267", "682", "789")] == [1, 2, 13, 1209]
    assert out.with_suffix(".png").stat().st_size > 10_000
    first = rows[0]
    assert (first["variance"], first["mean_accuracy"], first["visits"]) == ("0.165450", "0.4410", "53")
    assert int(first["rank_high"]) <= 3 < int(rows[12]["rank_high"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["history=nowhere.json"], "history=nowhere.json: cannot be read"),
        (["run=nowhere"], "has no rollouts; give a run of +experiment=full_set"),
        (["run=nowhere", "method=best"], "method=best: expected one of variance, mean_near_half, limr, random"),
        (["run=nowhere", "bootstrap=many"], "bootstrap=many: expected a whole number"),
    ],
)
def test_mistakes(arguments, message, tmp_path, capsys):
    assert command(select.Options, select.select, None, [*arguments, f"out={tmp_path / 'r.csv'}"]) == 1
    assert message in capsys.readouterr().err


def test_the_tiny_ranking_is_whole():
    from rlvr.data.pools import ranking

    path = Path(select.__file__).parent / "tiny" / "ranking.csv"
    assert sorted(ranking("tiny", str(path), None)) == list(range(1209))
