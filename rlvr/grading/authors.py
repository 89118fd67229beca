"""The authors' training reward, restated from its description: mathd string equality, or a restricted sympy equality.

For runs that must be rewarded as the paper's were. Stricter than Math-Verify in what it refuses:
1. nothing that contains `^{`, `^(`, a power of two or more digits or a power of a power is handed to sympy;
2. a fraction equals only the same reduced fraction, an integer only an integer;
3. tuples and intervals need the same brackets and the same order.

Departures: LaTeX becomes plain text by the few rules below instead of a LaTeX library, and an answer that is equal to
an empty label is not rewarded. sympy is imported by the worker process only.
"""

import re
from fractions import Fraction

_LARGE = {"trillion": 12, "billion": 9, "million": 6}
_UNITS = (
    "degree|cm|centimeter|meter|mile|second|minute|hour|day|week|month|year|foot|feet|inch|yard"  # as the reward does
)
_GROUPED = re.compile(r"(?<=\d),(?=\d{3}(?:\D|$))")
_TEX_WORDS = {
    "\\pi": "pi", "\\infty": "inf", "\\cdot": "*", "\\times": "*", "\\cup": "U", "\\ldots": "...", "\\le": "<=",
    "\\ge": ">=", "\\pm": "+-",
}  # fmt: skip
_MAX_SYMBOLS = 2
# Few enough digits for a float to tell any two of them apart, as the comparison does.
_PLAIN = re.compile(r"-?\d{1,6}(?:\.\d{1,6})?", re.ASCII)


def mathd_equal(answer: str, gold: str) -> bool:
    """Whether both are the same string after the spelling rules of the MATH data set."""
    return mathd(answer) == mathd(gold)


def mathd(text: str) -> str:
    """One spelling for a MATH answer: no spaces, units, degrees or sizes; `\\frac{a}{b}` for every simple fraction."""
    found = re.fullmatch(r"\\text\{(.+?)\}", text.strip())
    text = found[1].strip() if found else text.strip()
    text = text.replace("\n", "").replace("\\!", "").replace("\\\\", "\\")
    text = re.sub(r"\\[td]frac", r"\\frac", text)
    text = re.sub(r"\\left|\\right|\^\{\\circ\}|\^\\circ|\\\$|\\?%", "", text)
    text = text.split("\\text{ ")[0]  # a unit stands last
    text = re.sub(r"(^|[ {])\.", r"\g<1>0.", text)
    sides = text.split("=")
    if len(sides) == 2 and len(sides[0].strip()) <= 2:
        text = sides[1]
    text = re.sub(r"\\sqrt\s*([^{\s\[])", r"\\sqrt{\1}", text).replace(" ", "")
    text = re.sub(r"\\frac(?!\{)(.)(?!\{)(.)", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\frac(?!\{)(.)\{", r"\\frac{\1}{", text)
    text = "\\frac{1}{2}" if text == "0.5" else text
    return re.sub(r"^(-?\d+)/(-?\d+)$", r"\\frac{\1}{\2}", text)


def plain_verdict(answer: str, gold: str) -> tuple[float, str] | None:
    """What `judge` says about two plain decimal numbers, without sympy; None for anything else."""
    if not (_PLAIN.fullmatch(answer.strip()) and _PLAIN.fullmatch(gold.strip())):
        return None
    return (1.0, "correct") if Fraction(answer.strip()) == Fraction(gold.strip()) else (0.0, "wrong")


def judge(answer: str, gold: str) -> tuple[float, str]:
    """The restricted sympy comparison, for answers that are not equal as strings. Runs in a worker."""
    given, truth = _plain(answer), _plain(gold)
    if not given:
        return 0.0, "unparsable"
    if given == truth:
        return 1.0, "correct"
    given_parts, truth_parts = _elements(given), _elements(truth)
    brackets = given[:1] + given[-1:] == truth[:1] + truth[-1:]
    if len(given_parts) != len(truth_parts) or (len(truth_parts) > 1 and not brackets):
        return 0.0, "wrong"
    if "^{" in answer + gold or "^(" in answer + gold:
        return 0.0, "wrong"  # equal strings apart, which are decided above
    equal = all(_equal(a, b) for a, b in zip(given_parts, truth_parts, strict=True))
    return (1.0, "correct") if equal else (0.0, "wrong")


def _plain(text: str) -> str:
    """Plain lower-case arithmetic from an answer: no units, dollars, percents, spaces or braces."""
    found = re.fullmatch(r"\\text\{(.+?)\}", text)
    text = found[1] if found else text
    text = re.sub(r"\\?[%$]", "", text)
    text = re.sub(r" (?:or|and) ", " , ", text)
    for name, power in _LARGE.items():
        text = text.replace(name, f"*10^{power}")
    text = re.sub(rf"(?:{_UNITS})(?:es)?s? *(?:\^[0-9]+)?", "", text)
    text = re.sub(r"\^ *\\circ", "", text)
    text = text[1:-1] if text.startswith("{") and text.endswith("}") else text
    text = re.sub(r",\\! *", "", text)
    if re.fullmatch(r"-?\d+\.0*", text):
        text = text.split(".")[0]
    if "\\" in text:
        text = _without_tex(text)
    text = re.sub(r"- *", "-", text)
    text = re.sub(r"(\d) +(\d)", r"\1+\2", text)  # a mixed number
    text = text.replace(" ", "").replace("{", "").replace("}", "").lower()
    grouped = _GROUPED.sub("", text)
    return str(int(grouped)) if re.fullmatch(r"-?\d{1,4000}", grouped) else text


def _without_tex(text: str) -> str:
    text = re.sub(r"\\[tdc]frac", r"\\frac", text).replace("\\frac", " \\frac")
    text = re.sub(r"\\(?:left|right|,|;|!|quad)", "", text)
    before = None
    while before != text:  # innermost first
        before = text
        text = re.sub(r"\\frac\s*(?:\{([^{}]*)\}|(\w))\s*(?:\{([^{}]*)\}|(\w))", _fraction, text)
        text = re.sub(r"\\sqrt\s*(?:\{([^{}]*)\}|(\w))", lambda root: f"sqrt({root[1] or root[2]})", text)
        text = re.sub(r"\\(?:text|mathrm|mathbf|textbf|mbox)\s*\{([^{}]*)\}", r"\1", text)
    for tex, plain in _TEX_WORDS.items():
        text = re.sub(rf"{re.escape(tex)}(?![a-zA-Z])", lambda _, plain=plain: plain, text)  # type: ignore[misc]
    return text.replace("\\", "").strip()


def _fraction(found: re.Match) -> str:
    parts = [found[1] or found[2], found[3] or found[4]]
    return "/".join(part if re.fullmatch(r"-?\w+", part) else f"({part})" for part in parts)


def _elements(text: str) -> list[str]:
    """The entries of a tuple or interval; any other text is one entry."""
    text = _GROUPED.sub("", text) if re.fullmatch(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?", text) else text
    inner = text[1:-1]
    if len(text) > 2 and text[0] in "([" and text[-1] in ")]" and not re.search(r"[()\[\]]", inner):
        return [part.strip() for part in inner.split(",")]
    return [text]


def _equal(given: str, truth: str) -> bool:
    fraction = re.compile(r"-?[0-9]+/0*[1-9][0-9]*")
    if fraction.fullmatch(given) and fraction.fullmatch(truth):
        return given == truth
    if _is_integer(given) != _is_integer(truth):
        return False
    difference = f"({truth})-({given})"
    return _allowed(difference) and _sympy_zero(difference)


def _is_integer(text: str) -> bool:
    return bool(re.fullmatch(r"-?\d+", _GROUPED.sub("", text)))


def _allowed(expression: str) -> bool:
    """What the reward lets sympy see: at most two letters, and no powers that could take long."""
    letters = set(re.findall(r"[A-Za-z]", expression.replace("sqrt", "").replace("frac", "")))
    refused = re.search(r"\^\{|\^\(|\^[0-9]+\^|\^[0-9][0-9]+", expression)
    return len(letters) <= _MAX_SYMBOLS and not refused


def _sympy_zero(expression: str) -> bool:
    from sympy import simplify
    from sympy.parsing.sympy_parser import implicit_multiplication_application, parse_expr, standard_transformations

    if (
        not re.fullmatch(r"[\w\s+\-*/^().,!]*", expression)
        or "__" in expression
        or re.search(r"[a-z]\.|\.[a-z]", expression)
    ):
        return False  # parse_expr evaluates Python: arithmetic only
    try:
        rules = (*standard_transformations, implicit_multiplication_application)
        return simplify(parse_expr(expression.replace("^", "**"), transformations=rules)) == 0
    except (SyntaxError, TypeError, ValueError, AttributeError, NameError, ZeroDivisionError):
        return False
