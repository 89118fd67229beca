"""Evaluation of real checkpoints of the shipped tiny model: one engine, weights swapped, samples kept, nothing asked twice."""

import csv
import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

import rlvr.tiny
from experiments.timings.synthetic_runs import sample_columns
from rlvr.cli import ConfigError, DataError
from rlvr.data.protocols import load, of_run, select
from rlvr.evaluate import __main__ as evaluate_command
from rlvr.evaluate import answering, checkpoints, inference_engines, metrics
from rlvr.evaluate.answer_store import Store
from rlvr.grading.user_function import load_function
from rlvr.runs import samples
from rlvr.runs.folder import RunFolder
from rlvr.verl_torch.generation import Sampling

MODEL = Path(rlvr.tiny.__file__).parent / "model"
OWN = {"own": {"dataset": "tiny500", "limit": 8}}


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """A run folder with checkpoints at steps 20 and 40: the tiny model with a little noise on its weights."""
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    config = {
        "data_root": None,
        "scale": {"name": "tiny", "max_response_tokens": 24, "benchmarks": ["own"]},
        "benchmarks": OWN,
        "base_model": {"template": "chat"},
        "actor_rollout_ref": {"model": {"path": str(MODEL)}},
    }
    folder.config_path.write_text(yaml.safe_dump(config))
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    torch.manual_seed(0)
    for step in (20, 40):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.002 * torch.randn_like(parameter))
        target = folder.weights_path(step)
        model.save_pretrained(target)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(MODEL / name, target)
    return folder


@pytest.fixture
def run(finished_run, tmp_path):
    shutil.copytree(finished_run.path, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def command(run, *more):
    few = ["benchmarks.a.dataset=validation", "benchmarks.a.limit=12", "benchmarks.a.max_tokens=24"]
    return evaluate_command.main([f"run={run.path}", *few, *more])


def samples_of(run, benchmark, step):
    return pq.read_table(run.eval_path(benchmark, step)).to_pylist()


def test_base_and_every_checkpoint_with_the_answers_of_an_engine_of_their_own(run):
    assert command(run) == 0
    examples = load(select("validation")[0], None)[0][:12]
    for step, path in {0: MODEL, 20: run.weights_path(20), 40: run.weights_path(40)}.items():
        rows = samples_of(run, "a", step)
        alone = inference_engines.start("torch", str(path))
        prompts = [alone.tokenizer(e["question"] + "\n")["input_ids"] for e in examples]
        answers = alone.generate(prompts, [Sampling(24, 0.0)] * 12, lambda responses, tokens: None)
        assert [r["id"] for r in rows] == [e["id"] for e in examples]
        texts = alone.tokenizer.batch_decode([a.token_ids for a in answers], skip_special_tokens=True)
        assert [r["response"] for r in rows] == texts
        assert [r["truncated"] for r in rows] == [a.stop_reason != "completed" for a in answers]
    assert [r["response"] for r in samples_of(run, "a", 0)] != [r["response"] for r in samples_of(run, "a", 40)]
    record = json.loads((run.eval_dir / "a/protocol.json").read_text())
    assert record["protocol"]["max_tokens"] == 24 and record["steps"]["40"]["versions"]["torch"] == torch.__version__
    rows = [r for r in metrics.summary(run.eval_dir) if r["metric"] == "accuracy" and not r["subject"]]
    assert [(r["step"], r["value"]) for r in rows] == [
        (step, sum(r["score"] for r in samples_of(run, "a", step)) / 12) for step in (0, 20, 40)
    ]


def test_asking_again_costs_nothing(run, capsys):
    assert command(run, "steps=last") == 0
    written = {path: path.stat().st_mtime_ns for path in run.eval_dir.rglob("*.parquet")}
    assert command(run, "steps=last", "engine=vllm") == 0  # vLLM is not installed: no engine is started
    assert "all answers are stored already" in capsys.readouterr().out
    assert written == {path: path.stat().st_mtime_ns for path in run.eval_dir.rglob("*.parquet")}


def test_an_interrupted_evaluation_goes_on_and_ends_as_an_uninterrupted_one(run, monkeypatch):
    more = ("steps=0", "benchmarks.a.k=2", "benchmarks.a.temperature=0.6")
    assert command(run, *more) == 0
    whole = samples_of(run, "a", 0)
    shutil.rmtree(run.eval_dir)
    monkeypatch.setattr(answering, "CHUNK", 10)
    judge, asked = answering.grade, []

    def interrupted(grader, responses, golds):
        asked.extend(responses)
        if len(asked) > 10 and len(asked) <= 20:
            raise KeyboardInterrupt
        return judge(grader, responses, golds)

    monkeypatch.setattr(answering, "grade", interrupted)
    assert command(run, *more) == 130
    assert not run.eval_path("a", 0).exists()
    asked.clear()
    monkeypatch.setattr(answering, "grade", lambda *question: (asked.extend(question[1]), judge(*question))[1])
    assert command(run, *more) == 0
    assert len(asked) == 14  # 24 in all, 10 of them kept from before
    assert samples_of(run, "a", 0) == whole
    assert not list((run.eval_dir / "a/partial").glob("*.parquet"))


def test_answers_of_a_large_model_are_stored_batch_by_batch(run, monkeypatch):
    """A batch of a large model can take half an hour on a CPU: an interruption in the second one keeps the first."""
    monkeypatch.setattr(inference_engines, "LARGE_PARAMETERS", 1)
    monkeypatch.setattr(inference_engines, "MOST_ROWS_OF_LARGE", 5)
    generate, calls = inference_engines.TorchEngine.generate, []

    def interrupted(engine, prompts, *more):
        calls.append(len(prompts))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return generate(engine, prompts, *more)

    monkeypatch.setattr(inference_engines.TorchEngine, "generate", interrupted)
    assert command(run, "steps=0") == 130
    assert command(run, "steps=0") == 0
    assert calls == [5, 5, 5, 2]  # 12 answers in all


def test_other_reflection_words_need_no_new_answers(run, capsys):
    assert command(run, "steps=0") == 0
    before = samples_of(run, "a", 0)
    assert not any(row["reflection"] for row in before)
    word = next(w for row in before for w in row["response"].split() if w.isalpha())
    assert command(run, "steps=0", f"reflection_words=[{word}]") == 0
    assert "all answers are stored already" in capsys.readouterr().out
    assert samples_of(run, "a", 0) == before  # a finished file is final
    with open(run.eval_dir / "summary.csv") as file:
        share = next(float(row["value"]) for row in csv.DictReader(file) if row["metric"] == "reflection")
    assert share == pytest.approx(sum(word.lower() in row["response"].lower() for row in before) / 12, rel=1e-5)


def test_baselines_of_the_untrained_model(run, tmp_path, capsys):
    config = run.config()
    config["scale"]["max_response_tokens"] = 80
    config["pool"] = {"source": "tiny", "ranking": str(MODEL.parent / "ranking.csv")}
    run.config_path.write_text(yaml.safe_dump(config))
    examples = tmp_path / "qwen_official_1.jsonl"
    examples.write_text(json.dumps({"question": "What is 1+1?", "answer": "It is \\boxed{2}."}) + "\n")
    assert command(run, "steps=last") == 0
    assert command(run, "steps=last", "baselines=true", f"examples={examples}") == 0
    shown = capsys.readouterr().out
    pi1 = json.loads(run.baseline_path("pi1.json").read_text())
    assert 0 < pi1["right"] < pi1["of"]  # as often as the model's own samples are right
    shots = {"paper": "", "none": "", "in_context_pi1": pi1["shot"]}
    shots["in_context_qwen_official_1"] = "What is 1+1?\nIt is \\boxed{2}.\n\n"
    questions = [e["question"] for e in load(select("validation")[0], None)[0][:12]]
    for name, before in shots.items():
        folder = run if name == "paper" else RunFolder(run.baseline_path(name))
        rows = samples_of(folder, "a", 0)
        ending = "" if name == "none" else "\n"
        assert [row["prompt"] for row in rows] == [before + question + ending for question in questions], name
        accuracy = 100 * sum(row["score"] for row in rows) / 12
        assert f"{accuracy:.1f} (" in next(line for line in shown.splitlines() if line.startswith(f"{name} "))
    assert "best baseline:" in shown and "chosen on the test sets" in shown
    assert "a, step 0 to 40: gain" in shown
    assert command(run, "steps=last", "baselines=true", f"examples={examples}") == 0
    assert capsys.readouterr().out.count("all answers are stored already") == 4


def test_what_training_evaluated_with_this_protocol_is_taken_as_it_is(run):
    (row,) = of_run(run.config())
    examples = load(row, None)[0]
    about = {key: [e[key] for e in examples] for key in ("id", "subject")}
    samples.write(run.eval_path("own", 20), sample_columns(**about, response=["so \\boxed{7}"] * 8, answer=["7"] * 8))
    Store(run, row, row.record(0)).note()  # as training does
    same = ["benchmarks.own.dataset=tiny500", "benchmarks.own.limit=8"]
    assert evaluate_command.main([f"run={run.path}", *same, "steps=20"]) == 0
    assert [r["response"] for r in samples_of(run, "own", 20)] == ["so \\boxed{7}"] * 8
    steps = json.loads((run.eval_dir / "own/protocol.json").read_text())["steps"]
    assert list(steps) == ["0"]  # the other was training's
    assert evaluate_command.main([f"run={run.path}", *same, "benchmarks.own.max_tokens=9", "steps=20"]) == 1


def test_another_protocol_is_refused_not_mixed(run, capsys):
    assert command(run, "steps=0") == 0
    assert command(run, "steps=last", "benchmarks.a.max_tokens=20") == 1
    assert "max_tokens: 24 → 20" in capsys.readouterr().err


def test_half_written_checkpoints_are_left_out_and_named(run, capsys):
    weights = run.weights_path(20) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert command(run) == 0
    assert "step 20 is left out: model.safetensors is cut off" in capsys.readouterr().out
    assert not run.eval_path("a", 20).exists() and run.eval_path("a", 40).exists()
    assert command(run, "steps=[20]") == 1
    assert "global_step_20" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda f: (f / "config.json").write_text('{"model_type": "qw'), "config.json is cut off"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\x10"), "model.safetensors is cut off"),
        (lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-1]), "model.safetensors is cut off"),
        (lambda f: (f / "model.safetensors").unlink(), "has no *.safetensors"),
        (lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": {"w": "model-2.safetensors"}}'), "model-2.safetensors is missing"),
        (lambda f: shutil.rmtree(f), "no such folder"),
    ],
)  # fmt: skip
def test_faults_of_a_model_folder(tmp_path, damage, fault):
    shutil.copytree(MODEL, tmp_path / "m")
    assert checkpoints.fault(tmp_path / "m") is None
    damage(tmp_path / "m")
    assert str(checkpoints.fault(tmp_path / "m")).startswith(fault)  # some go on with the library's reason


def test_an_answer_ends_with_the_context_and_what_that_cut_is_counted(run, monkeypatch):
    monkeypatch.setattr(inference_engines, "context_of", lambda config: 60)
    assert command(run, "steps=0", "benchmarks.a.max_tokens=30") == 0
    record = json.loads((run.eval_dir / "a/protocol.json").read_text())["steps"]["0"]
    rows = samples_of(run, "a", 0)
    assert record["capped_by_context"] > 0
    assert max(row["response_tokens"] for row in rows) <= 30


def test_a_prompt_that_fills_the_context_is_an_error(run, monkeypatch, capsys):
    monkeypatch.setattr(inference_engines, "context_of", lambda config: 8)
    assert command(run) == 1
    assert "no room for an answer" in capsys.readouterr().err
    assert not list(run.eval_dir.rglob("*.parquet"))


def test_an_answer_ends_at_the_stop_texts_of_its_protocol(run, capsys):
    """`one` is a single token of the tiny model, ` is` and `so on` are several."""
    assert command(run, "steps=0") == 0
    free = samples_of(run, "a", 0)
    tokenizer = inference_engines.start("torch", str(MODEL)).tokenizer
    word = free[0]["response"].split()[1]
    single, several = tokenizer.tokenize(word)[0], free[1]["response"][5:12]
    assert len(tokenizer.tokenize(several)) > 1
    same = ["benchmarks.b.dataset=validation", "benchmarks.b.limit=12", "benchmarks.b.max_tokens=24"]
    texts = [single, several]
    assert evaluate_command.main([f"run={run.path}", "steps=0", *same, f"benchmarks.b.stop={json.dumps(texts)}"]) == 0
    rows = samples_of(run, "b", 0)
    for row, longer in zip(rows, free, strict=True):
        first = min((at for stop in texts if (at := longer["response"].find(stop)) >= 0), default=None)
        assert row["response"] == longer["response"][:first]
        assert row["truncated"] == (longer["truncated"] and first is None)
        assert row["response_tokens"] == longer["response_tokens"] or first is not None
    assert [row["response_tokens"] < longer["response_tokens"] for row, longer in zip(rows, free, strict=True)].count(
        True
    ) > 1
    assert json.loads((run.eval_dir / "b/protocol.json").read_text())["protocol"]["stop"] == texts


def test_answers_without_stop_texts_are_not_mixed_with_answers_with_them(run, capsys):
    assert command(run, "steps=0") == 0
    assert command(run, "steps=0", "benchmarks.a.stop=[Question]") == 1
    assert "stop: [] → ['Question']): benchmarks.a.stop=[] continues without stop texts" in capsys.readouterr().err


def own_benchmark(tmp_path, grader):
    """Four problems, and a grader of this text; the run's own limit of tokens."""
    rows = [{"q": f"Question: What is {i}+4?", "a": i + 4} for i in range(4)]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    file = tmp_path / f"grader{len(list(tmp_path.glob('grader*')))}.py"
    file.write_text(grader)
    mine = [f"file={tmp_path}/mine.jsonl", "question=q", "answer=a", f"grader={file}:grade"]
    return [f"benchmarks.mine.{m}" for m in mine], file


def test_own_benchmark_with_own_grader(run, tmp_path):
    text = "import numpy\ndef grade(response, gold):\n    return numpy.float32(min(1.0, len(response) / 1000))\n"
    mine, _ = own_benchmark(tmp_path, text)
    assert evaluate_command.main([f"run={run.path}", "steps=0", *mine]) == 0
    rows = samples_of(run, "mine", 0)
    assert [row["score"] for row in rows] == pytest.approx([len(row["response"]) / 1000 for row in rows])
    assert (
        json.loads((run.eval_dir / "mine/protocol.json").read_text())["protocol"]["max_tokens"] == 24
    )  # the run's own


@pytest.mark.parametrize(
    ("broken", "message"),
    [("return 1/0", "raised ZeroDivisionError"), ("return float('nan')", "returned nan"),
     ("exit(1)", "raised SystemExit: 1"), ("[0 for _ in iter(int, 1)]", "took more than 0.5 s")],
)  # fmt: skip
def test_a_grader_that_fails_costs_no_answer(run, tmp_path, capsys, monkeypatch, broken, message):
    if "took more" in message:
        monkeypatch.setattr("rlvr.grading.user_function.LIMIT_S", 0.5)
    good = "def grade(response, gold):\n    return 0.25, 'some'\n"
    mine, file = own_benchmark(tmp_path, good.replace("return 0.25, 'some'", broken))
    assert evaluate_command.main([f"run={run.path}", "steps=0", *mine]) == 1
    error = capsys.readouterr().err.splitlines()[-1]  # after transformers' progress
    assert error.startswith(f"error: {file}:grade {message}")
    kept = [row["response"] for path in (run.eval_dir / "mine/ungraded").iterdir() for row in samples.rows(path)]
    assert len(kept) == 4 and not run.eval_path("mine", 0).exists()
    file.write_text(good)
    load_function.cache_clear()
    monkeypatch.undo()
    monkeypatch.setattr(inference_engines, "start", None)  # no engine is started again
    assert evaluate_command.main([f"run={run.path}", "steps=0", *mine]) == 0
    rows = samples_of(run, "mine", 0)
    assert [row["response"] for row in rows] == kept and {(row["score"], row["reason"]) for row in rows} == {
        (0.25, "some")
    }


def test_stored_answers_are_graded_again_without_an_engine(run, tmp_path, capsys, monkeypatch):
    mine, _ = own_benchmark(tmp_path, "def grade(response, gold):\n    return 0\n")
    assert evaluate_command.main([f"run={run.path}", "steps=0", *mine]) == 0
    monkeypatch.setattr(inference_engines, "start", None)
    other, _ = own_benchmark(tmp_path, "def grade(response, gold):\n    return True\n")
    assert (
        evaluate_command.main([f"run={run.path}", "steps=0", *other]) == 1
    )  # another protocol, unless it is asked for
    assert evaluate_command.main([f"run={run.path}", "steps=0", "regrade=true", *other]) == 0
    assert "4 answers graded again, score 0 -> 4" in capsys.readouterr().out
    assert [row["score"] for row in samples_of(run, "mine", 0)] == [1.0] * 4
    assert evaluate_command.main([f"run={run.path}", "steps=0", *other]) == 0


def test_every_step_is_graded_again_whatever_is_asked_for(run, tmp_path):
    mine, _ = own_benchmark(tmp_path, "def grade(response, gold):\n    return 0\n")
    assert evaluate_command.main([f"run={run.path}", "steps=0,20", *mine]) == 0
    other, _ = own_benchmark(tmp_path, "def grade(response, gold):\n    return 1\n")
    assert evaluate_command.main([f"run={run.path}", "steps=20", "regrade=true", *other]) == 0
    assert [row["score"] for step in (0, 20) for row in samples_of(run, "mine", step)] == [1.0] * 8


def test_a_file_that_has_changed_is_not_taken_for_what_was_asked(run, tmp_path, capsys, monkeypatch):
    mine, _ = own_benchmark(tmp_path, "def grade(response, gold):\n    return response != '' and gold == '7'\n")
    assert evaluate_command.main([f"run={run.path}", "steps=0", *mine]) == 0
    file = tmp_path / "mine.jsonl"
    file.write_text(file.read_text().replace('"a": 7', '"a": 77').replace('"a": 6', '"a": 7'))
    assert evaluate_command.main([f"run={run.path}", "steps=0", *mine]) == 1
    assert "regrade=true grades them with the new golds" in capsys.readouterr().err
    monkeypatch.setattr(inference_engines, "start", None)
    assert evaluate_command.main([f"run={run.path}", "steps=0", "regrade=true", *mine]) == 0
    assert [row["score"] for row in samples_of(run, "mine", 0)] == [0, 0, 1, 0]
    file.write_text(file.read_text().replace("+4?", "+5?"))
    assert evaluate_command.main([f"run={run.path}", "steps=0", "regrade=true", *mine]) == 1
    assert f"benchmarks.<name>.file={file}" in capsys.readouterr().err
    assert evaluate_command.main([f"run={run.path}", "benchmarks.a/b.dataset=validation"]) == 1
    assert "benchmarks.a/b.name=a/b: expected letters" in capsys.readouterr().err


def test_chunks_keep_their_numbers_and_a_step_that_lacks_answers_is_not_finished(run):
    (row,) = select("mine", {"mine": {"dataset": "validation", "k": 2, "temperature": 1.0}})
    store = Store(run, row, row.record(0))
    columns = dict.fromkeys(samples.SCHEMA) | {"id": "a", "sample": 0}
    kept = store.keep(0, [columns])
    store.add([columns | {"score": 1.0}], kept)
    assert store.keep(0, [columns | {"sample": 1}]).name != kept.name
    with pytest.raises(DataError, match="1 graded answers, expected 2"):
        store.finish(0, ["a"])
    assert not store.complete(0) and store.answered(0) == {("a", 0), ("a", 1)}


def test_the_gate_decides_the_exit_code(run, tmp_path, capsys):
    mine, _ = own_benchmark(tmp_path, "def grade(response, gold):\n    return 1\n")
    assert evaluate_command.main([f"run={run.path}", "steps=40", *mine, "gate.min_gain=0.02"]) == 2
    assert "gate: mine, step 0 to 40: +0.0" in capsys.readouterr().out
    assert evaluate_command.main([f"run={run.path}", "steps=40", *mine, "gate.min_gain=-0.9"]) == 0
    assert evaluate_command.main([f"run={run.path}", "steps=0", *mine, "gate.min_gain=0"]) == 1
    assert evaluate_command.main([f"run={run.path}", "steps=40", *mine, "gate.min_gain=2"]) == 1
    with open(run.eval_dir / "summary.csv") as file:
        speed = {
            row["metric"]: row for row in csv.DictReader(file) if row["benchmark"] == "mine" and row["step"] == "40"
        }
    assert float(speed["tokens_per_s"]["value"]) > 0 and float(speed["seconds_per_answer"]["value"]) > 0
    assert speed["tokens_per_s"]["low"] == ""


def test_loglikelihood_is_the_sum_over_the_continuation():
    engine = inference_engines.start("torch", str(MODEL))
    texts = [("Question: grass?\n", "green"), ("A much longer question than that one, about a cow?\n", "a young cow")]
    pairs = [[engine.tokenizer(t)["input_ids"] for t in pair] for pair in texts]
    got = engine.loglikelihood([p for p, _ in pairs], [c for _, c in pairs])
    for (prompt, continuation), value in zip(pairs, got, strict=True):
        logits = engine.model(input_ids=torch.tensor([prompt + continuation])).logits[0].log_softmax(-1)
        each = [logits[len(prompt) + i - 1, token].item() for i, token in enumerate(continuation)]
        assert value == pytest.approx(sum(each), abs=1e-4)


def test_choices_are_scored_plain_and_per_byte(tmp_path):
    # The likeliest in all is the short choice, per byte the long one: -2/2 against -3/6.
    row = answering.choice_row([-2.0, -3.0], ["ab", "abcdef"], "B", per_byte=True)
    assert (row["answer"], row["score"], row["score_acc"]) == ("B", 1.0, 0.0)


def test_several_threads_give_the_answers_of_one():
    engine = inference_engines.start("torch", str(MODEL))
    examples = load(select("tiny500")[0], None)[0][:12]
    prompts = [engine.tokenizer(e["question"] + "\n")["input_ids"] for e in examples]
    how = [Sampling(24, 0.6, seed=i) for i in range(12)]
    counted = []
    answers = []
    for threads in (1, 3):
        engine.generators = [inference_engines.Generator(engine.model, engine.eos) for _ in range(threads)]
        answers.append([a.token_ids for a in engine.generate(prompts, how, lambda n, tokens: counted.append(n))])
    assert answers[0] == answers[1] and sum(counted) == 24


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run=x", "step=all"], "did you mean steps"),
        (["benchmarks=tiny"], "give run="),
        (["model=x"], "give run="),
        (["run=/nowhere"], "give the folder of a run"),
        ([f"model={MODEL}", "out=/tmp/unused", "benchmarks=math500", "engine=vlm", "data_root=/nowhere"], "engine=vlm: did you mean vllm?"),
        ([f"model={MODEL}", "out=/tmp/unused", "benchmarks=math500", "data_root=/nowhere"], "has no eval/math500.jsonl"),
        (["run=x", "rows=abc"], "rows=abc: expected a whole number"),
        (["run=x", "rows=0"], "rows=0: expected 1 or more"),
        (["run=x", "benchmarks=[tiny500"], "a bracket does not close"),
        (["run=x", "baselines=maybe"], "baselines=maybe: expected true or false"),
    ],
)  # fmt: skip
def test_bad_command_lines_are_explained(arguments, message, capsys):
    assert evaluate_command.main(arguments) == 1
    assert message in capsys.readouterr().err


def test_an_engine_that_is_not_there_is_named(monkeypatch):
    with pytest.raises(ConfigError, match="expected one of torch, vllm"):
        inference_engines.start("tgi", str(MODEL))
    monkeypatch.setattr(inference_engines, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="vLLM is not installed"):
        inference_engines.start("vllm", str(MODEL))


@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed: pip install -e '.[gpu]'")
def test_vllm_gives_the_greedy_answers_of_torch_at_every_checkpoint(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "by_torch")
    by_torch = RunFolder(tmp_path / "by_torch")
    assert command(run, "engine=vllm", "dtype=float32") == 0
    assert command(by_torch, "engine=torch", "dtype=float32") == 0
    for step in (0, 20, 40):
        theirs, ours = samples_of(run, "a", step), samples_of(by_torch, "a", step)
        assert [r["response"] for r in theirs] == [r["response"] for r in ours]
        assert [r["truncated"] for r in theirs] == [r["truncated"] for r in ours]


def test_answers_do_not_depend_on_how_they_are_dealt_to_the_cores(monkeypatch):
    monkeypatch.setattr(inference_engines, "_cores", lambda: 2)
    prompts = [list(range(10, 14 + i % 11)) for i in range(20)]  # of equal ones one is asked
    sampling = [Sampling(4 + i % 11 % 3, temperature=0.6, seed=i % 11) for i in range(20)]
    found = []
    for rows in (2, 64):  # three rounds of two batches; one round
        told = []
        engine = inference_engines.start("torch", str(MODEL), rows=rows)
        found.append(
            [one.token_ids for one in engine.generate(prompts, sampling, lambda *one, to=told: to.append(one))]
        )
        assert [sum(numbers) for numbers in zip(*told, strict=True)][0] == 20
    assert found[0] == found[1] and found[0][0] == found[0][11]
