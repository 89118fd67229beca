"""What every command shares: errors of one line, the number of usable cores, and options `key=value` declared as a dataclass.

    @dataclass
    class Options:
        run: Path = option("the run folder")                    # without a default it must be given
        rows: int = option("decoded at once", 256, at_least=1)

    sys.exit(command(Options, work, __doc__))                   # work(options) -> exit code or None

The annotation says how a value is read: str, Path, int, float, bool, Literal, `list[...]` and `| None`. A text or path may hold
spaces, commas, brackets and equals signs without quotes; `~` is the home folder. The values of a list stand between commas,
or the option is given again. An option of type dict takes `key.<name>.<key>=value`. `-h` prints the module's text and the
options.
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
    """A request that cannot be met. The message is one line: the value, what was expected, the remedy."""


class DataError(ConfigError):
    """Data that is not there or does not fit."""


def did_you_mean(given: str, known: Sequence[str], otherwise: str | None = None, cutoff: float = 0.6) -> str:
    """A hint for a misspelt name: the known name most like it, else `otherwise`, else all known names.

    `cutoff`: how alike two names must be, 1 for equal ones.
    """
    close = get_close_matches(given, known, n=1, cutoff=cutoff)
    return f"did you mean {close[0]}?" if close else otherwise or f"expected one of {', '.join(known)}"


def usable_cores() -> int:
    """How many CPU cores this process may use; all of the machine's if the system does not say (macOS)."""
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
    """A field of an options dataclass.

    `positional`: collects the arguments without an equals sign. `others`: collects, unread, the key=value arguments whose key
    no field has. `key`: how the option is written, where that is not the field's name.
    """
    about = {"help": help, "at_least": at_least, "positional": positional, "others": others, "key": key}
    if isinstance(default, list | dict):
        return field(default_factory=default.copy, metadata=about)
    return field(default=default, metadata=about)


def command(
    options: type[T], work: Callable[[T], int | None], doc: str | None, arguments: Sequence[str] | None = None
) -> int:
    """Read the command line and do the work; an error is printed in one line. Returns the exit code."""
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
        if error.strerror is None:  # raised by a library, not by the system: its traceback is needed
            raise
        print(f"error: {': '.join(filter(None, [str(error.filename or ''), error.strerror]))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130


def usage(options: type, doc: str | None) -> str:
    """The module's text, and a line for each option."""
    lines = [(doc or "").strip(), "", "options:"]
    for key, (one, kind) in _fields(options).items():
        values = "|".join(map(str, get_args(kind))) if get_origin(kind) is Literal else "..."
        shape = "<name>.<key>=..." if kind is dict else f"={values}"
        default = "" if _default(one) in (None, MISSING, [], {}) else f" (default: {_default(one)})"
        lines.append(f"  {key + shape:<34} {one.metadata['help']}{default}")
    return "\n".join(lines)


def read(options: type[T], arguments: Sequence[str]) -> T:
    """The options that the arguments set. ConfigError for an unknown key, a value of the wrong kind, or a missing option."""
    known = _fields(options)
    positional, others = (
        next((key for key, (one, _) in known.items() if one.metadata[role]), None) for role in ("positional", "others")
    )
    values: dict[str, Any] = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        name, *below = [key] if key in known else key.split(".")
        if below and f"{name}." in known:
            name += "."
        if equals and others and (name not in known or below and known[name][1] is not dict):
            values.setdefault(known[others][0].name, []).append(argument)
            continue
        if not equals and positional and not argument.startswith("-"):
            name, below, text = positional, [], argument
        elif not equals or name not in known:
            hint = did_you_mean(name.lstrip("-"), list(known), f"known: {', '.join(known)}")
            raise ConfigError(f"{argument}: expected key=value; {hint} (-h explains)")
        one, kind = known[name]
        if kind is dict:
            _put(values.setdefault(one.name, {}), below, text, argument)
        elif below:
            raise ConfigError(f"{argument}: {name} has no keys below it")
        elif get_origin(kind) is list:
            values.setdefault(one.name, []).extend(_read_list(key, text, get_args(kind)[0]))
        else:
            value = values[one.name] = _read_value(key, text, kind)
            least = one.metadata["at_least"]
            if least is not None and value is not None and value < least:
                raise ConfigError(f"{argument}: expected {least} or more")
    for key, (one, _) in known.items():
        if one.name not in values and _default(one) is MISSING:
            raise ConfigError(f"{key}=...: must be given: {one.metadata['help']} (-h explains)")
    return options(**values)


def _fields(options: type) -> dict[str, tuple[Field, Any]]:
    """The fields by the key that is written for them, a dot behind that of a dict, each with its type without `| None`."""
    hints = get_type_hints(options)
    known = {}
    for one in fields(options):
        kind = hints[one.name]
        if get_origin(kind) in (Union, UnionType):
            kind = next(part for part in get_args(kind) if part is not type(None))
        known[(one.metadata["key"] or one.name) + "." * (kind is dict)] = one, kind
    return known


def _default(one: Field) -> Any:
    return one.default if one.default_factory is MISSING else one.default_factory()


def _read_list(key: str, text: str, kind: Any) -> list[Any]:
    """Values between commas. A path may contain commas, so a list of paths is given one path at a time."""
    if kind is Path:
        return [_read_value(key, text, kind)]
    if text.startswith("[") != text.endswith("]"):
        raise ConfigError(f"{key}={text}: a bracket does not close; write [a,b] or a,b")
    parts = text[1:-1] if text.startswith("[") else text
    return [_read_value(key, part.strip(), kind) for part in parts.split(",") if part.strip()]


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
    """Set a value of an option of type dict. The value is read as YAML; a file or grader is kept as text."""
    import yaml

    if len(below) != 2:
        raise ConfigError(f"{argument}: expected {argument.partition('.')[0]}.<name>.<key>=value")
    try:
        tree.setdefault(below[0], {})[below[1]] = text if below[1] in ("file", "grader") else yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"{argument}: a bracket or a quote does not close") from None


def hide_transformers_bars() -> None:
    """Call before transformers loads or writes a model: its progress bars stay off the screen, those of downloads stay on."""
    from huggingface_hub.utils import enable_progress_bars
    from transformers.utils import logging

    logging.disable_progress_bar()
    enable_progress_bars()
