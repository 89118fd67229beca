"""Which text of a response is graded: its last complete box, or the list that its last boxes form together.

Every function takes time linear in the length of the text, also for hostile texts (14,000 boxes that never close).
"""

import re
from typing import NamedTuple

MAX_JOINER_CHARS = 60
MAX_JOINED_BOXES = 20
_COMMAND = re.compile(r"\\f?box")
_TOKEN = re.compile(r"(?P<box>\\(?:boxed|fbox)\s*\{)|\\[\\{}]|(?P<open>\{)|(?P<close>\})")
# What may separate two boxes of one list: a comma or a conjunction, with TeX spacing.
_TEX_SPACING = re.compile(r"\\(?:text|mathrm|mbox)\b|\\q?quad\b|\\[,;:! ()\[\]]|[\s${}]")
_JOINER = re.compile(r"[,;&]*|[,;]? ?(?:and|or)", re.IGNORECASE)

Span = tuple[int, int, int]


class BoxedResponse(NamedTuple):
    """A response and the content of its boxes; None without a complete box.

    `last_box` is the content of the last complete `\\boxed{...}` or `\\fbox{...}`, braces matched. `joined_boxes` also has the
    boxes before it that are separated only by a comma, `and` or `or`, joined by commas: `\\boxed{2} and \\boxed{6}` is the
    answer `2,6`, but `\\boxed{3}, no: \\boxed{12}` is the answer `12`.
    """

    text: str
    last_box: str | None
    joined_boxes: str | None

    @classmethod
    def read(cls, text: str) -> "BoxedResponse":
        """Find the boxes of a response."""
        if not (boxes := _boxes(text)):
            return cls(text, None, None)
        first = len(boxes) - 1
        while len(boxes) - first < MAX_JOINED_BOXES and first and _are_one_list(text, boxes[first - 1], boxes[first]):
            first -= 1
        joined = ",".join(dict.fromkeys(text[begin:end].strip() for _, begin, end in boxes[first:]))
        return cls(text, text[boxes[-1][1] : boxes[-1][2]], joined)


def last_boxed(text: str) -> str | None:
    """The content of the last complete box; None without one."""
    return BoxedResponse.read(text).last_box


def _boxes(text: str) -> list[Span]:
    """(start of the command, start and end of the content) of the last complete boxes, in order."""
    starts = [found.start() for found in _COMMAND.finditer(text)]
    # The end of a response is nearly always enough; matching all braces of a long response is slow.
    tails = [starts[-MAX_JOINED_BOXES:][0], starts[0]] if starts else []
    return next((boxes for begin in tails if (boxes := _boxes_from(text, begin))), [])


def _boxes_from(text: str, begin: int) -> list[Span]:
    stack: list[tuple[int, int] | None] = []
    boxes: list[Span] = []
    for token in _TOKEN.finditer(text, begin):
        if token["box"]:
            stack.append(token.span())
        elif token["open"]:
            stack.append(None)
        elif token["close"] and stack and (opened := stack.pop()):
            boxes.append((*opened, token.start()))
    return sorted(boxes)


def _are_one_list(text: str, box: Span, following: Span) -> bool:
    between = text[box[2] + 1 : following[0]]
    if following[0] < box[2] or len(between) > MAX_JOINER_CHARS:
        return False
    return bool(_JOINER.fullmatch(" ".join(_TEX_SPACING.sub(" ", between).split())))
