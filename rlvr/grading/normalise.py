"""Gives one spelling to answers that mean the same but that Math-Verify reads as different, or reads wrongly.

Every rule has one of three reasons: labelled cases or benchmark labels of several sources need it; without it two different
answers would be equal; or it saves a call of a worker (its comment says so). Rules that only one case needs are left out:
on held-out cases such rules gained nothing. Standard library only: the training process runs this.
"""

import re
from fractions import Fraction
from functools import lru_cache

from rlvr.grading.unicode_spelling import as_tex
from rlvr.grading.units import SPACE, with_currency_named

# Pattern and spelling, applied in this order.
_RULES = [
    (re.compile(pattern), spelling)
    for pattern, spelling in (
        (r"\\?\$", ""),  # labels in dollars
        (r"^\\text ?\{(\d[^{}\\]*)\}$|^\*\*(.+)\*\*$|(?<!\.)\.$", r"\1\2"),
        (r"\\(?:left|right)(?![a-zA-Z])\s*(?=[()\[\]|\\])", ""),  # spares a worker
        (r"\\[tdc]frac", r"\\frac"),  # spares a worker
        (r"(\\[A-Za-z]+)\s+(?![A-Za-z])", r"\1"),  # spares a worker
        (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),  # spares a worker
        (r"\{,\}|,\\!\s*", ","),  # spares a worker
        (r"(?<=\d)[eE]\+?(-?\d+)$", r" \\times 10^{\1}"),  # `4.5e33`: every fifth label of Minerva
        (r"(?<=\d) x (?=10 ?\^)", r" \\times "),
        (r"\*\*", "^"),
        (r"\^ ?(-\d+)", r"^{\1}"),
        (r"\\degree(?![a-zA-Z])", r"^\\circ"),
        (r"\^ ?\{ ?((?:\\prime ?)+)\}|\^ ?(\\prime)", r"\1\2"),
        (r"\\prime ?", "'"),
        (r'(?<=\d)"', "''"),
        (r"(?<=\d)(?: |\\text ?\{)*(?:percent|per cent|pct)\}?$", r"\\%"),
        (r"(?<![A-Za-z\\])pi(?![A-Za-z])", r"\\pi "),
        (r"(?<![A-Za-z\\])sqrt ?\(((?:[^()]|\([^()]*\))*)\)", r"\\sqrt{\1}"),
        (r"\{ ?(\\(?:overline|bar|dot) ?\{\d+\}) ?\}", r"\1"),
    )
]
_GROUPS = re.compile(rf"^([-+]?\d{{1,3}})((?:{SPACE}\d{{3}})+)(?!\d)")
_PERIOD = re.compile(
    r"(\d*)\.(\d*)(?:\\(?:overline|bar|dot) ?(?:\{(\d+)\}|(\d))(?:(\d*)\\dot ?(?:\{(\d)\}|(\d)))?|\((\d+)\))"
    r"|(\d*)\.(\d*?)(\d)\11{2,}(?:\.\.\.|…|\\[lc]?dots)"
)
# The sine of 90 degrees is not the sine of 90, which Math-Verify makes of it.
_FUNCTION = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)")
_DEGREES = re.compile(r"(\d+(?:\.\d+)?)\s*\^\s*(?:\{\s*\\circ\s*\}|\\circ)")
_NUMBER = re.compile(r"[-+]?(?:(?:\d+|[1-9]\d{0,2}(?:,\d{3})+)(?:\.\d*)?|\.\d+)", re.ASCII)
_FRACTION = re.compile(
    r"(-)?(?:(\d+)(?:\s+|\\ )?(?=\\frac|(?<=[\s])\d+/))?(?:\\frac\{(-?\d+)\}\{(-?\d+)\}|(\d+)/(\d+))", re.ASCII
)
_SCIENTIFIC = re.compile(
    rf"(-)?(?:({_NUMBER.pattern})\s*(?:\\times|\\cdot|\*)\s*)?10\s*\^\s*(?:\{{\s*([-+]?\d+)\s*\}}|(\d))", re.ASCII
)
_MAX_NUMBER_CHARS = 60
_MAX_EXPONENT = 400


@lru_cache(maxsize=8192)
def normalise(text: str) -> str:
    """One spelling for an answer or a label, about as long as the text. Never raises."""
    text = with_currency_named(re.sub(r"\s+", " ", as_tex(text)).strip())
    for pattern, spelling in _RULES:
        text = pattern.sub(spelling, text).strip()
    text = _GROUPS.sub(lambda found: found[1] + re.sub(r"\D", "", found[2]), text)
    text = _PERIOD.sub(_repeating, text)
    if _FUNCTION.search(text):
        text = _DEGREES.sub(r"{\\frac{\1 \\pi}{180}}", text)
    return text.strip()


def _repeating(found: re.Match) -> str:
    """`0.1\\overline{6}`, `0.1\\dot6`, `0.\\dot14285\\dot7`, `0.1(6)` and `0.1666...` as a fraction."""
    parts = [part or "" for part in found.groups()]
    whole, fixed, period = (*parts[:2], "".join(parts[2:8])) if parts[10] == "" else parts[8:]
    scale = 10 ** len(fixed)
    value = Fraction(int(whole or 0) * scale + int(fixed or 0), scale)
    value += Fraction(int(period), scale * (10 ** len(period) - 1))
    return f"\\frac{{{value.numerator}}}{{{value.denominator}}}"


@lru_cache(maxsize=8192)
def number(text: str) -> Fraction | None:
    """The value of a plain decimal number, a fraction of integers, a mixed number or `a \\times 10^{b}`; None for any other text."""
    if len(text) > _MAX_NUMBER_CHARS:
        return None
    if _NUMBER.fullmatch(text):
        return Fraction(text.replace(",", ""))
    if (found := _SCIENTIFIC.fullmatch(text)) and abs(exponent := int(found[3] or found[4])) <= _MAX_EXPONENT:
        value = Fraction((found[2] or "1").replace(",", "")) * Fraction(10) ** exponent
        return -value if found[1] else value
    found = _FRACTION.fullmatch(text)
    if not found or not int(found[4] or found[6]):
        return None
    value = Fraction(int(found[3] or found[5]), int(found[4] or found[6]))
    if found[2] and not 0 <= value < 1:
        return None  # `2\frac{4}{3}` is not a mixed number
    return (int(found[2] or 0) + value) * (-1 if found[1] else 1)


_WORD = re.compile(r"\(?(?:\\(?:text|textbf|mathrm|mbox)\{)?\s*\(?([A-Za-z][A-Za-z ]*)\)?\}?\)?")


def word(text: str) -> str | None:
    """The lower-case words of an answer that consists of words (`\\text{Even}`, `(C)`, `True`); None for any other answer.

    Math-Verify multiplies the letters of a word, so that `listen` would equal `silent`.
    """
    found = _WORD.fullmatch(text)
    return " ".join(found[1].split()).lower() if found else None


def primes(text: str) -> int:
    """The number of primes (`f'(x)`, `30'`) in a text, without the apostrophes of words. Math-Verify ignores primes."""
    return len(re.findall(r"'", re.sub(r"(?<=[A-Za-z]{2})'(?=[a-z])|^'(.*)'$", r"\1", text)))


_CODE = re.compile(r"__|\blambda\b|\]\s*\[")
_STATEMENTS = re.compile(
    r"\\(?:long)?(?:[lL]eft|[rR]ight|[lL]eftright)arrow|\\(?:to|mapsto|implies|iff|therefore|because|equiv|cancel)(?![a-zA-Z])|"
    r"\\\\(?![a-zA-Z])|\\begin|\\(?:sout|st|not)(?![a-zA-Z])|:=|->|=>"
)


def is_code(text: str) -> bool:
    """Whether a box holds a program rather than mathematics: Math-Verify reads `(lambda: 12)()` as 12."""
    return bool(_CODE.search(text.replace("\\lambda", "")))


def says_more(answer: str, gold: str) -> bool:
    """Whether an answer has several statements (`13 \\to 12`, two lines) and the label only one.

    Math-Verify reads one of them, so that several guesses would score.
    """
    return bool(_STATEMENTS.search(answer)) and not _STATEMENTS.search(gold)
