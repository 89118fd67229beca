"""Every prompt template once, as a Jinja chat template: training hands it to verl, evaluation renders with it.

`base_model.template` names one. The authors train with the tokenizer's own template and evaluate with one written out by
hand (B.5); for Qwen2.5-Math the two agree byte for byte, and here both use the same text whatever the model.

    chat             the tokenizer's own
    none             the question alone: the baseline that a template is measured against
    qwen25-math-cot  Qwen2.5-Math's system prompt (authors: Qwen2.5-Eval/evaluation/utils.py at 21ed529)
    llama3           Llama 3's header format, with the dates the authors' evaluation states (ibid.)
    r1-distill       DeepSeek-R1-Distill, which begins its thought itself (ibid.: deepseek-distill)

In evaluation an answer ends at the template's stop texts too (authors: math_eval.py), as a base model that goes on to another
problem is otherwise judged by the box of that one. In training it ends at the end token alone, theirs and ours.
"""

from functools import lru_cache

_ANSWER_TURN = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"

TEMPLATES: dict[str, str | None] = {
    "chat": None,
    "none": "{% for message in messages %}{{ message['content'] }}{% endfor %}",
    "qwen25-math-cot": (
        "<|im_start|>system\nPlease reason step by step, and put your final answer within \\boxed{}.<|im_end|>\n"
        "{% for message in messages %}"
        "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
        "{% endfor %}" + _ANSWER_TURN
    ),
    "llama3": (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
        "Cutting Knowledge Date: December 2023\nToday Date: 17 Apr 2025\n\n<|eot_id|>"
        "{% for message in messages %}"
        "<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n{{ message['content'] }}<|eot_id|>"
        "{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
    ),
    "r1-distill": (
        "<｜begin▁of▁sentence｜>"
        "{% for message in messages %}"
        "{{ '<｜User｜>' if message['role'] == 'user' else '<｜Assistant｜>' }}{{ message['content'] }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}<｜Assistant｜><think>\n{% endif %}"
    ),
}


# authors: Qwen2.5-Eval/evaluation/math_eval.py at 21ed529, whatever the template; `chat` and `none` are ours.
AUTHORS_STOPS = ("</s>", "<|im_end|>", "<|endoftext|>")
STOPS = {"qwen25-math-cot": AUTHORS_STOPS, "llama3": AUTHORS_STOPS, "r1-distill": AUTHORS_STOPS}


def chat_template(name: str) -> str | None:
    """The Jinja text of a template; None for `chat`, which the tokenizer brings. KeyError for another name."""
    return TEMPLATES[name]


def render(name: str, question: str, tokenizer=None) -> str:
    """The whole prompt for one question, up to where the model goes on. `tokenizer` is needed for `chat` only.

    Tokenize it without special tokens: a template that begins with one has written it out.
    """
    messages = [{"role": "user", "content": question}]
    if (template := chat_template(name)) is not None:
        return compiled(template).render(messages=messages, add_generation_prompt=True)
    if tokenizer is None or not getattr(tokenizer, "chat_template", None):
        raise ValueError(
            "base_model.template=chat: the tokenizer has no chat template; name one of "
            + ", ".join(name for name in TEMPLATES if name != "chat")
        )
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)


@lru_cache
def compiled(template: str):
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    # As transformers compiles a chat template.
    return ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(template)
