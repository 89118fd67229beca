"""Every prompt template once, as a Jinja chat template: training hands it to verl, evaluation renders with it.

`base_model.template` names one. The authors train with the tokenizer's own template and evaluate with one written out by
hand (B.5); for Qwen2.5-Math the two agree byte for byte, and here both use the same text for every model.

    chat             the tokenizer's own
    none             the question alone; a baseline for the templates
    qwen25-math-cot  Qwen2.5-Math's system prompt (authors: Qwen2.5-Eval/evaluation/utils.py at 21ed529)
    llama3           Llama 3's header format, with the dates the authors' evaluation states (ibid.)
    r1-distill       DeepSeek-R1-Distill, which begins its thought itself (ibid.: deepseek-distill)

A conversation of several messages is rendered as the model family's own template renders it. A system message of the user
replaces Qwen2.5-Math's own, follows the dates in Llama 3's header, and stands before the first turn of R1-Distill, which
also forgets the thoughts of its earlier answers. `none` takes one user message and refuses any other conversation.
"""

from functools import lru_cache
from typing import Any

TEMPLATES: dict[str, str | None] = {
    "chat": None,
    "none": (
        "{% if messages | length != 1 or messages[0]['role'] != 'user' %}"
        "{{ raise_exception('template none renders one user message alone; leave out the other messages') }}"
        "{% endif %}{{ messages[0]['content'] }}"
    ),
    "qwen25-math-cot": (
        "{% if messages[0]['role'] != 'system' %}"
        "<|im_start|>system\nPlease reason step by step, and put your final answer within \\boxed{}.<|im_end|>\n"
        "{% endif %}"
        "{% for message in messages %}"
        "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
        "{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "llama3": (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
        "Cutting Knowledge Date: December 2023\nToday Date: 17 Apr 2025\n\n"
        "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] | trim }}{% endif %}<|eot_id|>"
        "{% for message in messages %}{% if not (loop.first and message['role'] == 'system') %}"
        "<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n{{ message['content'] | trim }}<|eot_id|>"
        "{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
    ),
    "r1-distill": (
        "<｜begin▁of▁sentence｜>"
        "{{ messages | selectattr('role', 'equalto', 'system') | map(attribute='content') | join('\n\n') }}"
        "{% for message in messages %}"
        "{% if message['role'] == 'user' %}<｜User｜>{{ message['content'] }}"
        "{% elif message['role'] == 'assistant' %}"
        "<｜Assistant｜>{{ message['content'].split('</think>')[-1] }}<｜end▁of▁sentence｜>"
        "{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<｜Assistant｜><think>\n{% endif %}"
    ),
}

# Texts that end an answer beside the model's end token, by template. In training an answer ends at the end token alone,
# theirs and ours. In evaluation, in a server and in an exported model it ends at these too: a base model that goes on to
# another problem would otherwise be judged by the box of that one.
# authors: Qwen2.5-Eval/evaluation/math_eval.py at 21ed529, for every template; `chat` and `none` are ours.
AUTHORS_STOPS = ("</s>", "<|im_end|>", "<|endoftext|>")
STOPS = {"qwen25-math-cot": AUTHORS_STOPS, "llama3": AUTHORS_STOPS, "r1-distill": AUTHORS_STOPS}


def chat_template(name: str) -> str | None:
    """The Jinja text of a template; None for `chat`, which the tokenizer brings. KeyError for another name."""
    return TEMPLATES[name]


def render(name: str, question: str, tokenizer: Any = None) -> str:
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
def compiled(template: str) -> Any:
    """A chat template, compiled as transformers does. Jinja's TemplateError where it refuses the messages."""
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = raise_exception
    return environment.from_string(template)
