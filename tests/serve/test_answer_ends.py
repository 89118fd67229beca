"""An answer ends where evaluation ends it, and the gate asks the served model as evaluation did."""

import asyncio
import json
import shutil

import openai
import pytest
import yaml
from served import MODEL, Serving, chat

from rlvr.cli import ConfigError
from rlvr.evaluate import __main__ as evaluate_command
from rlvr.evaluate.evaluated_models import EvaluatedModels
from rlvr.runs import samples
from rlvr.runs.folder import RunFolder
from rlvr.serve import score_gate
from rlvr.serve.api import Served
from rlvr.serve.detokenize import StreamedText
from rlvr.serve.torch_backend import TorchBackend, TorchModel
from rlvr.verl_torch import stop_texts


def gate_of(run, step=20, config=None):
    return score_gate.gate_of(EvaluatedModels(run, {0: "", step: ""}, config or run.config(), "chat"), 64, None)


def test_the_gate_lets_the_evaluated_model_pass_and_no_other(run, backend):
    gate = gate_of(run)
    outcome = asyncio.run(gate.check(backend, "tuned"))
    assert outcome.open and outcome.lost == outcome.gained == 0 and outcome.problems == 16
    assert outcome.served == sum(row["score"] for row in gate.rows) > 0
    swapped = dict(zip(gate.questions, reversed(gate.questions.values()), strict=True))  # answers to other questions
    solved = [row | {"score": 1.0} for row in gate.rows]
    assert not asyncio.run(score_gate.Gate(gate.protocol, solved, swapped).check(backend, "tuned")).open
    with pytest.raises(ConfigError, match="step 40 .* no greedy evaluation"):
        gate_of(run, 40)


def test_a_benchmark_that_ends_answers_elsewhere_is_no_measure_for_the_server(run):
    config = run.config()
    config["base_model"]["template"] = "qwen25-math-cot"
    for changed in ({"template": "chat"}, {"stop": []}):
        config["benchmarks"] = {"greedy": config["benchmarks"]["greedy"] | changed}
        with pytest.raises(ConfigError, match="no greedy evaluation"):
            gate_of(run, config=config)


def test_the_gates_test_is_exact():
    assert score_gate.GateOutcome("b", 64, 30, 26, lost=4, gained=0).open  # 1/16
    assert score_gate.GateOutcome("b", 64, 30, 24, lost=6, gained=0).open  # 1/64 = 0.0156
    assert not score_gate.GateOutcome("b", 64, 30, 23, lost=7, gained=0).open  # 1/128
    assert score_gate.GateOutcome("b", 64, 30, 60, lost=0, gained=30).open


@pytest.fixture(scope="module")
def endless(tmp_path_factory):
    """The tiny model as one that names no end token of its answers, but in the template's stop texts."""
    path = tmp_path_factory.mktemp("endless") / "model"
    shutil.copytree(MODEL, path)
    config = json.loads((path / "generation_config.json").read_text())
    (path / "generation_config.json").write_text(json.dumps(config | {"eos_token_id": 1}))
    return path


def test_the_server_ends_an_answer_where_evaluation_does(endless, tmp_path):
    """Evaluation ends one at the template's stop texts; the model itself would go on to its limit."""
    run = RunFolder(tmp_path / "one_shot" / "seed0")
    config = {
        "data_root": None, "seed": 0, "base_model": {"name": "tiny", "template": "qwen25-math-cot"},
        "scale": {"name": "tiny", "max_response_tokens": 48, "benchmarks": ["tiny500"]},
        "actor_rollout_ref": {"model": {"path": str(endless)}}, "benchmarks": {"tiny500": {"limit": 8}},
    }  # fmt: skip
    run.path.mkdir(parents=True)
    run.config_path.write_text(yaml.safe_dump(config))
    shutil.copytree(endless, run.weights_path(20))
    assert evaluate_command.main([f"run={run.path}", "steps=20", "benchmarks.tiny500.limit=8"]) == 0
    stored = samples.read(run.eval_path("tiny500", 20), ["id", "response", "response_tokens"])
    assert min(stored["response_tokens"]) < 48
    model = TorchModel(str(run.weights_path(20)), "qwen25-math-cot", 64, "cpu", "float32", 48)
    backend = TorchBackend({"tuned": model})
    gate = gate_of(run)
    with Serving(Served(backend, 0)) as serving:
        client = openai.OpenAI(base_url=f"{serving.url}/v1", api_key="none", max_retries=0)
        served = [
            chat(client, temperature=0, seed=None, messages=[{"role": "user", "content": gate.questions[id]}])
            for id in stored["id"]
        ]
    assert [one.choices[0].message.content for one in served] == list(stored["response"])
    assert [one.usage.completion_tokens for one in served] == list(stored["response_tokens"])
    outcome = asyncio.run(gate.check(backend, "tuned"))
    assert outcome.lost == outcome.gained == 0
    asyncio.run(backend.close())


@pytest.mark.parametrize("stream", [False, True])
def test_a_special_token_is_a_stop_text(endless, stream):
    backend = TorchBackend({"tuned": TorchModel(str(endless), "chat", 64, "cpu", "float32", 48)})
    with Serving(Served(backend, 0)) as serving:
        client = openai.OpenAI(base_url=f"{serving.url}/v1", api_key="none", max_retries=0)

        def answer(*stop):
            got = chat(client, temperature=0, stop=list(stop), stream=stream)
            if not stream:
                return got.choices[0].message.content, got.choices[0].finish_reason
            parts = list(got)
            return "".join(p.choices[0].delta.content or "" for p in parts), parts[-1].choices[0].finish_reason

        whole, reason = answer("never said")
        text, ended = answer("<|endoftext|>")
        assert reason == "length" and ended == "stop" and whole.startswith(text) and len(text) < len(whole)
        assert answer(f"{text[-3:]}<|endoftext|>") == (text[:-3], "stop")
    asyncio.run(backend.close())


@pytest.mark.parametrize(
    ("stops", "expected"), [([], "a é 😀 bc"), (["😀 b"], "a é "), (["bd"], "a é 😀 bc"), (["c"], "a é 😀 b")]
)
def test_text_is_given_out_once_it_is_certain(plain, stops, expected):
    tokenizer = plain[1]
    ids = tokenizer("a é 😀 bc")["input_ids"]
    text, shown = StreamedText(tokenizer, stops), ""
    for token in ids:
        new, stopped = text.push(token)
        shown += new
        assert expected.startswith(shown)
        if stopped:
            break
    assert text.end(ids) == expected and stopped == (expected != "a é 😀 bc")


def test_a_stop_text_may_hold_a_special_token(plain):
    tokenizer = plain[1]
    pad = tokenizer.convert_tokens_to_ids("<|pad|>")
    ids = [*tokenizer("one")["input_ids"], pad, *tokenizer("two\n")["input_ids"], pad, *tokenizer("more")["input_ids"]]
    for stops, expected in (
        (["\n<|pad|>"], "onetwo"),
        (["e<|pad|>tw"], "on"),
        (["<|pad|>more"], "onetwo\n"),
        (["x<|pad|>"], "onetwo\nmore"),
    ):
        text, shown = StreamedText(tokenizer, stops), ""
        for token in ids:
            new, stopped = text.push(token)
            shown += new
            if stopped:
                break
        assert shown == text.end(ids) == expected or not stopped and text.end(ids) == expected
        plain_text = tokenizer.decode(ids, skip_special_tokens=True)
        assert stop_texts.ended(tokenizer, ids, plain_text, stops)[0] == expected


def test_bytes_that_never_become_a_character_are_in_the_whole_text(plain):
    tokenizer = plain[1]
    text = StreamedText(tokenizer, [])
    ids = tokenizer("a😀")["input_ids"][:-1]
    shown = "".join(text.push(token)[0] for token in ids)
    assert shown == "a" and text.end(ids).startswith("a") and "�" in text.end(ids)
