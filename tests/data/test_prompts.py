"""Prompt templates, byte for byte, and that training and evaluation see the same."""

from pathlib import Path

import pytest
from jinja2 import TemplateError

from rlvr.data.prompts import TEMPLATES, chat_template, compiled, render

MODEL = Path(__file__).resolve().parents[2] / "rlvr" / "tiny" / "model"

GOLDEN = {
    "none": "What is 2+2?",
    "qwen25-math-cot": (
        "<|im_start|>system\nPlease reason step by step, and put your final answer within \\boxed{}.<|im_end|>\n"
        "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n"
    ),
    "llama3": (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
        "Today Date: 17 Apr 2025\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nWhat is 2+2?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    "r1-distill": "<｜begin▁of▁sentence｜><｜User｜>What is 2+2?<｜Assistant｜><think>\n",
}


@pytest.mark.parametrize("name", [name for name in TEMPLATES if name != "chat"])
def test_golden(name):
    assert render(name, "What is 2+2?").encode() == GOLDEN[name].encode()


SYSTEM, USER = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}
TURNS = [USER, {"role": "assistant", "content": "<think>\nadd\n</think>\n\n4"}, {"role": "user", "content": "3+3?"}]
COT, DATES = (
    "Please reason step by step, and put your final answer within \\boxed{}.",
    "Cutting Knowledge Date: December 2023",
)
LLAMA = f"<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{DATES}\nToday Date: 17 Apr 2025\n\n"
CONVERSATIONS = [  # as the families' own templates render them, but for Llama's date
    ("qwen25-math-cot", [SYSTEM, USER],
     "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n"),
    ("qwen25-math-cot", TURNS,
     f"<|im_start|>system\n{COT}<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n"
     "<|im_start|>assistant\n<think>\nadd\n</think>\n\n4<|im_end|>\n<|im_start|>user\n3+3?<|im_end|>\n<|im_start|>assistant\n"),
    ("llama3", [SYSTEM, USER],
     f"{LLAMA}Be brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n2+2?<|eot_id|>"
     "<|start_header_id|>assistant<|end_header_id|>\n\n"),
    ("llama3", [{"role": "user", "content": " 2+2?\n"}, {"role": "assistant", "content": "4\n"}],
     f"{LLAMA}<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n2+2?<|eot_id|>"
     "<|start_header_id|>assistant<|end_header_id|>\n\n4<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"),
    ("r1-distill", [SYSTEM, USER], "<｜begin▁of▁sentence｜>Be brief.<｜User｜>2+2?<｜Assistant｜><think>\n"),
    ("r1-distill", TURNS,
     "<｜begin▁of▁sentence｜><｜User｜>2+2?<｜Assistant｜>\n\n4<｜end▁of▁sentence｜><｜User｜>3+3?<｜Assistant｜><think>\n"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "messages", "expected"), CONVERSATIONS)
def test_a_conversation_is_rendered_as_the_model_family_does(name, messages, expected, tokenizer):
    assert compiled(TEMPLATES[name]).render(messages=messages, add_generation_prompt=True) == expected
    how = {"add_generation_prompt": True, "tokenize": False, "chat_template": TEMPLATES[name]}
    assert tokenizer.apply_chat_template(messages, **how) == expected


@pytest.mark.parametrize("messages", [[SYSTEM, USER], TURNS, [USER, USER], [SYSTEM]])
def test_no_template_has_no_place_for_a_conversation(messages, tokenizer):
    with pytest.raises(TemplateError, match="one user message alone"):
        compiled(TEMPLATES["none"]).render(messages=messages)
    with pytest.raises(TemplateError, match="one user message alone"):
        tokenizer.apply_chat_template(messages, chat_template=TEMPLATES["none"], tokenize=False)


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(MODEL)


@pytest.mark.parametrize("name", TEMPLATES)
def test_training_tokenizes_what_evaluation_renders(name, tokenizer):
    """Training sets the tokenizer's template and lets it tokenize; evaluation renders and then tokenizes."""
    question = "  Space and\nlines {{ not a variable }}\n"
    messages = [{"role": "user", "content": question}]
    trained = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, chat_template=chat_template(name), return_dict=False
    )
    rendered = tokenizer(render(name, question, tokenizer), add_special_tokens=False).input_ids
    assert list(trained) == rendered


def test_a_tokenizer_without_a_template():
    with pytest.raises(ValueError, match="has no chat template; name one of none, qwen25-math-cot"):
        render("chat", "What is 2+2?")
