"""Spellings that mean the same and that Math-Verify tells apart, or reads wrongly, are made one here.

Applied to answer and label alike. Each rule stands for a kind of spelling; tests/test_grading.py has examples of each,
also of what it must leave alone. Standard library only: the training process runs this.
"""

import re
import unicodedata
from fractions import Fraction

_UNICODE = {
    "\u2212": "-", "\u2013": "-", "\u00d7": "\\times ", "\u00b7": "\\cdot ", "\u22c5": "\\cdot ", "\u00f7": "/",
    "\u2044": "/", "\u03c0": "\\pi ", "\u00b0": "^\\circ ", "\u2208": "\\in ", "\u221e": "\\infty ",
    "\u2264": "\\leq ", "\u2265": "\\geq ", "\u2260": "\\neq ", "\u222a": "\\cup ", "\u2229": "\\cap ",
    "\u00b1": "\\pm ", "\u03b8": "\\theta ", "\u03b1": "\\alpha ", "\u03b2": "\\beta ", "\u2205": "\\emptyset ",
    "\u2248": "\\approx ", "\u211d": "\\mathbb{R}",
}  # fmt: skip
_FRACTIONS = {
    c: "\\frac{{{}}}{{{}}}".format(*unicodedata.normalize("NFKC", c).split("\u2044")) for c in "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
}
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060\ufeff\x00]")

_NUMBER = r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?"
_FUNCTIONS = "sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|sinh|cosh|tanh|log|ln|exp|pi"
_SHORT_UNITS = (
    "cm|mm|dm|km|nm|m|ft|in|yd|mi|kg|g|mg|lb|lbs|oz|s|sec|ms|min|h|hr|hrs|mph|kmh|km/h|m/s|L|mL|ml|N|J|W|V|A|Hz|kJ|Pa|K|"
    "days?|weeks?|years?|hours?|minutes?|seconds?|feet|foot|miles?|inch(?:es)?|yards?|cents?|dollars?|degrees?|deg|units?"
)
_NO_UNITS = r"percent|percentage|pct|and|or|plus|minus|times|over|not|million|billion|thousand|hundred|dozen|trillion|infinity|if|else|where|with"
_UNIT_WORDS = re.compile(
    rf"(?P<value>.*[\d}}]|\d)\s+(?!(?:{_NO_UNITS})\b)(?:(?:square|cubic|sq|cu)\.?\s+)?(?:{_SHORT_UNITS}|[A-Za-z]{{4,}}(?:\s+(?!(?:{_NO_UNITS})\b)[A-Za-z]+)*)\.?"
    r"(?:\s*\^\s*\{?\s*[123]\s*\}?)?"
)
_UNIT_TEXT = re.compile(
    r"(?P<value>.*[\d}])\s*\\(?:text|mathrm|mbox|textrm|operatorname)\s*\{(?P<unit>[^{}\d]*)\}(?:\s*\^\s*\{?\s*[123]\s*\}?)?"
)
_GLUED_UNITS = re.compile(
    rf"(?P<value>{_NUMBER})(?:weeks?|years?|days?|hours?|minutes?|seconds?|miles?|units?|feet|inches|dollars?|cents?|cm|km|kg|mm|ft|mph|m[lL])"
)
_MIXED = re.compile(r"(?P<sign>-?)\s*(?P<whole>\d+)\s+(?P<num>\d+)\s*/\s*(?P<den>\d+)")
_MIXED_TEX = re.compile(
    r"(?P<sign>-?)\s*(?P<whole>\d+)\s*\\[dtc]?frac\s*(?:\{\s*(?P<num>\d+)\s*\}|(?P<num1>\d))\s*(?:\{\s*(?P<den>\d+)\s*\}|(?P<den1>\d))"
)
_WORD = re.compile(
    r"\(?\s*(?:\\(?:text|textbf|textit|mathrm|mathbf|mbox|textrm|operatorname)\s*\{)?\s*\(?(?P<word>[A-Za-z][A-Za-z ]*?)\)?\s*\}?\s*\)?\.?"
)
_MEMBERSHIP = re.compile(r"\s*[A-Za-z](?:_\{?\w\}?)?\s*\\in\s*(?=[\[({\\])")
_FRACTION = re.compile(r"(-)?(?:\\frac\{(-?\d+)\}\{(-?\d+)\}|(\d+)/(\d+))", re.ASCII)
_NAME = re.compile(r"[A-Za-z](?:_\{\w+\})?(?:\(\w\))?")
_PERCENT = re.compile(
    r"\s*(?:\\?%|\\?\b(?:percent|percentage|pct)\b|\\(?:text|mbox|mathrm)\s*\{\s*(?:\\?%|percent|pct)\s*\})$"
)


def normalise(text: str) -> str:
    """One spelling for an answer or a label. Length stays of the same order; never raises."""
    text = _plain_characters(text)
    text = _strip_math_mode(text)
    text = re.sub(r"\\\\(?=[a-zA-Z])(?!\\\\(?:begin|end|hline))", r"\\", text) if "matrix" not in text else text
    text = _fix_sizes_and_spaces(text).strip()
    while _is_one_group(text):
        text = text[1:-1].strip()
    text = _fix_operators(text)
    text = _fix_degrees(text)
    text = _drop_approximation(text)
    text = _fix_lists(text)
    text = _MEMBERSHIP.sub("", text, count=1) if _MEMBERSHIP.match(text) else text
    text = _fix_subscripts(text)
    text = _PERCENT.sub(r"\\%", text)
    text = _drop_unit(text)
    text = _fix_mixed(text)
    return _fix_thousands(text).strip()


def word(text: str) -> str | None:
    """The lower-case word an answer consists of (`\\text{Even}`, `(C)`, `True`); None when it is no word."""
    found = _WORD.fullmatch(text.strip())
    return " ".join(found["word"].split()).lower() if found else None


def number(text: str) -> Fraction | None:
    """The value of a plain decimal number or of a fraction of integers; None for everything else."""
    if len(text) > 60:
        return None
    if re.fullmatch(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)", text, re.ASCII):
        return Fraction(text)
    found = _FRACTION.fullmatch(text)
    if not found or not int(found[3] or found[5]):
        return None
    return Fraction(int(found[2] or found[4]), int(found[3] or found[5])) * (-1 if found[1] else 1)


def without_percent(text: str) -> str | None:
    """A normalised percentage without its sign; None when it is none."""
    return text[:-2].strip() if text.endswith("\\%") else None


def right_sides(answer: str, gold: str) -> tuple[str, str]:
    """Both without the name they give a value: where the names are the same, or where one side has none.

    `f(x) = 2x` and `f(x)=x+x` become `2x` and `x+x`; `I_{max} = 3` and `3` become `3` and `3`.
    """
    sides = [text.partition("=") for text in (answer, gold)]
    if any("=" in side[2] or re.search(r"[,;<>!:]|\\(?:text|[lgn]e)", side[0] + side[2]) for side in sides):
        return answer, gold
    names = [side[0].replace(" ", "") if side[1] else "" for side in sides]
    if names[0] == names[1] != "":
        return sides[0][2].strip(), sides[1][2].strip()
    if bool(names[0]) != bool(names[1]) and _NAME.fullmatch(names[0] or names[1]):
        return tuple((side[2] if side[1] else side[0]).strip() for side in sides)  # type: ignore[return-value]
    return answer, gold


def equation_sides(text: str) -> list[str]:
    """The sides of an equation outside braces and brackets; the text itself when it is none, or a list."""
    text = re.sub(
        r"\\(?:text|mbox|mathrm)\s*\{[^{}]*\}",
        lambda words: "," if "and" in words[0] or "or" in words[0] else " ",
        text,
    )
    text = re.sub(r"\\approx|\\equiv|\\simeq", "=", text)
    if re.search(r"[,;]|\band\b|\bor\b|\\[lgn]eq?\b|[<>]|\\begin", text):
        return [text]
    sides, depth, begin = [], 0, 0
    for i, character in enumerate(text):
        depth += (character in "{([") - (character in "})]")
        if character == "=" and depth == 0 and text[i - 1 : i] not in ("!", ":"):
            sides.append(text[begin:i])
            begin = i + 1
    return [side.strip() for side in [*sides, text[begin:]] if side.strip()]


def is_constant(text: str) -> bool:
    """Whether no variable stands in a piece of LaTeX."""
    return bool(re.search(r"\d|\\pi", text)) and not re.search(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", text))


_CODE = re.compile(
    r"__|\blambda\b[^\\]*:|(?<!\\)\b(?:import|return|def|print|eval|exec|int|str|float|len|range|open|getattr|input)\b\s*[(\s]"
    r"|\bif\b.*\belse\b|\]\s*\[|;\s*\w+\s*\(|\(\)"
)


def is_code(text: str) -> bool:
    """Whether a box holds a program rather than mathematics."""
    return bool(_CODE.search(text)) and "\\int" not in text


_STATEMENTS = re.compile(
    r"\\(?:long)?(?:[lL]eft|[rR]ight|[lL]eftright)arrow|\\(?:to|mapsto|implies|iff|therefore|because|cancel)\b|:=|"
    r"\\\\(?![a-zA-Z])|\\begin\{(?:cases|align|aligned|gather|array)|\\(?:sout|st|not)\b|->|=>"
)


def says_more(answer: str, gold: str) -> bool:
    """Whether an answer is several statements (`13 \\to 12`, two lines) where the label is one; one of them is read."""
    return bool(_STATEMENTS.search(answer)) and not re.search(r"\\\\|\\begin|\\to|arrow|->|=>", gold)


def is_bare(text: str) -> bool:
    """Whether a response without a box is nothing but an answer, perhaps in dollars: no word of prose in it."""
    text = text.strip().rstrip(".")
    value = normalise(text)
    if number(without_percent(value) or value) is not None:
        return True
    if re.fullmatch(r"(\$\$?)[^$]+\1|\\\([^$]+?\\\)|\\\[[^$]+?\\\]", text):
        return True
    return not re.search(r"[A-Za-z]{3,}|\$", re.sub(r"\\[A-Za-z]+", "", text)) and "\n" not in text


def hides_a_number_in_words(text: str) -> bool:
    """Whether trailing text, which is taken for a unit, holds another number: `12 \\text{ or } 13`, `12 \\text{ (not 13)}`."""
    return bool(re.search(r"\d.*\\(?:text|mbox|mathrm)\s*\{[^{}]*(?:\d|\bnot\b|\bmaybe\b)[^{}]*\}", text))


def _plain_characters(text: str) -> str:
    if text.isascii():
        return text.replace("\x00", "")
    text = _INVISIBLE.sub("", text)
    for character, latex in (_UNICODE | _FRACTIONS).items():
        text = text.replace(character, latex)
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+", lambda run: f"^{{{run.group().translate(_SUPERSCRIPTS)}}}", text)
    text = re.sub("[₀₁₂₃₄₅₆₇₈₉]+", lambda run: f"_{{{run.group().translate(_SUBSCRIPTS)}}}", text)
    text = re.sub(r"√\s*(\d+|[a-z]|(?=[({]))", lambda root: f"\\sqrt{{{root[1]}}}" if root[1] else "\\sqrt", text)
    return unicodedata.normalize("NFKC", text)


def _strip_math_mode(text: str) -> str:
    """Without the dollars or brackets around it, and without the full stop after it."""
    before = None
    while before != text:
        before = text
        text = text.strip().rstrip(".").rstrip()
        if text.endswith("\\") and not text.endswith("\\\\"):
            text = text[:-1]
        for opening, closing in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("**", "**")):
            inner = text[len(opening) : len(text) - len(closing)]
            if (
                len(text) > len(opening) + len(closing)
                and text.startswith(opening)
                and text.endswith(closing)
                and opening not in inner
            ):
                text = inner
    return text.replace("\\$", "").replace("$", "").strip()


def _is_one_group(text: str) -> bool:
    """Whether TeX's own braces enclose all of it, which show nothing: `{(1,2)}`, but neither `{1}{2}` nor `\\{1\\}`."""
    depth = 0
    for i, brace in ((found.start(), found[0]) for found in re.finditer(r"\\.|[{}]", text)):
        depth += {"{": 1, "}": -1}.get(brace, 0)
        if depth <= 0 and brace == "}":
            return depth == 0 and i == len(text) - 1 and text.startswith("{")
    return False


def _fix_sizes_and_spaces(text: str) -> str:
    text = re.sub(r"\\(?:left|right|[bB]igg?[lr]?)(?![a-zA-Z])\s*(?=[()\[\]|\\])", "", text)
    text = re.sub(r"\\displaystyle|\\limits", "", text)
    text = text.replace("\\!", "").replace("\\,", " ").replace("~", " ").replace("{,}", ",")
    text = re.sub(r"(?<=\d)i\b", " i", text)
    return re.sub(r"\\(?:bm|boldsymbol)\s*\{(\w)\}", r"\1", text)


def _fix_operators(text: str) -> str:
    """Programmers' spellings: `**`, `*`, `sin(x)`, `1.5e+3`, `+\\infty`."""
    text = text.replace("**", "^")
    text = re.sub(r"\^\s*\((-?[\w.]+)\)", r"^{\1}", text)
    text = re.sub(r"(?<=\d)[eE]\+?(-?\d+)$", r" \\times 10^{\1}", text)
    text = re.sub(r"\+\s*\\infty", r"\\infty", text)
    text = re.sub(r"\\?\bsqrt\s*\(([^()]*)\)", r"\\sqrt{\1}", text)
    text = re.sub(r"\\[tdc]frac", r"\\frac", text)
    return re.sub(rf"(?<![\\a-zA-Z{{])(?:{_FUNCTIONS})(?![a-zA-Z])", lambda name: f"\\{name.group()}", text)


def _drop_approximation(text: str) -> str:
    """`x = \\frac{1}{3} \\approx 0.33` says 1/3: the exact value is the answer where both are given."""
    exact, sign, _ = (
        re.split(r"(\\approx|\\simeq)", text, maxsplit=1) if re.search(r"\\approx|\\simeq", text) else (text, "", "")
    )
    return exact.strip() if sign and is_constant(exact.rpartition("=")[2]) else text


def _fix_lists(text: str) -> str:
    """`p=5,q=2 and p=7,q=2` is two solutions of two values: a semicolon between them."""
    groups = re.split(r"(?:\\q?quad)?\s*(?:\\text\s*\{\s*(?:and|or)\s*\}|\b(?:and|or)\b)\s*(?:\\q?quad)?", text)
    if len(groups) > 1 and all(re.search(r"=[^,(]*,[^,(]*=", group) for group in groups):
        return ";".join(groups)
    return text


def _fix_degrees(text: str) -> str:
    """A bare angle is its number; inside a trigonometric function degrees become radians."""
    degrees = r"\s*(?:\^\s*\{?\s*\\circ\s*\}?|\\degree\b|\\text\s*\{\s*degrees?\s*\})"
    if re.search(r"\\(?:sin|cos|tan|cot|sec|csc)", text):
        return re.sub(rf"(\d+(?:\.\d+)?){degrees}", r"{\\frac{\1 \\pi}{180}}", text)
    return re.sub(rf"({_NUMBER}){degrees}$", r"\1", text)


def _fix_subscripts(text: str) -> str:
    text = re.sub(r"_\s*(?:\{\s*\\(max|min)\s*\}|\\(max|min)\b)", lambda name: f"_{{{name[1] or name[2]}}}", text)
    text = re.sub(r"_\s*\{?\s*\\odot\s*\}?", "_{sun}", text)
    text = re.sub(r"_\s*\{\s*\\(?:text|mathrm|rm|mathit)\s*\{?\s*(\w+)\s*\}?\s*\}", r"_{\1}", text)
    return re.sub(r"\s*_\s*(?:\{\s*(\w)\s*\}|(\w))", lambda index: f"_{{{index[1] or index[2]}}}", text)


def _drop_unit(text: str) -> str:
    """A quantity without its unit: the questions say which one they want."""
    for pattern in (_UNIT_TEXT, _UNIT_WORDS, _GLUED_UNITS):
        found = pattern.fullmatch(text)
        if found and not re.search(rf"\b(?:{_NO_UNITS})\b", found.groupdict().get("unit") or ""):
            return found["value"].strip()
    return text


def _fix_mixed(text: str) -> str:
    found = _MIXED.fullmatch(text) or _MIXED_TEX.fullmatch(text)
    if not found:
        return text
    parts = found.groupdict()
    numerator, denominator = (int(parts[key] or parts[f"{key}1"]) for key in ("num", "den"))
    whole = int(parts["whole"])
    return f"{parts['sign']}\\frac{{{whole * denominator + numerator}}}{{{denominator}}}"


def _fix_thousands(text: str) -> str:
    if re.fullmatch(r"[-+]?\d{1,3}(?:,\s?\d{3})+(?:\.\d+)?", text):
        return re.sub(r"[,\s]", "", text)
    return text
