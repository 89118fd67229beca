"""Plain Unicode as TeX: `½`, `√2`, `−3`, `x²`, `1010₂`, `２π`, `５．５`, `45°`. Standard library only."""

import re
import unicodedata

_TEX = {
    "°": "^\\circ ", "º": "^\\circ ", "′": "'", "’": "'", "″": "''", "−": "-", "‒": "-", "‐": "-", "‑": "-", "⁄": "/", "∕": "/", "÷": "/",
    "×": "\\times ", "·": "\\cdot ", "⋅": "\\cdot ", "∙": "\\cdot ", "≤": "\\leq ", "⩽": "\\leq ", "≥": "\\geq ",
    "⩾": "\\geq ", "≠": "\\neq ", "≈": "\\approx ", "∞": "\\infty ", "±": "\\pm ", "∪": "\\cup ", "∩": "\\cap ", "∈": "\\in ",
    "∅": "\\emptyset ", "→": "\\to ", "⇒": "\\Rightarrow ", "℃": "^\\circ C", "℉": "^\\circ F", "。": ".", "、": ",", "〜": "~",
    "∠": "\\angle ", "△": "\\triangle ", "ϕ": "\\phi ", "ℝ": "\\mathbb{R}", "ℤ": "\\mathbb{Z}", "∣": "|",
}  # fmt: skip
_GREEK = re.compile(r"GREEK (SMALL|CAPITAL) LETTER ([A-Z]+)")
_INVISIBLE = re.compile(r"[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]")
_SUPERSCRIPTS = re.compile(r"[\u2070\u00b9\u00b2\u00b3\u2074-\u207f]+")
_SUBSCRIPTS = re.compile(r"[\u2080-\u208e\u2090-\u209c]+")
_FRACTIONS = re.compile(r"[\u00bc-\u00be\u2150-\u215e]")
_ROOT = re.compile(r"([√∛∜])\s*(?:\(((?:[^()]|\([^()]*\))*)\)|(?=\{)|(\d+(?:\.\d+)?|[A-Za-z]))")
_ROOT_OF = {"√": "\\sqrt", "∛": "\\sqrt[3]", "∜": "\\sqrt[4]"}


def as_tex(text: str) -> str:
    """The same text with its mathematical Unicode in TeX and full-width characters as ordinary ones."""
    if text.isascii():
        return text
    text = _INVISIBLE.sub("", text)
    text = _SUPERSCRIPTS.sub(lambda run: f"^{{{_compatible(run[0])}}}", text)
    text = _SUBSCRIPTS.sub(lambda run: f"_{{{_compatible(run[0])}}}", text)
    text = _FRACTIONS.sub(lambda one: "\\frac{{{}}}{{{}}}".format(*_compatible(one[0]).split("/")), text)
    text = re.sub("((?:\\d\u0305)+)", lambda run: f"\\overline{{{run[1].replace(chr(0x305), '')}}}", text)
    text = re.sub("(\\d)\u0307", r"\\dot{\1}", text)
    # A dash is a minus sign, but between two numbers it may be a range.
    text = re.sub(r"(?<![\d)}])[–—](?=\s*\S)", "-", text)
    text = "".join(map(_character, text))
    return _ROOT.sub(lambda root: _ROOT_OF[root[1]] + ("" if root[2] is root[3] else f"{{{root[2] or root[3]}}}"), text)


def _character(one: str) -> str:
    if one in _TEX:
        return _TEX[one]
    if one.isspace():
        return " "
    if one.isdecimal() or "\uff01" <= one <= "\uffee" or "\U0001d400" <= one <= "\U0001d7ff":
        one = str(unicodedata.decimal(one, "")) or unicodedata.normalize("NFKC", one)
    if found := _GREEK.fullmatch(unicodedata.name(one[0], "")):
        name = found[2].lower().replace("lamda", "lambda")
        return f"\\{name if found[1] == 'SMALL' else name.capitalize()} "
    return one


def _compatible(text: str) -> str:
    return unicodedata.normalize("NFKC", text).replace("−", "-").replace("⁄", "/")
