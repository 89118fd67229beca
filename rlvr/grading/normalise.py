"""Spellings that mean the same and that Math-Verify tells apart, or reads wrongly, are made one here.

Every rule is here for one of three reasons, which its comment names: labelled cases or benchmark labels of several
sources need it; without it two different answers would be equal; or it spares a worker. A rule that one case alone
asks for is left out: on cases that were not in sight such rules gained nothing. Standard library only: the training
process runs this.
"""

import re
from fractions import Fraction
from functools import lru_cache

# Several sources: what a model writes in Unicode and Math-Verify does not read.
_CHARACTERS = str.maketrans({"\u00b0": "^\\circ ", "\u2208": "\\in "})
_DEGREES = re.compile(r"(\d+(?:\.\d+)?)\s*\^\s*(?:\{\s*\\circ\s*\}|\\circ)")
_NUMBER = re.compile(r"[-+]?(?:(?:\d+|[1-9]\d{0,2}(?:,\d{3})+)(?:\.\d*)?|\.\d+)", re.ASCII)
_FRACTION = re.compile(r"(-)?(?:\\frac\{(-?\d+)\}\{(-?\d+)\}|(\d+)/(\d+))", re.ASCII)
_MAX_NUMBER_CHARS = 60


@lru_cache(maxsize=8192)
def normalise(text: str) -> str:
    """One spelling for an answer or a label. Length stays of the same order; never raises."""
    text = text.translate(_CHARACTERS).replace("\\$", "").replace("$", "")  # several sources: labels in dollars
    text = re.sub(r"\\(?:left|right)(?![a-zA-Z])\s*(?=[()\[\]|\\])", "", text)  # spares a worker
    text = re.sub(r"\\[tdc]frac", r"\\frac", text)  # spares a worker
    text = re.sub(r"(?<=\d)[eE]\+?(-?\d+)$", r" \\times 10^{\1}", text)  # `4.5e33`: every fifth label of Minerva
    text = text.replace("**", "^")  # several sources
    if re.search(r"\\(?:sin|cos|tan|cot|sec|csc)", text):
        # The sine of 90 degrees is not the sine of 90, which Math-Verify makes of it.
        text = _DEGREES.sub(r"{\\frac{\1 \\pi}{180}}", text)
    return text.strip()


@lru_cache(maxsize=8192)
def number(text: str) -> Fraction | None:
    """The value of a plain decimal number or of a fraction of integers; None for everything else."""
    if len(text) > _MAX_NUMBER_CHARS:
        return None
    if _NUMBER.fullmatch(text):
        return Fraction(text.replace(",", ""))
    found = _FRACTION.fullmatch(text)
    if not found or not int(found[3] or found[5]):
        return None
    return Fraction(int(found[2] or found[4]), int(found[3] or found[5])) * (-1 if found[1] else 1)


_WORD = re.compile(r"\(?(?:\\(?:text|textbf|mathrm|mbox)\{)?\s*\(?([A-Za-z][A-Za-z ]*)\)?\}?\)?")


def word(text: str) -> str | None:
    """The lower-case word an answer consists of (`\\text{Even}`, `(C)`, `True`); None when it is no word.

    Without it `listen` is `silent`: Math-Verify multiplies the letters of a word.
    """
    found = _WORD.fullmatch(text)
    return " ".join(found[1].split()).lower() if found else None


# A unit is words, or one of the letters that are no variable in an answer.
_UNIT = re.compile(
    r"(?P<value>.*[\d}])(?:\s|~|\\[,;: ])*\\(?:text|mbox|mathrm|textrm)\s*\{[\s~]*(?P<unit>[A-Za-z][A-Za-z/ .~]+|[mgshLNJWVAKCF])"
    r"\s*\}\s*(?:\^\s*\{?\s*(?P<power>[123])\s*\}?)?"
)
# Words that make a number another one, or withdraw it.
_NO_UNIT = re.compile(
    r"\b(?:percent|pct|hundred|thousand|[a-z]*illion|dozen|squared|cubed|factorial|plus|minus|times|"
    r"less|more|fewer|and|or|not|no|maybe|wrong)\b",
    re.IGNORECASE,
)


def quantity(text: str) -> tuple[str, str]:
    """Value and unit of `3.5\\text{ cm}^2`: `3.5` and `cm2`; any other text has the unit ''.

    Several sources give the unit on one side only. Two units are compared: 5 m is not 5 cm, which it is to Math-Verify.
    """
    found = _UNIT.fullmatch(text)
    if not found or _NO_UNIT.search(found["unit"]):
        return text, ""
    return found["value"].strip(), re.sub(r"[\s~.]", "", found["unit"]) + (found["power"] or "")


_CODE = re.compile(r"__|\blambda\b|\]\s*\[")
_STATEMENTS = re.compile(
    r"\\(?:long)?(?:[lL]eft|[rR]ight|[lL]eftright)arrow|\\(?:to|mapsto|implies|iff|therefore|because|equiv|cancel)\b|"
    r"\\\\(?![a-zA-Z])|\\begin|\\(?:sout|st|not)\b|:=|->|=>"
)


def is_code(text: str) -> bool:
    """Whether a box holds a program rather than mathematics: Math-Verify reads `(lambda: 12)()` as 12."""
    return bool(_CODE.search(text))


def says_more(answer: str, gold: str) -> bool:
    """Whether an answer is several statements (`13 \\to 12`, two lines) where the label is one.

    Math-Verify reads one of them, so that a guess scores.
    """
    return bool(_STATEMENTS.search(answer)) and not _STATEMENTS.search(gold)
