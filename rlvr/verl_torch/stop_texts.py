"""Where an answer ends, beside the model's end token: before the first of its stop texts.

Evaluation and the server have stop texts (rlvr.data.prompts), training has none. A stop text that is one token ends the
decoding; any other is found in the text, and what follows it is dropped. Special tokens are not part of an answer's text;
a stop text that holds one with other text is found in the text with special tokens written out.
"""

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any


def of_row(extra_info: Mapping[str, Any]) -> list[str]:
    """The stop texts in the `extra_info` of one of verl's rows; a training row has none."""
    given = (extra_info.get("sampling") or {}).get("stop")
    return [] if given is None else list(given)


def token_ids(tokenizer: Any, stops: Sequence[str]) -> tuple[int, ...]:
    """The ids of the stop texts that are one token each."""
    ids = {stop: tokenizer.convert_tokens_to_ids(stop) for stop in stops}
    return tuple(id for stop, id in ids.items() if id is not None and tokenizer.convert_ids_to_tokens(id) == stop)


def special_tokens(tokenizer: Any, stops: Sequence[str]) -> re.Pattern | None:
    """What matches special tokens, where a stop text holds one with other text; None where none does."""
    if not stops:
        return None
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    mixed = any(token in stop and token != stop for stop in stops for token in special)
    return re.compile("|".join(map(re.escape, special))) if mixed else None


def first(text: str, stops: Sequence[str], start: int = 0) -> int:
    """Where the first stop begins, -1 without one. `start`: no stop begins before it."""
    return min((at for stop in stops if (at := text.find(stop, start)) >= 0), default=-1)


def cut(text: str, stops: Sequence[str]) -> str:
    """The text before the first stop."""
    return text if (at := first(text, stops)) < 0 else text[:at]


def ended(tokenizer: Any, ids: Sequence[int], text: str, stops: Sequence[str]) -> tuple[str, int]:
    """An answer up to its first stop: the text before it, and the tokens it takes until the stop is complete.

    `text` is the decoded answer without special tokens.
    """
    hidden = special_tokens(tokenizer, stops)
    whole = tokenizer.decode(ids) if hidden else text
    if (at := first(whole, stops)) < 0:
        return text, len(ids)

    def complete(count: int) -> bool:
        return first(tokenizer.decode(ids[:count], skip_special_tokens=hidden is None), stops) >= 0

    return hidden.sub("", whole[:at]) if hidden else whole[:at], bisect_left(range(len(ids)), True, key=complete)
