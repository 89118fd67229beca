"""Which text of a response is graded: its last complete box, or the list that its last boxes spell out together.

Every function is linear in the length of the text, also when it is hostile (14,000 boxes that never close).
"""

import re

MAX_JOINER_CHARS = 60
MAX_JOINED_BOXES = 20
_OPENING = re.compile(r"\\f?box(?:ed)?\s*\{")
_BRACE = re.compile(r"\\[\\{}]|[{}]")
_TOKEN = re.compile(r"(?P<box>\\(?:boxed|fbox)\s*\{)|\\[{}]|(?P<open>\{)|(?P<close>\})")
# What may stand between two boxes of one list: TeX spacing, a comma, or a conjunction with at most a noun or a name.
_TEX_SPACING = re.compile(r"\\(?:text|mathrm|mbox)\b|\\q?quad\b|\\[,;:! ()\[\]]|[\s${}]")
_JOINER = re.compile(
    r"[,;&]*|[,;]?(?:[a-z]+|for part \(?\w\)?)? ?,?(?:and|or),?(?: ?[a-z]\w?(?:_\w+)? ?=)?", re.IGNORECASE
)
_TRIES = 3


def last_boxed(text: str) -> str | None:
    """The content of the last complete `\\boxed{...}` or `\\fbox{...}`, braces matched; None without one."""
    span = _last_box(text)
    return text[span[1] : span[2]] if span else None


def _last_box(text: str) -> tuple[int, int, int] | None:
    """(start of the command, start of the content, end of the content) of the last complete box.

    Two slips are forgiven where no box is complete: `\\boxed{185\\}`, and `\\boxed{\\frac{1}{2}` at the end, of which the
    box gets the last brace.
    """
    span = _find_last_box(text)
    if span is None and "\\}" in text:
        span = _find_last_box(text.replace("\\}", " }").replace("\\{", " {"))
    if span is None and "box" in text and (end := text.rstrip(" \n.$")).endswith("}"):
        span = _find_last_box(end + "}")
        span = (span[0], span[1], span[2] - 1) if span and span[2] == len(end) else None
    return span


def joined_boxes(text: str) -> str | None:
    """As `last_boxed`; boxes that only a comma, `and` or `or` separates from it are one list, joined by commas.

    `\\boxed{2} and \\boxed{6}` is the answer `2,6`; `\\boxed{3}, no: \\boxed{12}` is the answer `12`.
    """
    span = _last_box(text)
    if span is None:
        return None
    parts = [text[span[1] : span[2]]]
    while len(parts) < MAX_JOINED_BOXES and (previous := _box_before(text, span[0])):
        parts.append(text[previous[1] : previous[2]])
        span = previous
    return ",".join(dict.fromkeys(part.strip() for part in reversed(parts)))


def _find_last_box(text: str) -> tuple[int, int, int] | None:
    end = len(text)
    for _ in range(_TRIES):
        start = max(text.rfind("\\boxed", 0, end), text.rfind("\\fbox", 0, end))
        if start < 0:
            return None
        if (opening := _OPENING.match(text, start)) and (close := _closing(text, opening.end(), len(text))) is not None:
            return start, opening.end(), close
        end = start
    return _last_box_in_one_pass(text[:end], text)


def _closing(text: str, begin: int, end: int) -> int | None:
    """Where the brace opened just before `begin` closes; None when it does not before `end`."""
    depth = 1
    for token in _BRACE.finditer(text, begin, end):
        if token.group() == "{":
            depth += 1
        elif token.group() == "}":
            depth -= 1
            if depth == 0:
                return token.start()
    return None


def _last_box_in_one_pass(head: str, text: str) -> tuple[int, int, int] | None:
    """The last complete box that starts within `head`, a prefix of `text`, whatever the number of open ones."""
    stack: list[tuple[int, int] | None] = []
    best: tuple[int, int, int] | None = None
    for token in _TOKEN.finditer(text):
        if token["box"]:
            stack.append((token.start(), token.end()))
        elif token["open"]:
            stack.append(None)
        elif token["close"] and stack:
            opened = stack.pop()
            if opened and opened[0] < len(head) and (best is None or opened[0] > best[0]):
                best = (*opened, token.start())
    return best


def _box_before(text: str, start: int) -> tuple[int, int, int] | None:
    """The box that belongs to one list with the box at `start`, if there is one before it."""
    previous = max(text.rfind("\\boxed", 0, start), text.rfind("\\fbox", 0, start))
    opening = _OPENING.match(text, previous) if previous >= 0 else None
    if opening is None or (close := _closing(text, opening.end(), start)) is None:
        return None
    between = text[close + 1 : start]
    if len(between) > MAX_JOINER_CHARS:
        return None
    words = " ".join(_TEX_SPACING.sub(" ", between).split())
    return (previous, opening.end(), close) if _JOINER.fullmatch(words) else None
