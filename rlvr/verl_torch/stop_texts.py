"""Texts that end an answer beside the model's end token. Evaluation has them (rlvr.data.prompts), training has not.

A stop text that is one token ends the decoding; any other is found afterwards, and what follows it is dropped.
"""

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


def first(text: str, stops: Sequence[str]) -> int:
    """Where the first stop begins, -1 without one."""
    return min((at for stop in stops if (at := text.find(stop)) >= 0), default=-1)


def cut(text: str, stops: Sequence[str]) -> str:
    """The text before the first stop."""
    return text if (at := first(text, stops)) < 0 else text[:at]


def ended(tokenizer: Any, ids: Sequence[int], text: str, stops: Sequence[str]) -> tuple[str, int]:
    """An answer up to its first stop: the text before it, and the tokens it takes until the stop is complete."""
    if (at := first(text, stops)) < 0:
        return text, len(ids)

    def complete(count: int) -> bool:
        return first(tokenizer.decode(ids[:count], skip_special_tokens=True), stops) >= 0

    return text[:at], bisect_left(range(len(ids)), True, key=complete)
