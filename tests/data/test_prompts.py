"""Prompt templates, byte for byte, and that training and evaluation see the same."""

from pathlib import Path

import pytest

from rlvr.data.prompts import TEMPLATES, chat_template, render

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
