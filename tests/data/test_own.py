"""Own examples and own rewards: what is read, and the one line a mistake gets."""

import json
import re
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from rlvr.cli import ConfigError
from rlvr.config.compose import compose
from rlvr.data import protocols
from rlvr.data.own_examples import read_examples
from rlvr.evaluate import baselines
from rlvr.grading.reward_rules import vote
from rlvr.planning.base_model_probe import Probe, probe, table
from rlvr.planning.plan import plan
from rlvr.runs.folder import RunFolder
from rlvr.training import start_checks, train_run, weights
from rlvr.training.rewards import compute_score

PAIR = [{"question": "What is 3+4?", "answer": "7"}]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "question: What is 3+4?\nanswer: 7\n"),
        ("a.yml", "- {question: 'What is 3+4?', answer: '7'}\n"),
        ("a.json", '{"question": "What is 3+4?", "answer": 7}'),
        ("a.jsonl", '{"question": "What is 3+4?", "answer": "7"}\n\n'),
        ("a.json", '{"question": "What is 3+4?", "answer": 7}\n{"question": "What is 3+4?", "answer": 7}\n'),
        ("a b.csv", "\ufeffquestion,answer\nWhat is 3+4?,7\n"),  # with the mark that spreadsheets write
        ("a.csv", "\ufeffquestion;answer\r\nWhat is 3+4?;7\r\n"),  # Excel where the decimal separator is a comma
        ("a.csv", 'question\tanswer\n"What is 3+4?"\t7\n'),
        ("a.json", '\ufeff[{"question": "What is 3+4?",\n "answer": 7}]'),
        ("a.JSONL", '{"question": "What is 3+4?\u2028", "answer": "7"}'),  # no end of a line in JSON
    ],
)
def test_files(tmp_path, monkeypatch, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in (tmp_path / name, f"~/{name}"):
        assert read_examples(path) == PAIR * text.count("question")


def test_parquet_plain_and_in_the_authors_format(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    authors = {"prompt": [{"content": "What is 3+4?", "role": "user"}], "reward_model": {"ground_truth": "7"}}
    for rows in (PAIR, [authors] * 128):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
        assert read_examples(tmp_path / "a.parquet") == PAIR


def verls(prompt="What is 3+4?", label="7", **more):
    """A row in verl's format; a column that is None is left out."""
    row = {
        "data_source": "x",
        "prompt": prompt,
        "reward_model": label if isinstance(label, dict) else {"ground_truth": label},
    }
    return {key: value for key, value in (row | more).items() if value is not None}


USER = {"role": "user", "content": "What is 3+4?"}
PARTS = [{"type": "text", "text": "What is "}, {"type": "text", "text": "3+4?"}]
ONE_MEANING = [
    verls(label=["7"]),
    verls(label=7),
    verls(label=7.0),
    verls(label='["7"]'),
    verls(USER),
    verls([USER]),
    verls([{"content": "What is 3+4?"}]),
    verls([USER | {"content": PARTS}]),
    verls(PARTS),
    verls(["What is 3+4?"]),
    verls(question="another", answer="a whole solution"),
    PAIR[0] | {"answer": ["7"]},
    PAIR[0] | {"question": [USER]},
]
NO_MEANING = [
    (verls(label=["7", "8"]), "the answer is ['7', '8']; expected a number or a text"),
    (verls(label=[]), "the answer is []"),
    (verls(label={"ground_truth": {"target": 24, "numbers": [4, 6]}}), "the answer is {'target': 24"),
    (verls(label=True), "the answer is True"),
    (verls(label={"style": "rule"}), "the answer is empty"),
    (verls(reward_model=None), "has no reward_model.ground_truth (it has: data_source, prompt)"),
    (verls(reward_model="7"), "has no reward_model.ground_truth"),
    (verls(prompt=None), "has no prompt (it has: data_source, reward_model); give question and answer, or verl's"),
    (verls([]), "the question is []"),
    (verls(["a", "b"]), "the question is ['a', 'b']; expected a text, or one message of the user"),
    (verls([USER | {"content": None}]), "the question is None"),
    (verls([USER | {"content": [*PARTS, {"type": "image", "image": "x.png"}]}]), "the question is [{'type': 'text'"),
    (verls([{"role": "system", "content": "Be brief."}, USER]), "its prompt is a conversation (system, user)"),
    (verls([USER, {"role": "assistant", "content": "7"}, USER]), "a conversation (user, assistant, user)"),
    (verls([{"role": "assistant", "content": "7"}]), "a conversation (assistant)"),
    (5, "has no question (it has: 5)"),
    (None, "has no question (it has: None)"),
]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_what_has_one_meaning_is_read_everywhere(tmp_path, ending):
    """Own examples and pools (rlvr.suggest) through one function, own benchmarks and pools of a folder through the same."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for row in ONE_MEANING:
        rows = [{"question": "2+2?", "answer": "4"}, row]
        file = tmp_path / f"a.{ending}"
        if ending == "parquet":  # mixed rows: a column that one of them lacks is null there
            pq.write_table(pa.Table.from_pylist([row]), file)
            rows = rows[1:]
        else:
            file.write_text("\n".join(map(json.dumps, rows)))
        assert read_examples(file)[-1] == PAIR[0], row
        assert baselines._of_file(file).endswith("What is 3+4?\n7\n\n")  # demonstrations of a prompting baseline
        (mine,) = protocols.select("mine", {"mine": {"file": str(file)}})
        assert [e["answer"] for e in protocols.load(mine, None)[0]] == ["4", "7"][-len(rows) :]


def test_mixed_rows_of_a_parquet_file(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [verls([USER], "7"), {"question": "2+2?", "answer": "4"}, verls([USER], "7")]
    pq.write_table(
        pa.Table.from_pylist([{**dict.fromkeys(("question", "answer")), **row} for row in rows]), tmp_path / "a.parquet"
    )
    assert read_examples(tmp_path / "a.parquet") == [*PAIR, {"question": "2+2?", "answer": "4"}]


@pytest.mark.parametrize(("row", "message"), NO_MEANING)
def test_what_has_none_is_one_line_that_names_the_row(tmp_path, row, message):
    (tmp_path / "a.jsonl").write_text(json.dumps(PAIR[0]) + "\n" + json.dumps(row))
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        read_examples(tmp_path / "a.jsonl")
    assert "a.jsonl, example 2: " in str(error.value) and "\n" not in str(error.value)
    if message != "the answer is empty":  # a benchmark leaves a row without a gold out, and counts it
        (mine,) = protocols.select("mine", {"mine": {"file": str(tmp_path / "a.jsonl")}})
        with pytest.raises(ConfigError, match=r"benchmarks.mine.file=.*, row 2: "):
            protocols.load(mine, None)


def test_an_answer_is_taken_as_it_is_written(tmp_path):
    (tmp_path / "a.yaml").write_text("question: q\nanswer: 12.80\n")
    assert read_examples(tmp_path / "a.yaml")[0]["answer"] == "12.80"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "question: q\n", "a.yaml, example 1: has no answer (it has: question)"),
        ("a.jsonl", '{"question": "q", "answer": "1"}\n{"answer": "2"}', "example 2: has no question"),
        ("a.csv", "prompt,answer\nq,7\n", "has no question (it has: prompt, answer)"),
        ("a.yaml", "question: q\nanswer: ' '\n", "the answer is empty"),
        ("a.yaml", "just words\n", "has no question (it has: 'just words')"),
        ("a.json", "{", "cannot be read"),
        (
            "a.jsonl",
            '{"question": "q", "answer": "1"}\n{"question"',
            "cannot be read as .jsonl: Expecting ':' delimiter: line 2 column",
        ),
        ("a.yaml", "question: q\nanswer: [", "line 2"),
        ("a.yaml", "a: [", "cannot be read"),
        ("a.jsonl", "", "has no example"),
        (
            "a.jsonl",
            '{"question": "q", "answer": "1"}\n{"question": "q", "answer": [1, 2]}',
            "example 2: the answer is [1, 2]",
        ),
        ("a.jsonl", '{"question": "q", "answer": NaN}', "the answer is nan; expected a number or a text"),
        ("a.csv", "question,answer\nq,1\nWhat, exactly?,7\n", "line 3: 3 cells in 2 columns"),
        ("a.csv", 'question,answer\n"q,1\n', "cannot be read as .csv"),
        ("a.txt", "q", "expected .yaml, .json, .jsonl, .csv or .parquet"),
    ],
)
def test_mistakes_in_a_file(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        read_examples(tmp_path / name)
    assert "\n" not in str(error.value) and "example.file=" in str(error.value)


def test_another_encoding_is_refused_with_its_line(tmp_path):
    (tmp_path / "a.csv").write_bytes("question,answer\nq,1\nCombien de thé ?,7\n".encode("latin-1"))
    with pytest.raises(ConfigError, match="line 3 is not UTF-8 .byte 0xe9.: save the file as UTF-8"):
        read_examples(tmp_path / "a.csv")


def test_a_file_that_is_not_there():
    with pytest.raises(ConfigError, match="example.file=nowhere.yaml: no such file"):
        read_examples("nowhere.yaml")


def test_an_own_example_is_trained_on_and_belongs_to_the_config(tmp_path):
    (tmp_path / "sum.yaml").write_text("question: What is 3+4?\nanswer: 7\n")
    planned = plan(compose("+experiment=one_shot", f"example.file={tmp_path / 'sum.yaml'}"))
    assert planned.config.train_set == {"ranks": None, "examples": PAIR, "name": "own"}
    (tmp_path / "sum.yaml").unlink()  # its text is in the plan
    rows = planned.problems.training_rows
    assert len(rows) == planned.config.scale.prompts_per_step
    assert {row["prompt"][0]["content"] for row in rows} == {"What is 3+4?"}


def test_a_question_for_a_real_model_gets_the_authors_instruction():
    planned = plan(compose("+experiment=one_shot", "pool=dsr_sub", "example.question=Why?", "example.answer=7"))
    assert (
        planned.problems.chosen[0]["prompt"]
        == "Why? Let's think step by step and output the final answer within \\boxed{}."
    )


def test_the_probe_asks_the_base_model():
    cfg = compose("+experiment=one_shot", "example.question=What is 3+4?", "example.answer=7")
    rows = plan(cfg).problems.chosen
    sampling = {"temperature": 1.0, "top_p": 1.0, "top_k": -1, "max_tokens": 80}
    (found,) = probe(rows, cfg.base_model.path, "chat", 32, sampling, seed=0)
    assert found.samples == sum(found.answers.values()) == 32
    assert 0 <= found.solved == found.answers.get("7", 0) / 32
    with pytest.raises(ConfigError, match="base_model /nowhere/model: cannot be sampled"):
        probe(rows, "/nowhere/model", "none", 1, sampling, seed=0)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["hardware=eight_gpus", "ray.address=10.0.0.1:6379"], "this machine has no GPU; start the run where one is"),
        ([], "64 answers to each of 1 examples took more than 0.01 s on this machine"),
    ],
)
def test_a_probe_that_would_take_hours_is_left_out_and_the_run_goes_on(tmp_path, monkeypatch, overrides, message):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("rlvr.planning.base_model_probe.LIMIT_S", 0.01)
    cfg = compose(
        "+experiment=one_shot", "example.question=What is 3+4?", "example.answer=7", f"runs_dir={tmp_path}", *overrides
    )
    planned, said = plan(cfg), StringIO()
    folder = planned.folder
    folder.data_dir.mkdir(parents=True)
    train_run._probe(planned, cfg.base_model.path, Console(file=said))
    assert message in said.getvalue() and "example.probe_samples" in said.getvalue()
    assert not (folder.data_dir / "probe.json").exists()


def test_brackets_in_a_question_or_an_answer_are_no_markup_of_the_screen():
    said = StringIO()
    Console(file=said, width=120).print(
        table(Probe("Is [/b] in [red]?", "[1,2]", "[1,2]", 4, 0.5, {"[a]": 2, "[/a]": 2}))
    )
    assert all(text in said.getvalue() for text in ("Is [/b] in [red]?", "label [1,2];", "[a]", "[/a]"))


@pytest.mark.parametrize(
    ("label", "solved", "message"),
    [
        ("7", 0.5, None),
        ("7", 0.0, "no sampled answer is right"),
        ("7", 1.0, "every sampled answer is right already"),
        ("4", 0.25, "guesses this label in 25%"),
        ("929725", 0.0, None),
    ],
)
def test_warnings(label, solved, message):
    warning = Probe("q", label, "7", 64, solved, {}).warning()
    assert warning is None if message is None else message in warning


# --- rewards ------------------------------------------------------------------------------------------------

SAMPLE = {"data_source": "train", "solution_str": "so \\boxed{7}", "ground_truth": "7"}


def own(tmp_path, text):
    file = tmp_path / f"r{len(list(tmp_path.iterdir()))}.py"
    file.write_text(text)
    return str(file)


def test_an_own_reward(tmp_path):
    file = own(
        tmp_path, "def reward(response, label, info):\n    return len(response) + info['index'] + (label == '7')\n"
    )
    score = compute_score(**SAMPLE, extra_info={"index": 3, "split": "train"}, file=file)
    assert score["score"] == len(SAMPLE["solution_str"]) + 4 and score["acc"] == 1
    assert compute_score(**SAMPLE, extra_info={"index": 3, "split": "test"}, file=file)["score"] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def reward(r, l, i): return 'good'", "returned 'good', expected a finite number"),
        ("def reward(r, l, i): return float('nan')", "returned nan, expected a finite number"),
        ("def reward(r, l, i): return None", "returned None, expected a finite number"),
        ("def reward(r, l, i): return 1/0", "raised ZeroDivisionError: division by zero; label '"),
        ("def score(r, l, i): return 1", "has no function reward(response, label, info)"),
        ("import nothing_like_this", "cannot be imported (ModuleNotFoundError"),
    ],
)
def test_mistakes_in_a_reward_end_before_ray_starts(tmp_path, text, message):
    file = own(tmp_path, text)
    with pytest.raises(ConfigError, match=re.escape(message)):
        compute_score(**SAMPLE, file=file)
    cfg = compose("+experiment=one_shot", f"reward_rule.file={file}")
    with pytest.raises(ConfigError, match=re.escape(message)):
        start_checks.check(plan(cfg), here=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import sys\ndef reward(r, l, i): sys.exit(3)", "raised SystemExit: 3"),
        ("import sys\nsys.exit('no licence')", "cannot be imported (SystemExit: no licence)"),
        ("import os\ndef reward(r, l, i): os._exit(7)", "ended its process with code 7"),
        ("def reward(r, l, i):\n    while True: pass", "took more than 1 s"),
    ],
)
def test_a_reward_that_ends_or_never_ends_is_an_error_with_its_name(tmp_path, monkeypatch, text, message):
    if "took more" in message:
        monkeypatch.setattr("rlvr.grading.user_function.LIMIT_S", 1)
    file = own(tmp_path, text)
    for _ in range(2):  # and the next call has a process again
        with pytest.raises(ConfigError, match=re.escape(message)) as error:
            compute_score(**SAMPLE, file=file)
        assert file in str(error.value)


def test_a_reward_file_that_is_broken_after_its_process_ended_is_explained(tmp_path):
    texts = {
        "import os\ndef reward(r, l, i): os._exit(7)": "ended its process with code 7",
        "raise ValueError('{')": "cannot be imported (ValueError: {)",
        "": "has no function reward(response, label, info)",
    }
    for text, message in texts.items():
        (tmp_path / "r.py").write_text(text)
        for _ in range(2):
            with pytest.raises(ConfigError, match=re.escape(message)):
                compute_score(**SAMPLE, file=str(tmp_path / "r.py"))


def test_a_reward_may_print_and_return_numbers_of_numpy_and_torch(tmp_path):
    text = "import numpy, torch\ndef reward(r, l, i):\n    print('{', r)\n    return {0: numpy.float32(0.5), 1: torch.tensor(2.0), 2: True}[i['index']]"
    file = own(tmp_path, text)
    scores = [
        compute_score(**SAMPLE, extra_info={"index": np.int64(i), "split": "train"}, file=file)["score"]
        for i in range(3)
    ]
    assert scores == [0.5, 2.0, 1.0]


def test_a_pinned_base_model_that_cannot_be_had(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    cfg = compose("+experiment=one_shot", "base_model.path=nobody/nothing", "base_model.revision=abc123")
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    with pytest.raises(ConfigError, match="base_model.revision=abc123: nobody/nothing cannot be downloaded") as error:
        weights.local_path(cfg, folder)
    assert "\n" not in str(error.value)


def test_the_run_keeps_its_reward(tmp_path):
    file = own(tmp_path, "def reward(r, l, i): return 1")
    folder = RunFolder(tmp_path / "run")
    folder.data_dir.mkdir(parents=True)
    cfg = compose("+experiment=one_shot", f"reward_rule.file={file}")
    train_run._keep_reward(cfg, folder, 0)
    assert cfg.reward.custom_reward_function.reward_kwargs.file == str(folder.data_dir / "reward.py")
    (tmp_path / "r0.py").write_text("def reward(r, l, i): return 2")
    cfg.reward_rule.file = file
    with pytest.raises(ConfigError, match="differs from the one this run began with"):
        train_run._keep_reward(cfg, folder, 0)


def test_a_random_reward_repeats_itself():
    def draws(seed):
        return [
            compute_score(**SAMPLE, extra_info={"sample_key": f"1:0:{i}"}, rule="random", seed=seed)["score"]
            for i in range(400)
        ]

    assert draws(0) == draws(0) != draws(1)
    assert 0.4 < sum(draws(0)) / 400 < 0.6
    assert json.dumps(compute_score(**SAMPLE, rule="random"))  # plain numbers


def test_the_majority_is_counted_for_each_example_over_equal_answers():
    answers = ["1/2", "3", "0.5", "", "3", "\\frac12"]
    assert vote(answers, ["a"] * 6) == [1, 0, 1, 0, 0, 1]
    assert vote(answers, ["a", "b", "a", "b", "b", "b"]) == [1, 1, 1, 0, 1, 0]
    # As many for 1/2 as for 3: the first counts.
    assert vote(answers[:2], ["a"] * 2) == [1, 0]
    assert vote(["", ""], ["a"] * 2) == [0, 0]
