"""What a client may send: what real clients send is answered, and what would change an answer is refused by name."""

import json
from pathlib import Path

import httpx
import pytest
from served import QUESTION, chat

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
    "change",
    [
        {"cache_control": {"type": "ephemeral"}},
        {"type": "text"},
        {"tool_calls": None},
        {"name": "me"},
        {"parsed": {"a": 1}},
    ],
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


def test_a_completion_may_say_that_it_wants_no_log_probabilities(client):
    got = client.completions.create(
        model="tuned", prompt="1+1?\n", max_tokens=2, logprobs=False, echo=False, best_of=1, suffix=None
    )
    assert got.choices[0].logprobs is None and got.usage.completion_tokens <= 2


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
