"""What every command shares: errors of one line, the number of usable cores, and options `key=value` declared as a dataclass.

    @dataclass
    class Options:
        run: Path = option("the run folder")                    # without a default it must be given
        rows: int = option("decoded at once", 256, at_least=1)

    sys.exit(command(Options, work, __doc__))                   # work(options) -> exit code or None

A value is read as its annotation says: str and Path as they stand (spaces, commas, brackets and equals signs need no
quotes; `~` is the home folder), int, float, bool, Literal, `list[...]` (comma-separated, or given again) and `| None`.
`dict` takes `key.<name>.<name>=value`. `-h` prints the module's text and the options.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, field, fields
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
WORDS = {int: "a whole number", float: "a number", bool: "true or false"}
TRUTH = {"true": True, "false": False}


class ConfigError(ValueError):
    """Something asked for that cannot be done; the message is one line: the value, what was expected, the remedy."""


class DataError(ConfigError):
    """Data that is not there or does not fit."""


def did_you_mean(given: str, known: Sequence[str], otherwise: str | None = None) -> str:
    """A hint for a misspelt name: the known one most like it, else all of them."""
    close = get_close_matches(given, known, n=1)
    return f"did you mean {close[0]}?" if close else otherwise or f"expected one of {', '.join(known)}"


def usable_cores() -> int:
    """How many CPU cores this process may use; where the system does not say (macOS), all of the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def option(
    help: str,
    default: Any = MISSING,
    *,
    at_least: float | None = None,
    positional: bool = False,
    others: bool = False,
    key: str | None = None,
) -> Any:
    """A field of an options dataclass. `positional`: arguments without an equals sign are its values. `others`: so are, as
    they stand, those with one whose key no field has. `key`: what is written for it, where that is not the field's name; of a
    dict, what its arguments begin with."""
    about = {"help": help, "at_least": at_least, "positional": positional, "others": others, "key": key}
    if isinstance(default, list | dict):
        return field(default_factory=default.copy, metadata=about)
    return field(default=default, metadata=about)


def command(
    options: type[T], work: Callable[[T], int | None], doc: str | None, arguments: Sequence[str] | None = None
) -> int:
    """Read the command line, do the work, and say in one line what went wrong; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help"} & set(arguments):
        print(usage(options, doc))
        return 0
    try:
        return work(read(options, arguments)) or 0
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.strerror is None:  # no answer of the system's: a library's, whose place matters
            raise
        print(f"error: {': '.join(filter(None, [str(error.filename or ''), error.strerror]))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130


def usage(options: type, doc: str | None) -> str:
    """The module's text, and a line for each option."""
    lines = [(doc or "").strip(), "", "options:"]
    for one, kind in _typed(options):
        default = "" if _default(one) in (None, MISSING, [], {}) else f" (default: {_default(one)})"
        lines.append(f"  {(one.metadata['key'] or one.name) + _shape(kind):<34} {one.metadata['help']}{default}")
    return "\n".join(lines)


def read(options: type[T], arguments: Sequence[str]) -> T:
    """The options that the arguments say. ConfigError for an unknown key, a value of another kind, or one missing."""
    known = dict((one.name, (one, kind)) for one, kind in _typed(options))
    values: dict[str, Any] = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        name, *below = key.split(".")
        if whole := next(
            (n for n, (one, kind) in known.items() if one.metadata["key"] == key and kind is not dict), None
        ):
            name, below = whole, []
        if below and (group := next((one for one, _ in known.values() if one.metadata["key"] == name), None)):
            name = group.name
        others = next((one for one, _ in known.values() if one.metadata["others"]), None)
        if equals and others and (name not in known or below and known[name][1] is not dict):
            values.setdefault(others.name, []).append(argument)
            continue
        if not equals or name not in known:
            free = next((one for one, _ in known.values() if one.metadata["positional"]), None)
            if free is None or equals or argument.startswith("-"):
                hint = did_you_mean(name.lstrip("-"), list(known), f"known: {', '.join(known)}")
                raise ConfigError(f"{argument}: expected key=value; {hint} (-h explains)")
            name, below, text = free.name, [], argument
        one, kind = known[name]
        if kind is dict:
            _put(values.setdefault(name, {}), below, text, argument)
        elif below:
            raise ConfigError(f"{argument}: {name} has no keys below it")
        elif get_origin(kind) is list:
            values.setdefault(name, []).extend(_read_list(key, text, get_args(kind)[0]))
        else:
            values[name] = _read_value(key, text, kind)
            least = one.metadata["at_least"]
            if least is not None and values[name] is not None and values[name] < least:
                raise ConfigError(f"{argument}: expected {least} or more")
    for one, _ in known.values():
        if one.name not in values and _default(one) is MISSING:
            raise ConfigError(f"{one.name}=...: must be given: {one.metadata['help']} (-h explains)")
    return options(**values)


def _typed(options: type) -> list[tuple[Field, Any]]:
    """The fields and their types, `| None` taken off."""
    hints = get_type_hints(options)
    return [(one, _without_none(hints[one.name])) for one in fields(options)]


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, UnionType):
        return next(part for part in get_args(kind) if part is not type(None))
    return kind


def _default(one: Field) -> Any:
    return one.default if one.default_factory is MISSING else one.default_factory()


def _shape(kind: Any) -> str:
    if kind is dict:
        return ".<name>.<key>=..."
    if get_origin(kind) is Literal:
        return "=" + "|".join(map(str, get_args(kind)))
    return "=..."


def _read_list(key: str, text: str, kind: Any) -> list[Any]:
    """Values between commas; a list of paths is given one at a time, for a path may hold commas."""
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if kind is not Path and text.startswith("[") != text.endswith("]"):
        raise ConfigError(f"{key}={text}: a bracket does not close; write [a,b] or a,b")
    parts = [text] if kind is Path else [part.strip() for part in inner.split(",") if part.strip()]
    return [_read_value(key, part, kind) for part in parts]


def _read_value(key: str, text: str, kind: Any) -> Any:
    if text == "null":
        return None
    if kind is Path:
        return Path(text).expanduser()
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise ConfigError(f"{key}={text}: {did_you_mean(text, get_args(kind))}")
        return text
    try:
        return TRUTH[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        raise ConfigError(f"{key}={text}: expected {WORDS[kind]}") from None


def _put(tree: dict, below: list[str], text: str, argument: str) -> None:
    """A value of an open group, read as YAML reads it."""
    import yaml

    if len(below) != 2:
        raise ConfigError(f"{argument}: expected {argument.partition('.')[0]}.<name>.<key>=value")
    try:
        tree.setdefault(below[0], {})[below[1]] = text if below[1] in ("file", "grader") else yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"{argument}: a bracket or a quote does not close") from None
