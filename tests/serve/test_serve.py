"""The endpoint as the official client meets it."""

import asyncio
import json
import re
import shutil
import time
from pathlib import Path

import httpx
import openai
import pytest
import torch
import yaml
from served import MODEL, Serving
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlvr.cli import ConfigError, command
from rlvr.data.protocols import load
from rlvr.evaluate import __main__ as evaluate_command
from rlvr.evaluate import evaluated_models
from rlvr.runs import samples
from rlvr.runs.folder import RunFolder
from rlvr.serve import __main__ as serve_command
from rlvr.serve import http_server, score_gate
from rlvr.serve.api import Served
from rlvr.serve.detokenize import StreamedText
from rlvr.serve.torch_backend import TorchBackend, TorchModel
from rlvr.verl_torch import stop_texts

QUESTION = [{"role": "user", "content": "Tom has 3 apples and buys 4 more. How many apples does he have?"}]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def client(serving):
    return openai.OpenAI(base_url=f"{serving.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def plain():
    """The model and its tokenizer, without any of our code."""
    return AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(MODEL)


def chat(client, **more):
    return client.chat.completions.create(**{"model": "tuned", "messages": QUESTION, "seed": 7, **more})


def test_models(client):
    assert [model.id for model in client.models.list()] == ["tuned", "base"]
    assert client.models.retrieve("base").object == "model"
    with pytest.raises(openai.NotFoundError, match="tuned, base"):
        client.models.retrieve("gpt-4")


def test_a_greedy_answer_is_that_of_transformers_with_its_usage(client, plain):
    model, tokenizer = plain
    ids = tokenizer(tokenizer.apply_chat_template(QUESTION, tokenize=False), return_tensors="pt")
    whole = model.generate(**ids, max_new_tokens=48, do_sample=False)[0, ids["input_ids"].shape[1] :]
    got = chat(client, temperature=0)
    assert got.choices[0].message.content == tokenizer.decode(whole, skip_special_tokens=True)
    assert got.choices[0].finish_reason == ("stop" if whole[-1] == model.generation_config.eos_token_id else "length")
    assert (got.usage.prompt_tokens, got.usage.completion_tokens) == (ids["input_ids"].shape[1], len(whole))


def test_a_stream_brings_the_same_text_and_ends_with_done(client, serving):
    whole = chat(client, n=2, logprobs=True)
    texts, tokens, usage = ["", ""], [[], []], None
    for chunk in chat(client, n=2, logprobs=True, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            tokens[choice.index] += choice.logprobs.content if choice.logprobs else []
    assert texts == [choice.message.content for choice in whole.choices] and usage == whole.usage
    assert [[t.token for t in of] for of in tokens] == [[t.token for t in c.logprobs.content] for c in whole.choices]
    body = {"model": "tuned", "messages": QUESTION, "stream": True, "max_tokens": 3}
    lines = httpx.post(f"{serving.url}/v1/chat/completions", json=body, timeout=60).text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""] and "usage" not in json.loads(lines[-3].removeprefix("data: "))


def test_a_seed_repeats_and_choices_differ(client):
    first, again = (chat(client, n=4, temperature=1.2, max_tokens=16) for _ in range(2))
    texts = [choice.message.content for choice in first.choices]
    assert texts == [choice.message.content for choice in again.choices] and len(set(texts)) > 1
    assert chat(client, temperature=1.2, max_tokens=16).choices[0].message.content == texts[0]
    assert chat(client, n=2, seed=None, max_tokens=2).usage.completion_tokens > 0


def test_limits_and_stops_are_kept(client):
    assert chat(client, max_completion_tokens=3).usage.completion_tokens == 3
    assert chat(client, max_tokens=3, temperature=0).choices[0].finish_reason == "length"
    whole = chat(client, temperature=0).choices[0].message.content
    stop = whole[10:16]
    for how in ({}, {"stream": True}):
        got = chat(client, temperature=0, stop=["never said", stop], **how)
        if how:
            parts = list(got)
            text, reason = "".join(p.choices[0].delta.content or "" for p in parts), parts[-1].choices[0].finish_reason
        else:
            text, reason = got.choices[0].message.content, got.choices[0].finish_reason
        assert text == whole[: whole.index(stop)] and reason == "stop"


@pytest.mark.parametrize("temperature", [0.6, 0])
def test_log_probabilities_are_the_trainers(client, plain, temperature):
    """verl's trainer takes them of logits / temperature; rollout and trainer agree in tests/verl_torch."""
    model, tokenizer = plain
    prompt = tokenizer(tokenizer.apply_chat_template(QUESTION, tokenize=False))["input_ids"]
    got = client.completions.create(model="tuned", prompt=[prompt, prompt], temperature=temperature, logprobs=2, seed=3)
    for choice in got.choices:
        ids = tokenizer.convert_tokens_to_ids(tokenizer.tokenize("".join(choice.logprobs.tokens)))
        assert len(ids) == len(choice.logprobs.tokens)
        with torch.no_grad():
            logits = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
        expected = torch.log_softmax(logits / (temperature or 1), -1)
        ours = torch.tensor(choice.logprobs.token_logprobs)
        assert (ours - expected.gather(-1, torch.tensor(ids)[:, None])[:, 0]).abs().max() < 1e-4
        best = expected.max(-1).values
        assert all(
            max(top.values()) == pytest.approx(b, abs=1e-4)
            for top, b in zip(choice.logprobs.top_logprobs, best.tolist(), strict=True)
        )
    assert got.choices[0].logprobs.token_logprobs == pytest.approx(got.choices[1].logprobs.token_logprobs, abs=1e-5)


def test_chat_log_probabilities_name_the_likeliest(client):
    places = chat(client, logprobs=True, top_logprobs=3, temperature=0).choices[0].logprobs.content
    assert all(len(place.top_logprobs) == 3 and place.top_logprobs[0].logprob == place.logprob for place in places)
    assert bytes(places[0].bytes).decode() == places[0].token


BAD = [
    ({"model": "gpt-4"}, 404, "model", "model='gpt-4': tuned, base"),
    ({"n": 10_000}, 400, "n", "less than or equal to 128"),
    ({"max_tokens": -1}, 400, "max_tokens", "max_tokens='-1'"),
    ({"max_tokens": 0}, 400, "max_tokens", "greater than or equal to 1"),
    ({"max_tokens": 5000}, 400, "messages", "the model's context is 512"),
    ({"messages": [{"role": "user", "content": "apples " * 2000}]}, 400, "messages", "context is 512"),
    ({"messages": []}, 400, "messages", "at least 1 item"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, 400, "messages.0.role", "'system', 'developer', 'user'"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        400,
        "messages.0.content",
        "this model reads no image_url",
    ),
    ({"messages": [{"role": "user", "content": None}]}, 400, "messages.0.content", "valid string"),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "x"}]}]},
        400,
        "messages.0.tool_calls",
        "not supported here",
    ),
    (
        {"messages": [{"role": "assistant", "content": None, "refusal": "No."}]},
        400,
        "messages.0.refusal",
        "leave it out",
    ),
    ({"temperature": "hot"}, 400, "temperature", "valid number"),
    ({"temperature": -1}, 400, "temperature", "greater than or equal to 0"),
    ({"top_p": 0}, 400, "top_p", "greater than 0"),
    ({"stop": ["a"] * 257}, 400, "stop", "at most 256"),
    ({"stop": ""}, 400, "stop.0", "at least 1 character"),
    ({"stop_token_ids": [10**9]}, 400, "stop_token_ids", "tokens end at"),
    ({"frequency_penalty": 0.5}, 400, "frequency_penalty", "not supported here"),
    ({"tools": [{"type": "function"}]}, 400, "tools", "not supported here"),
    ({"response_format": {"type": "json_object"}}, 400, "response_format", "not supported here"),
    ({"top_logprobs": 3}, 400, "top_logprobs", "needs logprobs=true"),
    ({"max_token": 3}, 400, "max_token", "did you mean max_tokens?"),
    ({"memory": 3}, 400, "memory", "memory: no such argument here; leave it out"),
    ({"reasoning_effort": "low"}, 400, "reasoning_effort", "not supported here; leave it out"),
    ({"min_p": 0.1}, 400, "min_p", "leave it out, or give 0"),
    ({"repetition_penalty": 1.2}, 400, "repetition_penalty", "leave it out, or give 1"),
    ({"skip_special_tokens": False}, 400, "skip_special_tokens", "leave it out, or give true"),
    ({"logit_bias": {"5": 1}}, 400, "logit_bias", "not supported here"),
    ({"web_search_options": {}}, 400, "web_search_options", "not supported here"),
    ({"best_of": 3, "n": 2}, 400, "best_of", "not supported here"),
    ({"seed": 2**70}, 400, "seed", "less than"),
]


@pytest.mark.parametrize(("change", "status", "param", "message"), BAD)
def test_bad_requests_are_named_in_the_apis_shape(serving, change, status, param, message):
    body = {"model": "tuned", "messages": QUESTION} | change
    got = httpx.post(f"{serving.url}/v1/chat/completions", json=body, timeout=60)
    error = got.json()["error"]
    assert got.status_code == status and set(error) == {"message", "type", "param", "code"}
    assert message in error["message"] and error["type"] == "invalid_request_error"
    assert param is None or error["param"] == param


WITHOUT_EFFECT = [
    {"store": False}, {"store": True}, {"metadata": {}}, {"metadata": {"run": "7"}}, {"parallel_tool_calls": True},
    {"reasoning_effort": None}, {"service_tier": "auto"}, {"min_p": 0}, {"min_p": 0.0}, {"repetition_penalty": 1.0},
    {"skip_special_tokens": True}, {"user": "me"}, {"safety_identifier": "x"}, {"prompt_cache_key": "x"}, {"logit_bias": {}},
    {"tools": []}, {"tool_choice": "auto"}, {"response_format": {"type": "text"}}, {"modalities": ["text"]}, {"audio": None},
    {"frequency_penalty": 0.0}, {"presence_penalty": None}, {"ignore_eos": False}, {"include_stop_str_in_output": False},
    {"add_generation_prompt": True}, {"guided_json": None}, {"chat_template_kwargs": {}}, {"bad_words": []},
    {"stream_options": {"include_usage": True}}, {"best_of": 1}, {"n": 1, "best_of": 1}, {"verbosity": "medium"},
    {"stop": ["never said"] * 5}, {"stop": None}, {"stop_token_ids": []}, {"top_logprobs": 0},
]  # fmt: skip


@pytest.mark.parametrize("change", WITHOUT_EFFECT, ids=str)
def test_a_field_that_changes_no_answer_is_ignored(change, serving, client):
    body = {"model": "tuned", "messages": QUESTION, "temperature": 0, "max_tokens": 8} | change
    got = httpx.post(f"{serving.url}/v1/chat/completions", json=body, timeout=60)
    assert got.status_code == 200, got.text
    expected = chat(client, temperature=0, max_tokens=8).choices[0].message.content
    assert got.json()["choices"][0]["message"]["content"] == expected


@pytest.mark.parametrize(
    "change", [{"cache_control": {"type": "ephemeral"}}, {"type": "text"}, {"tool_calls": None}, {"name": "me"}]
)
def test_a_field_of_a_message_that_changes_no_answer_is_ignored(change, serving, client):
    part = {"type": "text", "text": QUESTION[0]["content"], "cache_control": {"type": "ephemeral"}}
    body = {
        "model": "tuned",
        "messages": [{"role": "user", "content": [part]} | change],
        "temperature": 0,
        "max_tokens": 8,
    }
    got = httpx.post(f"{serving.url}/v1/chat/completions", json=body, timeout=60).json()
    expected = chat(client, temperature=0, max_tokens=8).choices[0].message.content
    assert got["choices"][0]["message"]["content"] == expected


RECORDED = [json.loads(line) for line in (Path(__file__).parent / "recorded_requests.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "recorded", RECORDED, ids=[f"{i}-{one['client'].split()[0]}" for i, one in enumerate(RECORDED)]
)
def test_what_real_clients_send_is_answered(recorded, serving):
    """Bodies that each client sent to a recording server: a question, the history with its own message, a stream, more."""
    got = httpx.post(serving.url + recorded["path"], json=recorded["body"], timeout=60)
    assert got.status_code == 200, got.text
    if recorded["body"].get("stream"):
        assert got.text.endswith("data: [DONE]\n\n") and '"error"' not in got.text
    else:
        choices = len(recorded["body"]["prompt"]) if isinstance(recorded["body"].get("prompt"), list) else 1
        assert len(got.json()["choices"]) == recorded["body"].get("n", 1) * choices


def test_the_clients_own_message_is_a_turn_of_the_next_request(client):
    """Also an answer without content, as a client keeps one that only called tools."""
    first = chat(client, temperature=0).choices[0].message
    follow = {"role": "user", "content": "And 2 more?"}
    expected = chat(
        client, temperature=0, messages=[*QUESTION, {"role": "assistant", "content": first.content}, follow]
    )
    for message in (first, first.model_dump(), first.to_dict()):
        got = chat(client, temperature=0, messages=[*QUESTION, message, follow])
        assert got.choices[0].message.content == expected.choices[0].message.content
    empty = [{"role": "assistant", "content": content} for content in (None, "", [])]
    texts = {chat(client, temperature=0, messages=[*QUESTION, one, follow]).choices[0].message.content for one in empty}
    assert len(texts) == 1


@pytest.mark.parametrize("at_once", [4, 256])
def test_an_echo_scores_the_prompt_as_an_evaluation_harness_needs_it(client, plain, monkeypatch, at_once):
    """lm_eval sums token_logprobs[context:-1] of a prompt with its continuation, and looks whether each was the likeliest."""
    monkeypatch.setattr("rlvr.serve.torch_backend.SCORED_AT_ONCE", at_once)
    model, tokenizer = plain
    ids = tokenizer("What is 3+4? Answer: 7")["input_ids"]
    how = {"model": "tuned", "prompt": [ids, ids[:5]], "temperature": 0, "logprobs": 1, "seed": 1234, "echo": True}
    for max_tokens in (0, 1):
        got = client.completions.create(**how, max_tokens=max_tokens)
        scored = got.choices[0].logprobs
        assert (
            len(scored.tokens) == len(ids) + max_tokens and scored.token_logprobs[0] is scored.top_logprobs[0] is None
        )
        assert (
            "".join(scored.tokens) == got.choices[0].text == tokenizer.decode(ids) + "".join(scored.tokens[len(ids) :])
        )
        assert scored.text_offset == [len("".join(scored.tokens[:i])) for i in range(len(scored.tokens))]
        with torch.no_grad():
            expected = torch.log_softmax(model(torch.tensor([ids])).logits[0, :-1], -1)
        values = expected.gather(-1, torch.tensor(ids[1:])[:, None])[:, 0]
        assert scored.token_logprobs[1 : len(ids)] == pytest.approx(values.tolist(), abs=1e-4)
        greedy = (expected.argmax(-1) == torch.tensor(ids[1:])).tolist()
        of_prompt = zip(scored.token_logprobs[1 : len(ids)], scored.top_logprobs[1 : len(ids)], strict=True)
        assert [value == max(top.values()) for value, top in of_prompt] == greedy
        assert len(got.choices[1].logprobs.tokens) == 5 + max_tokens and got.usage.completion_tokens == 2 * max_tokens
    parts = list(client.completions.create(**how | {"prompt": ids}, max_tokens=3, stream=True))
    whole = client.completions.create(**how | {"prompt": ids}, max_tokens=3).choices[0]
    assert "".join(part.choices[0].text for part in parts) == whole.text
    assert [
        token for part in parts if part.choices[0].logprobs for token in part.choices[0].logprobs.tokens
    ] == whole.logprobs.tokens
    with pytest.raises(openai.BadRequestError, match="0 needs echo=true"):
        client.completions.create(**how | {"echo": False}, max_tokens=0)


def test_bad_bodies_and_places(serving):
    url = f"{serving.url}/v1/chat/completions"
    json_type = {"content-type": "application/json"}
    for got, status, message in (
        (httpx.post(url, content="{", headers=json_type), 400, "the body is not JSON"),
        (httpx.post(url, content="[]", headers=json_type), 400, "body"),
        (httpx.post(url, content="{}", headers={"content-type": "text/plain"}), 415, "application/json"),
        (httpx.post(url, content=b" " * 1_000_001, headers=json_type), 413, "longer than"),
        (httpx.get(url), 405, "Method Not Allowed"),
        (httpx.get(f"{serving.url}/v1/embeddings"), 404, "Not Found"),
        (httpx.get(f"{serving.url}/v1/models", headers={"host": "evil.example"}), 403, "evil.example"),
    ):
        assert got.status_code == status and message in got.json()["error"]["message"]
    assert httpx.get(f"{serving.url}/health").json() == {"status": "ok"}


def test_the_completions_endpoint_takes_texts_and_tokens(client, plain):
    ids = plain[1]("What is 3+4?\n")["input_ids"]
    got = client.completions.create(model="base", prompt=["What is 3+4?\n", "What is 3+5?\n"], temperature=0, n=1)
    alone = client.completions.create(model="base", prompt=ids, temperature=0)
    assert got.choices[0].text == alone.choices[0].text and len(got.choices) == 2
    for prompt, message in (("", "is empty"), ([10**9], "is no token"), ([], "at least 1 item")):
        with pytest.raises(openai.BadRequestError, match=message):
            client.completions.create(model="base", prompt=prompt)


def test_a_client_that_goes_away_frees_its_place(serving, client):
    body = json.dumps(
        {"model": "tuned", "messages": QUESTION, "max_tokens": 400, "n": 64, "stream": True, "temperature": 2.0}
    )
    for stream in (True, False):
        asked = body if stream else body.replace('"stream": true', '"stream": false')
        connection = serving.connect()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(asked)}\r\n\r\n"
        connection.sendall((head + asked).encode())
        while not serving.served.active:
            time.sleep(0.002)
        connection.close()
        end = time.monotonic() + 20
        while serving.served.active and time.monotonic() < end:
            time.sleep(0.01)
        assert not serving.served.active
    assert chat(client, max_tokens=2).usage.completion_tokens == 2


def test_many_at_once_are_all_answered_and_idle_connections_do_no_harm(serving):
    idle = [serving.connect() for _ in range(100)]

    async def ask():
        async with openai.AsyncOpenAI(base_url=f"{serving.url}/v1", api_key="none", max_retries=0) as client:
            asked = [chat(client, seed=i, max_tokens=8) for i in range(40)]
            return await asyncio.gather(*asked)

    answers = asyncio.run(ask())
    assert len(answers) == 40 and all(answer.usage.completion_tokens for answer in answers)
    for connection in idle:
        connection.close()


def test_a_full_queue_answers_429_and_a_slow_answer_504(backend):
    small = Served(backend, 0, seconds=0.1, queue=4)
    with Serving(small) as serving:
        client = openai.OpenAI(base_url=f"{serving.url}/v1", api_key="none", max_retries=0)
        with pytest.raises(openai.BadRequestError, match="5 answers in one request; 4 may"):
            chat(client, n=5)
        small.active = 3
        with pytest.raises(openai.RateLimitError, match="try again"):
            chat(client, n=2)
        small.active = 0
        with pytest.raises(openai.InternalServerError, match="took too long"):
            chat(client, n=4, max_tokens=480, temperature=2.0, extra_body={"stop_token_ids": []})
        with pytest.raises(openai.APIError, match="took too long"):
            list(chat(client, n=4, max_tokens=480, temperature=2.0, stream=True))
        assert small.active == 0


def test_keys(backend):
    with Serving(Served(backend, 0, key="a-long-key", hosts=None)) as serving:
        for key, right in (("a-long-key", True), ("another-key", False), ("é", False), ("a-long-ke", False)):
            headers = {"authorization": f"Bearer {key}".encode()}
            got = httpx.get(f"{serving.url}/v1/models", headers=headers)
            assert got.status_code == (200 if right else 401)
            assert "a-long-key" not in got.text
        assert httpx.get(f"{serving.url}/about").status_code == 401
        assert httpx.get(f"{serving.url}/health").status_code == httpx.get(serving.url).status_code == 200


def test_a_model_that_fails_says_so_and_the_server_lives_on(backend, client, monkeypatch):
    generator = backend.models["base"].decoder.threads[0]._args[1]
    monkeypatch.setattr(generator, "_prefill", lambda prompts: 1 / 0)
    failures = 0
    for _ in range(4):  # one for each core, and more
        try:
            chat(client, model="base", max_tokens=1)
        except openai.InternalServerError as error:
            assert "ZeroDivisionError" in str(error)
            failures += 1
    monkeypatch.undo()
    assert failures and chat(client, model="base", max_tokens=1).usage.completion_tokens == 1


# --- the gate ------------------------------------------------------------------------------------------------


def gate_of(run, step=20):
    protocol, rows = score_gate.reported(run, step, run.config(), 64)
    return score_gate.Gate(protocol, rows, {example["id"]: example["question"] for example in load(protocol, None)[0]})


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
            score_gate.reported(run, 20, config, 64)


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


def test_the_gates_test_is_exact():
    assert score_gate.GateOutcome("b", 64, 30, 26, lost=4, gained=0).open  # 1/16
    assert score_gate.GateOutcome("b", 64, 30, 24, lost=6, gained=0).open  # 1/64 = 0.0156
    assert not score_gate.GateOutcome("b", 64, 30, 23, lost=7, gained=0).open  # 1/128
    assert score_gate.GateOutcome("b", 64, 30, 60, lost=0, gained=30).open


# --- the command ---------------------------------------------------------------------------------------------


def test_what_cannot_be_served_is_one_line(run, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv(http_server.KEY, raising=False)
    empty = tmp_path / "empty"
    shutil.copytree(run.path, empty, ignore=shutil.ignore_patterns("checkpoints"))
    (tmp_path / "short").write_text("abc\n")
    taken = http_server._listen("127.0.0.1", 0)
    taken.listen()
    port = taken.getsockname()[1]
    for arguments, message in (
        ([], "give run=<run folder>, or model="),
        ([f"run={run.path}", f"port={port}"], "cannot listen there (Address already in use)"),
        ([f"run={run.path}", "port=70000"], "cannot listen there"),
        ([f"run={run.path}", "host=0.0.0.0", "port=0"], "set RLVR_API_KEY"),
        ([f"run={run.path}", "port=0", f"key_file={tmp_path / 'short'}"], "at least 8 printable"),
        ([f"run={run.path}", "port=0", f"key_file={tmp_path / 'none'}"], "cannot be read"),
        ([f"run={run.path}", "port=0", "step=30"], "keeps 20"),
        ([f"run={empty}", "port=0", "step=last"], "keeps no checkpoint"),
        ([f"run={tmp_path}", "port=0"], "give the folder of a run"),
        ([f"model={MODEL}", "port=0"], "has no reported score; gate=off"),
        ([f"run={run.path}", "port=0", "step=20", "engine=vllm", f"python={shutil.which('false')}"], "has no vLLM"),
    ):
        assert command(serve_command.Options, serve_command.serve, None, arguments) == 1, arguments
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    taken.close()


def test_what_the_page_shows(about):
    assert about["examples"] == [{"question": "What is 3+4?", "answer": "7"}]
    assert re.fullmatch(r"greedy \S+ \(\S+\) % of 16 problems", about["scores"]["tuned"])
    assert about["scores"]["base"] == about["scores"]["tuned"]


def test_the_page_asks_both_models(serving):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser_path is None:
        pytest.skip("no Chromium here")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page()
        errors, hosts = [], set()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
        page.goto(serving.url)
        page.wait_for_selector("#models section")
        assert "What is 3+4?" in page.inner_text("#examples") and page.input_value("#question") == "What is 3+4?"
        page.click("#send")
        page.locator("#state", has_text="done").wait_for()
        answers = [one.inner_text() for one in page.query_selector_all("#models pre")]
        notes = [one.inner_text() for one in page.query_selector_all("#models p")]
        browser.close()
    assert len(answers) == 2 and answers[0] == answers[1] and answers[0].strip()
    assert all("tokens in" in note for note in notes)
    assert errors == [] and hosts == {serving.url.split("/")[2]}


# --- text ----------------------------------------------------------------------------------------------------


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


def test_a_run_is_served_under_its_name(run):
    subject, names = http_server._subject(serve_command.Options(run=run.path, step="20"))
    assert names == {"one_shot-step20": 20, "base": 0} and subject.models[20] == str(run.weights_path(20))
    assert http_server._subject(serve_command.Options(run=run.path, step="0"))[1] == {"base": 0}
    assert evaluated_models.of_run(run.path, "20", None, None).template == "chat"
