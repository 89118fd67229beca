"""The endpoint as the official client meets it."""

import asyncio
import json
import re
import shutil
import time

import httpx
import openai
import pytest
import torch
from served import MODEL, QUESTION, Serving, chat

from rlvr.cli import command
from rlvr.evaluate import evaluated_models
from rlvr.serve import __main__ as serve_command
from rlvr.serve import http_server
from rlvr.serve.api import Served

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


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


def test_the_completions_endpoint_takes_texts_and_tokens(client, plain):
    ids = plain[1]("What is 3+4?\n")["input_ids"]
    got = client.completions.create(model="base", prompt=["What is 3+4?\n", "What is 3+5?\n"], temperature=0, n=1)
    alone = client.completions.create(model="base", prompt=ids, temperature=0)
    assert got.choices[0].text == alone.choices[0].text and len(got.choices) == 2
    for prompt, message in (("", "is empty"), ([10**9], "is not a token"), ([], "at least 1 item")):
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


def test_a_run_is_served_under_its_name(run):
    subject, names = http_server._subject(serve_command.Options(run=run.path, step="20"))
    assert names == {"one_shot-step20": 20, "base": 0} and subject.models[20] == str(run.weights_path(20))
    assert http_server._subject(serve_command.Options(run=run.path, step="0"))[1] == {"base": 0}
    assert evaluated_models.of_run(run.path, "20", None, None).template == "chat"
