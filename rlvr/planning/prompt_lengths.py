"""Do all prompts fit? They are counted with the model's tokenizer before a start, without loading transformers.

On a CPU a prompt longer than `scale.max_prompt_tokens` ends the run; verl's own agent loop cuts it on the left and says nothing.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from jinja2 import TemplateError

from rlvr.cli import ConfigError
from rlvr.data import gguf, prompts
from rlvr.planning.machine import Model


@dataclass(frozen=True)
class Problems:
    """What is trained on and tested on. chosen: the distinct training examples; the rows are verl's (rlvr.data.pools).

    notes: what a user should know about the data. to_probe: samples of the base model to look at before training, 0 for none.
    """

    chosen: list[dict]
    training_rows: list[dict]
    test_rows: list[dict]
    notes: list[str]
    to_probe: int


def check(model: Model, problems: Problems, limit: int, engine: str) -> list[str]:
    """Notes about prompts that training would cut; ConfigError for a training example, and on a CPU for any, that is too long.

    limit: tokens of a prompt. A tokenizer that is not at hand, or a template of its own that needs more than
    jinja, counts nothing: then the list says so.
    """
    count = counter(str(model.path), model.template)
    if count is None:
        return ["prompt lengths are not checked: the model's tokenizer has not been downloaded"]
    notes = []
    for rows, kind in ((problems.training_rows, "training example"), (problems.test_rows, "test problem")):
        lengths = {row["prompt"][0]["content"]: count(row["prompt"][0]["content"]) for row in rows}
        long = {text: length for text, length in lengths.items() if length > limit}
        if not long:
            continue
        text, length = max(long.items(), key=lambda item: item[1])
        said = f"{len(long)} {kind}{'s' if len(long) > 1 else ''} longer than scale.max_prompt_tokens={limit} (the longest has {length}: {text[:60]!r})"
        if rows is problems.training_rows or engine == "torch":
            raise ConfigError(f"{said}: raise scale.max_prompt_tokens or leave it out")
        notes.append(f"{said}: verl cuts them on the left while it trains; rlvr.evaluate does not")
    return notes


def counter(model: str, template: str) -> Callable[[str], int] | None:
    """A function from a question to the tokens of its whole prompt; None where the tokenizer or its template cannot be had."""
    folder = _folder(model)
    return _counter(folder, template) if folder else None


@cache
def _counter(folder: Path, template: str) -> Callable[[str], int] | None:
    """Of a folder with a tokenizer; runs that are planned together count each question once."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    renderer = _Template(folder)

    def count(question: str) -> int:
        return len(tokenizer.encode(prompts.render(template, question, renderer), add_special_tokens=False).ids)

    try:
        count("1 + 1?")
    except (TemplateError, ValueError):
        return None
    return lru_cache(maxsize=None)(count)


def _folder(model: str) -> Path | None:
    """Where the tokenizer of a local model, of a hub's that has been downloaded, or of a converted GGUF file is."""
    if gguf.is_gguf(model):
        model = str(gguf.folder_of(model))
    if (Path(model) / "tokenizer.json").exists():
        return Path(model)
    if Path(model).exists() or model.count("/") != 1:
        return None
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(model, "tokenizer.json")
    return Path(cached).parent if isinstance(cached, str) else None


class _Template:
    """The chat template of a model folder, with the face that `prompts.render` knows of a tokenizer."""

    def __init__(self, folder: Path):
        file = folder / "chat_template.jinja"
        about = folder / "tokenizer_config.json"
        known = json.loads(about.read_text()) if about.exists() else {}
        self.chat_template = file.read_text() if file.exists() else known.get("chat_template")

    def apply_chat_template(self, messages: list[dict], **options) -> str:
        return prompts.compiled(self.chat_template).render(messages=messages, **options)
