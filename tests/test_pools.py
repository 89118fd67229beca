"""Which examples a run trains on, and how an answer is scored. The authors' files are read from ../shared/data."""

from pathlib import Path

import pytest

from rlvr import pools
from rlvr.grading import grade, last_boxed
from rlvr.rewards import compute_score

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="the authors' files are not beside the checkout")


@needs_data
def test_the_papers_ranks():
    ranked = pools.ranking("dsr_sub", None, str(DATA))
    assert [ranked[rank - 1] for rank in (1, 2, 13, 1209)] == [124, 267, 682, 789]
    assert len(ranked) == 1209


@needs_data
@pytest.mark.parametrize(
    ("ranks", "file"),
    [
        ([1], "pi1_r128"),
        ([2], "pi2_r128"),
        ([13], "pi13_r128"),
        ([1209], "pi1209_r128"),
        ([1, 13], "merge_pi1_pi13_r128"),
        ([1, 2, 13, 1209], "merge_pi1_pi2_pi13_pi1209_r128"),
    ],
)
def test_training_rows_are_the_authors(ranks, file):
    import pyarrow.parquet as pq

    pool = pools.load_pool("dsr_sub", str(DATA))
    rows = pools.training_rows(
        pools.chosen_rows(pool, pools.ranking("dsr_sub", None, str(DATA)), ranks), 128, None
    )
    theirs = pq.read_table(DATA / "train" / f"{file}.parquet").to_pylist()
    assert len(rows) == len(theirs) == 128
    for our, their in zip(rows, theirs, strict=True):
        assert (our["prompt"], our["reward_model"], our["ability"]) == (
            their["prompt"],
            their["reward_model"],
            their["ability"],
        )
        assert our["extra_info"]["index"] == their["extra_info"]["index"]


def test_ranking_by_variance():
    history = {"a": [0.5, 0.5], "b": [0, 1], "c": [], "d": [1, 1], "e": [0.25, 0.75, 0.25, 0.75]}
    assert pools.rank_by_variance(history) == ["b", "e", "a", "d", "c"]


def test_a_batch_is_filled_in_blocks_and_a_label_replaces_every_answer():
    chosen = [{"index": i, "prompt": f"q{i}", "answer": str(i), "rank": i + 1} for i in range(3)]
    rows = pools.training_rows(chosen, 8, "4")
    assert [row["extra_info"]["rank"] for row in rows] == [1, 1, 1, 2, 2, 2, 3, 3]
    assert {row["reward_model"]["ground_truth"] for row in rows} == {"4"}
    assert len(pools.training_rows(chosen, 2, None)) == 3


@pytest.mark.parametrize(
    ("response", "gold", "expected"),
    [
        ("so \\boxed{12}", "12", (1.0, "correct")),
        ("first \\boxed{3}, no: \\boxed{12}.", "12", (1.0, "correct")),
        ("\\boxed{12} or rather \\boxed{13}", "12", (0.0, "wrong")),
        ("\\boxed{\\frac{1}{2}}", "0.5", (1.0, "correct")),
        ("\\boxed{012}", "12", (1.0, "correct")),
        ("the answer is 12", "12", (0.0, "no_answer")),
        ("\\boxed{12", "12", (0.0, "no_answer")),
        ("\\boxed{}", "12", (0.0, "no_answer")),
    ],
)
def test_grade(response, gold, expected):
    assert grade(response, gold) == expected


def test_last_boxed_matches_braces():
    assert last_boxed("\\boxed{a{b}c} \\boxed{x") == "a{b}c"
    assert last_boxed("nothing") is None


def test_the_format_rule_rewards_any_answer_in_training_and_none_in_evaluation():
    wrong = {"data_source": "train", "solution_str": "\\boxed{7}", "ground_truth": "12"}
    assert compute_score(**wrong, rule="outcome")["score"] == 0
    assert compute_score(**wrong, rule="format")["score"] == 1
    assert compute_score(**wrong, rule="format")["acc"] == 0
    assert compute_score(**wrong, extra_info={"split": "test"}, rule="format")["score"] == 0
    unboxed = {**wrong, "solution_str": "it is 12"}
    assert compute_score(**unboxed, rule="format")["score"] == 0
