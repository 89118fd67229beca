"""Two kinds of answers that Math-Verify cannot read: the letter of a choice (`B) Paris`), and a number in a base (`1210_5`).

Standard library only. The texts are normalised: several spaces have become one.
"""

import re

from rlvr.grading.units import FONT, SPACE

_LETTER = re.compile(rf"(?:{FONT} ?\{{ ?){{0,2}}\(?([A-J])\)?[ }}]*")
_CHOICE = re.compile(
    rf"(?:{FONT} ?\{{ ?){{0,2}}(?:(?:the )?(?:correct |final |right )?(?:answer|option|choice)s?(?: is)?:?[ }}]*){{0,2}}"
    rf"(?:{FONT} ?\{{ ?){{0,2}}(?:[(\[] ?([A-J]) ?[)\]]|\{{?([A-J]))(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_TEXT_OF_CHOICE = re.compile(
    r" ?[).:]?[ .]*| ?(?:[).:]| [-–] (?=[A-Za-z\\])|,(?= ?[^\x00-\x7f]))(?P<text>.*)", re.DOTALL
)
_SECOND_CHOICE = re.compile(
    r"(?:\b(?:or|and|not)|[,;/&|+])\W*\b[A-J]\b|(?<![A-Za-z])[A-J] ?[).:]|^\W*[A-J]\W*$|\\(?:lor|land|vee|wedge)"
)


def letter(label: str) -> str | None:
    """The letter of a label that is a choice (`B`, `(B)`, `\\textbf{(B)}`); None for any other label."""
    found = _LETTER.fullmatch(label)
    return found[1] if found else None


def choice(answer: str) -> str | None:
    """The letter that an answer to a multiple-choice question names (`B) Paris`, `Option B`, `\\text{B. a magnet}`).

    None for an answer that names none, or two.
    """
    if not (found := _CHOICE.fullmatch(answer)):
        return None
    rest = re.sub(rf"{FONT} ?\{{|[{{}}$]|\\[,;:! ]|\\q?quad", " ", found["rest"]).rstrip()
    if found[1] and re.match(r"\s+[\w\\]|$", rest):
        text = rest
    elif split := _TEXT_OF_CHOICE.fullmatch(rest):
        text = split["text"] or ""
    else:
        return None
    if re.match(r"\W*(?:both|neither|all of|none of) ", text, re.IGNORECASE):
        text = ""  # this choice refers to other choices
    return None if _SECOND_CHOICE.search(text) else (found[1] or found[2]).upper()


_WORDS = "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
_BASE_OF_WORD = {word: str(base) for base, word in enumerate(_WORDS.split(), 2)}
_IN_BASE = re.compile(
    rf"(?:[A-Za-z] ?= ?)?(?P<open>\()? ?(?:(?:{FONT}|\\overline) ?\{{)?(?P<digits>-?[0-9][0-9A-Za-z,{{}}! \\]*?)\}}?(?(open) ?\)) ?"
    rf"(?:_ ?\{{? ?(?:{FONT} ?\{{)?(?: ?base ?\}}?)?|{SPACE}*\(?(?:{FONT} ?\{{)?[ (]*(?:in )?base[ -]?(?:{FONT} ?\{{)?\}}?)"
    r" ?\(?(?P<base>\d{1,2}|[a-z]+)[)} ]*",
    re.ASCII,
)
_BASES = re.compile(r"(?<=[\d)]) ?_ ?\{? ?(\d+)")
_MAX_CHARS = 120


def in_base(text: str) -> tuple[str, str] | None:
    """Digits and base of `1210_5`, `(1210)_{five}`, `1,210_5` or `1210 in base 5`; None for any other text."""
    if len(text) > _MAX_CHARS or not ("_" in text or "base" in text) or not (found := _IN_BASE.fullmatch(text)):
        return None
    base = _BASE_OF_WORD.get(found["base"], found["base"])
    return (digits(found["digits"]), base) if base.isdigit() else None


def digits(text: str) -> str:
    """The digits of a whole number without separators and leading zeros."""
    return re.sub(r"[,{}! \\]", "", text).upper().lstrip("0") or "0"


def bases(text: str) -> list[str]:
    """The bases of all numbers in a text, sorted."""
    return sorted(_BASES.findall(text))
