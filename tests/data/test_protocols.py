"""The table of protocols, the golds behind it, and a user's own benchmark."""

import json

import pytest

from rlvr.cli import DataError
from rlvr.data import protocols as benchmarks
from rlvr.data.pools import evaluation_rows
from rlvr.grading import grade


def row(name, **overrides):
    return benchmarks.select(name, {name: overrides} if overrides else None)[0]


def own(tmp_path, rows, **keys):
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return benchmarks.select("mine", {"mine": {"file": str(file), **keys}})[0]


def test_protocols_of_the_paper():
    run = {
        "base_model": {"template": "qwen25-math-cot"},
        "scale": {"benchmarks": ["paper"], "max_response_tokens": 3072},
    }
    rows = benchmarks.of_run(run)
    got = {b.name: (b.problems, b.k, b.temperature, b.top_p, b.max_tokens) for b in rows}
    assert got == {
        "math500": (500, 1, 0.0, 1.0, 3072),
        "aime24": (30, 8, 0.6, 1.0, 3072),
        "amc23": (40, 8, 0.6, 1.0, 3072),
        "minerva_math": (272, 1, 0.0, 1.0, 3072),
        "olympiadbench": (675, 1, 0.0, 1.0, 3072),
        "aime25": (30, 8, 0.6, 1.0, 3072),
    }


def test_answers_end_where_the_authors_end_them_unless_the_template_is_not_theirs():
    def stops(template, **changes):
        run = {"base_model": {"template": template}, "scale": {"benchmarks": ["math500"], "max_response_tokens": 3072}}
        (protocol,) = benchmarks.of_run(run | {"benchmarks": {"math500": changes}})
        rows = evaluation_rows([{"id": "1", "question": "q", "answer": "a", "subject": ""}], protocol)
        assert rows[0]["extra_info"]["sampling"].get("stop", []) == protocol.record(0)["stop"]
        return protocol.record(0)["stop"]

    authors = ["</s>", "<|im_end|>", "<|endoftext|>"]
    assert [stops(name) for name in ("qwen25-math-cot", "llama3", "r1-distill")] == [authors] * 3
    assert [stops(name) for name in ("chat", "none")] == [[], []]
    assert (stops("qwen25-math-cot", stop=[]), stops("chat", stop=["#"])) == ([], ["#"])
    with pytest.raises(DataError, match="benchmarks.math500.stop=#: expected a list of texts"):
        stops("chat", stop="#")


@pytest.mark.parametrize(("group", "tokens"), [("r1_8k", 8192), ("r1_32k", 32768)])
def test_protocols_of_r1_distill(group, tokens):
    for b in benchmarks.select(group):
        samples = 64 if b.dataset in ("aime24", "amc23", "aime25") else 16
        assert (b.k, b.temperature, b.top_p, b.max_tokens, b.template) == (samples, 0.6, 0.95, tokens, "r1-distill")


@pytest.mark.parametrize(
    ("name", "id", "gold"),
    [
        ("math500", "test/algebra/3.json", r"\left( 2, \frac{\pi}{3} \right)"),
        ("aime24", "aime24/67", "25"),  # the file has 025
        ("amc23", "amc23/0", "27"),  # the file has 27.0
        ("aime25", "aime25/19", r"45^\circ"),
        ("minerva_math", "minerva/0", "1.6"),  # the last box of the solution
        ("olympiadbench", "olympiadbench/1604", r"\frac{1}{2 n+1}"),  # without its dollars
        ("arc_easy", "Own_2", "C"),
        ("arc_challenge", "Own_25", "B"),  # the file has 2
    ],
)
def test_golds_are_read_as_each_source_writes_them(name, id, gold, data_root):
    examples, left_out, _ = benchmarks.load(row(name), str(data_root))
    assert {example["id"]: example["answer"] for example in examples}[id] == gold
    assert (len(examples), left_out) == (row(name).problems, 0)


def test_arc_labels_that_are_digits_become_letters(data_root):
    examples = {e["id"]: e for e in benchmarks.load(row("arc_easy"), str(data_root))[0]}
    assert (examples["Own_100"]["answer"], examples["Own_175"]["answer"]) == ("B", "D")
    assert "\nA) 100\nB) 101\nC) 102\n" in examples["Own_100"]["question"]


def test_own_jsonl_with_own_columns(tmp_path):
    rows = [{"q": "1+1?", "gold": 2, "topic": "Sums"}, {"q": "half?", "gold": "1/2", "topic": None}]
    mine = own(tmp_path, rows, question="q", answer="gold", subject="topic", k=4, temperature=0.6)
    examples, _, _ = benchmarks.load(mine, None)
    assert [(e["question"], e["answer"], e["subject"]) for e in examples] == [
        ("1+1?", "2", "Sums"),
        ("half?", "1/2", ""),
    ]
    assert (mine.k, mine.temperature) == (4, 0.6)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mine.csv", '\ufeffid,question,answer\nx,"a, b?",007\n'),
        ("my own.yaml", "- {id: x, question: 'a, b?', answer: 007}\n"),
        ("mine.json", '[{"id": "x", "question": "a, b?", "answer": 7.0}]'),
    ],
)
def test_own_file(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    mine = benchmarks.select("mine", {"mine": {"file": str(tmp_path / name)}})[0]
    assert benchmarks.load(mine, None)[0] == [{"id": "x", "subject": "", "question": "a, b?", "answer": "7"}]


def test_a_gold_that_no_natural_answer_matches_is_rewritten_or_refused(tmp_path):
    golds = ["5cm", "12 m^2", "1 1/2", "½", "1.234,50"]
    examples, _, notes = benchmarks.load(own(tmp_path, [{"question": g, "answer": g} for g in golds]), None)
    assert [e["answer"] for e in examples] == ["5cm", "12\\text{ m}^2", "1 1/2", "½", "1234.50"]
    assert len(notes) == 2 and "mine.jsonl, mine/1: label '12 m^2' is read as" in notes[0]
    assert [
        grade("\\boxed{" + a + "}", e["answer"])[0]
        for a, e in zip(("5", "12", "1.5", "0.5", "1{,}234.5"), examples, strict=True)
    ] == [1.0] * 5
    with pytest.raises(
        DataError, match=r"mine.jsonl, mine/0: label '3,5': a decimal or two numbers\?.* \(and 1 more labels\)"
    ):
        benchmarks.load(
            own(tmp_path, [{"question": "a", "answer": "3,5"}, {"question": "b", "answer": "(A) 12"}]), None
        )
    assert benchmarks.load(own(tmp_path, [{"question": "a", "answer": "3,5"}], grader="mine.py:grade"), None)[0]


def test_a_row_without_a_gold_is_left_out_and_counted(tmp_path):
    mine = own(
        tmp_path, [{"question": "a", "answer": "1"}, {"question": "b", "answer": ""}, {"question": "c", "answer": None}]
    )
    examples, left_out, _ = benchmarks.load(mine, None)
    assert ([e["question"] for e in examples], left_out) == (["a"], 2)


def test_rows_without_an_id_are_told_apart_between_two_benchmarks(tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_text('{"question": "a", "answer": "1"}\n{"question": "b", "answer": "2", "id": "own"}')
    rows = benchmarks.select(["one", "two"], {name: {"file": str(file)} for name in ("one", "two")})
    ids = [[example["id"] for example in benchmarks.load(row, None)[0]] for row in rows]
    assert ids == [["one/0", "own"], ["two/0", "own"]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"question": "a", "answer": "1", "id": 1}, {"question": "b", "answer": "2", "id": 1}],
            "id 1 occurs more than once",
        ),
        (
            [{"question": "a", "solution": "1"}],
            r"row 1: has no answer \(it has: question, solution\); benchmarks.mine.question= and",
        ),
        ([{"question": "a", "answer": " "}], "no row has a gold"),
    ],
)
def test_bad_rows_are_named(tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        benchmarks.load(own(tmp_path, rows), None)


@pytest.mark.parametrize(
    ("chosen", "overrides", "message"),
    [
        ("math50", {}, "did you mean math500"),
        ("mine", {"mine": {"fil": "x.jsonl"}}, "did you mean file"),
        ("mine", {"mine": {"limit": 4}}, "a file of your own .YAML, JSON, JSONL, CSV or Parquet."),
        ("tiny500", {"tiny500": {"k": 4}}, "temperature above 0"),
    ],
)
def test_bad_choices_are_explained(chosen, overrides, message):
    with pytest.raises(DataError, match=message):
        benchmarks.select(chosen, overrides)


def test_a_cut_file_is_not_taken_for_the_benchmark(tmp_path):
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval/aime25.jsonl").write_text(json.dumps({"problem": "p", "answer": "1"}) + "\n")
    with pytest.raises(DataError, match="1 rows, expected 30"):
        benchmarks.load(row("aime25"), str(tmp_path))


def test_without_a_network_the_remedy_is_data_root(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    unreachable = row("aime25", source="http://127.0.0.1:9")  # the discard port: refused at once
    with pytest.raises(DataError, match="give data_root="):
        benchmarks.load(unreachable, None)
