"""What the real files hold. None is committed: they are read from ../shared/data, and without that folder nothing runs here.

What reads them is tested everywhere, with generated files of the same format (authors_data.py).
"""

import csv
import hashlib
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rlvr import suggest
from rlvr.cli import DataError, command
from rlvr.config.compose import compose
from rlvr.data import downloads, pools, protocols
from rlvr.grading import check_labels, grade, grade_many, last_boxed
from rlvr.planning.plan import plan

TESTS = Path(__file__).resolve().parent
DATA = TESTS.parents[1] / "shared" / "data"
if not DATA.exists():
    pytest.skip("the authors' files are not beside the checkout, in ../shared/data", allow_module_level=True)
RANKS = {1: 124, 2: 267, 13: 682, 1209: 789}  # the paper's pi1, pi2, pi13 and pi1209


def test_a_download_must_match_these_files():
    for name, (_, sha256) in downloads.AUTHORS_FILES.items():
        assert hashlib.sha256((DATA / name).read_bytes()).hexdigest() == sha256, name


def test_the_papers_ranks(tmp_path):
    ranked = pools.ranking("dsr_sub", None, str(DATA))
    assert {rank: ranked[rank - 1] for rank in RANKS} == RANKS and len(ranked) == 1209
    cfg = compose("+experiment=one_shot", "pool=dsr_sub", "train_set=pi1_to_pi16", f"data_root={DATA}")
    firsts = [124, 267, 531, 931, 212, 25, 568, 131, 649, 724, 875, 925, 682, 100, 291, 50]
    assert [row["index"] for row in plan(cfg).problems.chosen] == firsts
    out = tmp_path / "ranking.csv"
    history = DATA / "train" / "acc_step_500.json"
    assert command(suggest.Options, suggest.suggest, None, [f"history={history}", f"out={out}", "bootstrap=50"]) == 0
    rows = list(csv.DictReader(out.open()))
    assert [int(row["index"]) for row in rows] == ranked
    assert (rows[0]["variance"], rows[0]["mean_accuracy"], rows[0]["visits"]) == ("0.165450", "0.4410", "53")
    assert int(rows[0]["rank_high"]) <= 3 < int(rows[12]["rank_high"])


def test_training_rows_are_the_authors():
    files = {"pi1": [1], "pi2": [2], "pi13": [13], "pi1209": [1209], "merge_pi1_pi13": [1, 13]}
    files["merge_pi1_pi2_pi13_pi1209"] = list(RANKS)
    pool = {"source": "dsr_sub", "ranking": None}
    for name, ranks in files.items():
        rows = pools.training_rows(pools.ranked_rows(pool, str(DATA), ranks), 128)
        theirs = pq.read_table(DATA / "train" / f"{name}_r128.parquet").to_pylist()
        assert len(rows) == len(theirs) == 128, name
        for our, their in zip(rows, theirs, strict=True):
            their.pop("source_file", None)  # which file the authors merged a row from
            assert {column: our[column] for column in their} == their, name
            assert set(our) - set(their) == {"rank", "subject", "true_answer"}


def test_row_265_has_no_label_and_three_rows_are_the_same():
    rows = pools.load_pool("dsr_sub", str(DATA))
    assert [row["index"] for row in rows if not row["answer"]] == [265]
    assert len({(rows[i]["prompt"], rows[i]["answer"]) for i in (136, 780, 899)}) == 1
    assert all(row["prompt"].endswith(pools.INSTRUCTION) for row in rows)


GOLDS = {
    "math500": ("test/precalculus/807.json", r"\left( 3, \frac{\pi}{2} \right)"),
    "aime24": ("aime24/67", "25"),  # the file has 025
    "amc23": ("amc23/0", "27"),  # the file has 27.0
    "aime25": ("aime25/19", r"336^\circ"),
    "minerva_math": ("minerva/0", "1.6"),
    "olympiadbench": ("olympiadbench/1610", r"\frac{1}{2 n+2}"),  # without its dollars
    "arc_easy": ("Mercury_417466", "A"),
}


def test_golds_of_the_benchmarks():
    for name, (id, gold) in GOLDS.items():
        (row,) = protocols.select(name)
        examples, left_out, _ = protocols.load(row, str(DATA))
        assert {example["id"]: example["answer"] for example in examples}[id] == gold
        assert (len(examples), left_out) == (row.problems, 0)
    raw = [json.loads(line) for line in (DATA / "arc" / "ARC-Easy-Test.jsonl").read_text().splitlines()]
    digits = [r for r in raw if r["answerKey"].isdigit()]
    assert len(digits) == 97
    by_id = {example["id"]: example for example in examples}
    for r in digits:
        example, place = by_id[r["id"]], int(r["answerKey"]) - 1
        assert example["answer"] == "ABCDE"[place]
        assert f"{example['answer']}) {r['choices']['text'][place]}" in example["question"]


def test_every_label_answers_itself_but_two_that_are_broken():
    labels = {row["answer"] for row in pools.load_pool("dsr_sub", str(DATA))}
    for row in protocols.select("paper"):
        labels |= {example["answer"] for example in protocols.load(row, str(DATA))[0]}
    math500 = [json.loads(line) for line in (DATA / "eval" / "math500.jsonl").read_text().splitlines()]
    labels |= {last_boxed(row["solution"]) for row in math500}
    found = zip(labels, check_labels(list(labels), shipped=True), strict=True)
    refused = {label for label, one in found if isinstance(one, DataError)}
    assert refused == {"", "\\frac{2 k n}{n+k-1}-2 \\frac{k!n!}{(k+n-1)!"}  # no label; no last brace
    whole = sorted(labels - refused)
    assert len(whole) > 1500
    verdicts = grade_many([f"\\boxed{{{label}}}" for label in whole], whole)
    assert [label for label, verdict in zip(whole, verdicts, strict=True) if verdict != (1.0, "correct")] == []


def test_labelled_cases_and_the_table_of_those_that_the_grader_fails():
    cases = [json.loads(line) for line in (DATA / "grader_cases.jsonl").read_text().splitlines()]
    failures, false_positives = {}, []
    for case in cases:
        response = f"\\boxed{{{case['pred']}}}" if case["kind"] == "pair" else case["pred"]
        strict = case["kind"] == "pair" or case.get("tag") == "box-required"
        score, _ = grade(response, case["gold"], require_box=strict)
        if bool(score) != case["expected"]:
            failures[case["id"]] = case["tier"]
            if score and case["tier"] == "core":
                false_positives.append(case["id"])
    core = sum(case["tier"] == "core" for case in cases)
    assert false_positives == []
    assert 1 - list(failures.values()).count("core") / core >= 0.95
    assert 1 - len(failures) / len(cases) >= 0.89
    with (TESTS / "grading" / "grader_failures.csv").open() as file:
        assert set(failures) == {int(row["id"]) for row in csv.DictReader(file)}
