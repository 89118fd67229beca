"""Protects a user's text from Hydra and OmegaConf, where `${` begins an interpolation and `???` is a missing value.

A text is protected where it enters a configuration (command line, file of examples) and restored where it leaves it
(training rows, config.yaml, names). The protection is an invisible character between `$` and `{`, and after `???`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

MARK = "\u2060"  # WORD JOINER; a text that already has one there gets another
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
_SWEEP = re.compile(rf"(?:{_QUOTED.pattern})(?:\s*,\s*(?:{_QUOTED.pattern}))*", re.DOTALL)


def protected(value: Any) -> Any:
    """A text, or all texts of a mapping or list, in a form that OmegaConf does not interpret."""
    return _each(value, lambda text: re.sub(rf"(\${MARK}*)(?={{)|(\A\?{{3}}{MARK}*\Z)", rf"\g<0>{MARK}", text))


def as_written(value: Any) -> Any:
    """The inverse of `protected`: texts as the user wrote them."""
    return _each(value, lambda text: re.sub(rf"(\${MARK}*){MARK}(?={{)|(\A\?{{3}}{MARK}*){MARK}\Z", r"\1\2", text))


def _each(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _each(item, change) for key, item in value.items()}
    return [_each(item, change) for item in value] if isinstance(value, Sequence) else value


def for_hydra(text: str) -> str:
    """A protected text in Hydra's grammar. A text that is already quoted, or several quoted ones with commas, keep their quotes."""
    if not _SWEEP.fullmatch(text):
        return in_quotes(protected(text))
    return _QUOTED.sub(lambda match: in_quotes(protected(without_quotes(match[0]))), text)


def in_quotes(text: str) -> str:
    """A text in Hydra's quotes. A backslash is special only before a quote and at the end."""
    return "'" + re.sub(r"(\\*)('|\Z)", lambda match: match[1] * 2 + (match[2] and "\\'"), text) + "'"


def without_quotes(text: str) -> str:
    """The inverse of `in_quotes`; a text without quotes is returned unchanged."""
    if not _QUOTED.fullmatch(text):
        return text
    return re.sub(rf"(\\+)({text[0]}|\Z)", lambda match: match[1][: len(match[1]) // 2] + match[2], text[1:-1])
