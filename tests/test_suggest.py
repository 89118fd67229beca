"""Rankings of a pool, and how certain they are."""

import csv
import json
from pathlib import Path

import authors_data
import numpy as np
import pytest

from rlvr import suggest
from rlvr.cli import command
from rlvr.data.own_examples import read_examples
from rlvr.evaluate import ranking

HISTORY = {"a": [0.5, 0.5], "b": [0.0, 1.0], "c": [], "d": [1.0, 1.0, 1.0], "e": [0.25, 0.75]}


def test_scores_by_hand():
    accuracies = ranking.padded(list(HISTORY.values()))
    assert ranking.score(accuracies, "variance").tolist() == [0, 0.25, -np.inf, 0, 0.0625]
    assert ranking.score(accuracies, "mean_near_half").tolist() == [0, 0, -np.inf, -0.5, 0]
    # The pool's curve: visit 1 mean of .5 0 1 .25, visit 2 of .5 1 1 .75, visit 3 of 1.
    first, second = 0.4375, 0.8125
    norm = (1 - first) ** 2 + (1 - second) ** 2
    b = 1 - ((0 - first) ** 2 + (1 - second) ** 2) / norm
    assert ranking.score(accuracies, "limr")[1] == pytest.approx(b)
    assert ranking.score(accuracies, "limr")[3] == pytest.approx(0)  # 1 - norm / norm


def test_ties_keep_their_order_and_the_unvisited_come_last():
    ranked = ranking.rank(HISTORY, "variance", bootstrap=0)
    assert [row["index"] for row in ranked] == ["b", "e", "a", "d", "c"]
    assert [row["visits"] for row in ranked] == [2, 2, 2, 3, 0]
    assert [ranking.as_text(row)["score"] for row in ranked] == ["0.250000", "0.062500", "0.000000", "0.000000", ""]


def test_random_is_seeded():
    orders = [[row["index"] for row in ranking.rank(HISTORY, "random", seed=seed)] for seed in (0, 0, 1, 2, 3)]
    assert orders[0] == orders[1] and any(order != orders[0] for order in orders)
    assert sorted(orders[0][:4]) == ["a", "b", "d", "e"] and orders[0][-1] == "c"


def test_bootstrap_interval_widens_with_few_visits():
    """An example far above the others keeps its rank when it was visited often, not when twice."""
    generator = np.random.default_rng(0)
    others = {str(i): generator.choice([0.5, 0.625], 50).tolist() for i in range(30)}
    often = ranking.rank({"x": [0.0, 1.0] * 25, **others}, "variance", bootstrap=200)
    seldom = ranking.rank({"x": [0.0, 1.0], **others}, "variance", bootstrap=200)
    assert often[0]["index"] == seldom[0]["index"] == "x"
    assert (often[0]["rank_low"], often[0]["rank_high"]) == (1, 1)
    assert seldom[0]["rank_high"] == 31


def test_a_history_is_ranked_by_the_command(tmp_path, data_root):
    out = tmp_path / "ranking.csv"
    history = data_root / "train" / "acc_step_500.json"
    assert command(suggest.Options, suggest.suggest, None, [f"history={history}", f"out={out}", "bootstrap=50"]) == 0
    rows = list(csv.DictReader(out.open()))
    assert [int(row["index"]) for row in rows[:16]] == authors_data.FIRSTS
    assert (int(rows[-1]["index"]), rows[-1]["rank"]) == (authors_data.LAST, "1209")
    assert out.with_suffix(".png").stat().st_size > 10_000
    first = rows[0]
    assert (first["variance"], first["mean_accuracy"], first["visits"]) == ("0.250000", "0.5000", "48")
    assert int(first["rank_high"]) <= 3 < int(rows[12]["rank_high"])


def test_solve_rates_by_hand():
    order, low, high = ranking.solve_rates(np.array([0, 16, 31, 8, 16]), 32, 2000, seed=0)
    assert order.tolist() == [1, 4, 3, 2, 0]  # 1/2 first, ties in their order, 1/4, 31/32, 0
    assert (low <= high).all() and low[1] < 1.5 and high[1] < 4 < high[0]
    # 0.5 against 0.3: 0.04 = 1.96 standard errors; (2 (0.25)^2 + 2 (0.21)^2) / n^2 + 0.16 * 0.21 / n
    n = ranking.samples_to_tell(0.5, 0.3)
    standard_error = ((2 * 0.25**2 + 2 * 0.21**2) / n**2 + 0.16 * 0.21 / n) ** 0.5
    assert 1.96 * standard_error <= 0.04 < 1.96 * standard_error * (n / (n - 1))
    assert ranking.samples_to_tell(0.3, 0.7) is None


def test_a_pool_is_ranked_by_the_base_models_own_answers(tmp_path, capsys, monkeypatch):
    """The tiny pool's first examples, one with a label that nobody reaches: the order is that of the stored answers."""
    from rlvr.evaluate import inference_engines
    from rlvr.runs import samples
    from rlvr.tiny import datasets

    rows = [{"question": e["question"], "answer": e["answer"]} for e in datasets.load("pool")[:6]]
    rows.append({"question": rows[0]["question"] + " ", "answer": "987654321"})
    pool, out = tmp_path / "pool.jsonl", tmp_path / "best.jsonl"
    pool.write_text("\n".join(map(json.dumps, rows)))
    arguments = [f"pool={pool}", f"out={out}", "samples=8", "top=2"]
    assert command(suggest.Options, suggest.suggest, None, arguments) == 0
    shown = capsys.readouterr().out
    (file,) = out.with_suffix(".answers").glob("eval/pool_*/step000000.parquet")
    stored = samples.rows(file)
    right = [sum(row["score"] for row in stored if row["id"] == str(i)) for i in range(7)]
    ranked = list(csv.DictReader((tmp_path / "best_ranking.csv").open()))
    assert [float(row["solve_rate"]) for row in ranked] == [right[int(row["index"])] / 8 for row in ranked]
    assert [float(row["variance"]) for row in ranked] == sorted((r / 8 * (1 - r / 8) for r in right), reverse=True)
    assert right[6] == 0 and "labels are never reached" in shown and "7)" in shown and "ranks 1 and 2: " in shown
    best = read_examples(out)
    assert [one["question"] for one in best] == [row["question"].strip() for row in ranked[:2]]
    monkeypatch.setattr(inference_engines, "start", None)  # the answers are there
    assert command(suggest.Options, suggest.suggest, None, arguments) == 0
    assert "all answers are stored already" in capsys.readouterr().out
    pool.write_text(json.dumps({"question": "q", "answer": "\\frac{1}{2"}))
    assert command(suggest.Options, suggest.suggest, None, arguments) == 1
    assert "example 1: label '\\\\frac{1}{2': the grader cannot read it" in capsys.readouterr().err


@pytest.mark.parametrize("max_tokens", [None, 3])
def test_answers_are_as_long_as_max_tokens_or_the_scale_allows(max_tokens, tmp_path):
    from rlvr.runs import samples

    pool, out = tmp_path / "pool.jsonl", tmp_path / "best.jsonl"
    pool.write_text(json.dumps({"question": "What is 7*8?", "answer": "56"}))
    asked = [f"pool={pool}", f"out={out}", "samples=4", *([f"max_tokens={max_tokens}"] if max_tokens else [])]
    assert command(suggest.Options, suggest.suggest, None, asked) == 0
    (file,) = out.with_suffix(".answers").glob("eval/pool_*/step000000.parquet")
    lengths = [row["response_tokens"] for row in samples.rows(file)]
    assert max(lengths) == 3 if max_tokens else max(lengths) > 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["history=nowhere.json", "pool=x.jsonl"], "give pool=<your examples>, or run="),
        (["pool=nowhere.jsonl"], "pool=nowhere.jsonl: no such file"),
        (["history=nowhere.json"], "history=nowhere.json: cannot be read"),
        (["pool=x.jsonl", "out=x.jsonl"], "out=x.jsonl: would overwrite x.jsonl"),
        (["pool=x_ranking.csv", "out=x.csv"], "out=x.csv: would overwrite x_ranking.csv"),
        (["history=nowhere.json", "out=r.png"], "out=r.png: expected .csv for a ranking of visits"),
        (["run=nowhere"], "has no rollouts; give a run of +experiment=full_set"),
        (["run=nowhere", "method=best"], "method=best: expected one of variance, mean_near_half, limr, random"),
        (["run=nowhere", "bootstrap=many"], "bootstrap=many: expected a whole number"),
    ],
)
def test_mistakes(arguments, message, tmp_path, capsys):
    assert command(suggest.Options, suggest.suggest, None, [f"out={tmp_path / 'r.csv'}", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_the_tiny_ranking_is_whole():
    from rlvr.data import pools

    path = Path(suggest.__file__).parent / "tiny" / "ranking.csv"
    assert sorted(pools.ranking("tiny", str(path), None)) == list(range(1209))
