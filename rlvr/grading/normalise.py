"""Spellings that mean the same and that Math-Verify tells apart, or reads wrongly, are made one here.

Every rule is here for one of three reasons, which its comment names: labelled cases or benchmark labels of several
sources need it; without it two different answers would be equal; or it spares a worker. A rule that one case alone
asks for is left out: on cases that were not in sight such rules gained nothing. Standard library only: the training
process runs this.
"""

import re
from fractions import Fraction
from functools import lru_cache

from rlvr.grading.unicode_spelling import as_tex

_DEGREES = re.compile(r"(\d+(?:\.\d+)?)\s*\^\s*(?:\{\s*\\circ\s*\}|\\circ)")
_SPACE = r"(?:[\s~]|\\[,;:! ])"
_GROUPS = re.compile(rf"(?<=^)([-+]?\d{{1,3}})((?:{_SPACE}\d{{3}})+)(?!\d)")
_REPEATING = re.compile(
    r"(\d*)\.(\d*)(?:\\(?:overline|bar|dot)\s*(?:\{(\d+)\}|(\d))(?:(\d*)\\dot\s*(?:\{(\d)\}|(\d)))?|\((\d+)\))"
)
_PLAIN_WORDS = re.compile(r"(?<![\\A-Za-z])(?:pi(?![A-Za-z])|sqrt\s*\(((?:[^()]|\([^()]*\))*)\))")
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
    """One spelling for an answer or a label. Length stays of the same order; never raises."""
    text = _with_currency(as_tex(text).strip())  # several sources: labels and answers in dollars, answers in Unicode
    text = text.replace("\\$", "").replace("$", "").strip()
    text = re.sub(r"\\(?:left|right)(?![a-zA-Z])\s*(?=[()\[\]|\\])", "", text)  # spares a worker
    text = re.sub(r"\\[tdc]frac", r"\\frac", text)  # spares a worker
    text = re.sub(r"(\\[A-Za-z]+)\s+(?![A-Za-z])", r"\1", text)  # spares a worker
    text = re.sub(r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}", text)  # spares a worker
    text = re.sub(r"(?<=\d)[eE]\+?(-?\d+)$", r" \\times 10^{\1}", text)  # `4.5e33`: every fifth label of Minerva
    text = re.sub(r"\{,\}|,\\!\s*", ",", text).replace("**", "^")  # several sources
    text = re.sub(r"\^\s*\{?\s*((?:\\prime\s*)+)\}?", lambda p: "'" * p[1].count("\\prime"), text)
    text = re.sub(r"(?<=\d)(?:\s|\\text\s*\{)*(?:percent|per cent|pct)\}?$", r"\\%", text)
    text = _GROUPS.sub(lambda found: found[1] + re.sub(r"\D", "", found[2]), text)
    text = _REPEATING.sub(_repeating, text)
    text = _PLAIN_WORDS.sub(lambda found: f"\\sqrt{{{found[1]}}}" if found[1] else "\\pi ", text)
    if re.search(r"\\(?:sin|cos|tan|cot|sec|csc)", text):
        # The sine of 90 degrees is not the sine of 90, which Math-Verify makes of it.
        text = _DEGREES.sub(r"{\\frac{\1 \\pi}{180}}", text)
    return text.strip()


def _repeating(found: re.Match) -> str:
    """`0.1\\overline{6}`, `0.1\\dot6`, `0.\\dot1 4285\\dot7` and `0.1(6)` as a fraction."""
    whole, fixed, *rest = (part or "" for part in found.groups())
    period = "".join(rest)
    scale = 10 ** len(fixed)
    value = Fraction(int(whole or 0) * scale + int(fixed or 0), scale)
    value += Fraction(int(period), scale * (10 ** len(period) - 1))
    return f"\\frac{{{value.numerator}}}{{{value.denominator}}}"


@lru_cache(maxsize=8192)
def number(text: str) -> Fraction | None:
    """The value of a plain decimal number, a fraction of integers, a mixed number or `a \\times 10^{b}`; None for all else."""
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
        return None  # `2\frac{4}{3}` is no mixed number
    return (int(found[2] or 0) + value) * (-1 if found[1] else 1)


_WORD = re.compile(r"\(?(?:\\(?:text|textbf|mathrm|mbox)\{)?\s*\(?([A-Za-z][A-Za-z ]*)\)?\}?\)?")


def word(text: str) -> str | None:
    """The lower-case word an answer consists of (`\\text{Even}`, `(C)`, `True`); None when it is no word.

    Without it `listen` is `silent`: Math-Verify multiplies the letters of a word.
    """
    found = _WORD.fullmatch(text)
    return " ".join(found[1].split()).lower() if found else None


_FONT = r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathsf|mbox|bf|rm)"
_LETTER = re.compile(rf"(?:{_FONT}\s*\{{\s*)*(?:\(?([A-J])\)?)\s*\}}*")
_CHOICE = re.compile(
    rf"(?:{_FONT}\s*\{{\s*)*(?:(?:the\s+)?(?:correct\s+|final\s+|right\s+)?(?:answer|option|choice)s?\s*(?:is)?\s*:?\s*)*"
    rf"(?:{_FONT}\s*\{{\s*)*(?:[(\[]\s*([A-J])\s*[)\]]|([A-J]))\}}*(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_CHOICE_TEXT = re.compile(r"\s*[).:]?\s*[.]?\s*|\s*(?:[).:]|\s[-–]\s(?=[A-Za-z\\]))(?P<text>.*)", re.DOTALL)
_SECOND_CHOICE = re.compile(
    r"(?:\b(?:or|and|not)|[,;/&|+])\W*\b[A-J]\b|(?<![A-Za-z])[A-J]\s*[).:]|^\W*[A-J]\W*$|\\(?:lor|land|vee|wedge)"
)


def letter(label: str) -> str | None:
    """The letter of a label that is a choice (`B`, `(B)`, `\\textbf{(B)}`); None for any other label."""
    found = _LETTER.fullmatch(label)
    return found[1] if found else None


def choice(answer: str) -> str | None:
    """The letter that an answer to a multiple-choice question names (`B) Paris`, `Option B`, `\\text{B. a magnet}`).

    None for an answer that names none, or two.
    """
    found = _CHOICE.fullmatch(answer.strip())
    if not found:
        return None
    rest = re.sub(rf"{_FONT}\s*\{{|[{{}}$]|\\[,;:! ]|\\q?quad", " ", found["rest"]).rstrip()
    if found[1] and re.match(r"\s+[\w\\]|\s*$", rest):
        text: str | None = rest
    else:
        split = _CHOICE_TEXT.fullmatch(rest)
        text = (split["text"] or "") if split else None
    if text is None or _SECOND_CHOICE.search(text):
        return None
    return (found[1] or found[2]).upper()


_BASE_WORDS = [
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
]
_BASE_NAMES = {name: str(base) for base, name in enumerate(_BASE_WORDS, 2)} | {
    "binary": "2", "octal": "8", "decimal": "10", "hexadecimal": "16"}  # fmt: skip
_IN_BASE = re.compile(
    rf"(?:[A-Za-z]\s*=\s*)?(?P<open>\()?\s*(?:{_FONT}\s*\{{)?(?P<digits>-?[0-9][0-9A-Za-z,{{}}! \\]*?)\}}?\s*(?(open)\))\s*"
    rf"(?:_\s*\{{?\s*(?:{_FONT}\s*\{{)?\s*(?:base\s*\}}?\s*)?|{_SPACE}*(?:{_FONT}\s*\{{)?[\s(]*(?:in\s+)?(?:base[\s-]*)(?:{_FONT}\s*\{{)?\}}?\s*)"
    r"\(?\s*(?P<base>\d{1,2}|[a-z]+)\s*[)}\s]*",
    re.ASCII,
)
_BASES = re.compile(r"(?<=[\d)])\s*_\s*\{?\s*(\d+)")


def in_base(text: str) -> tuple[str, str] | None:
    """Digits and base of `1210_5`, `(1210)_{five}`, `1,210_5` or `1210 in base 5`; None for any other text."""
    found = _IN_BASE.fullmatch(text)
    base = found and (found["base"] if found["base"].isdigit() else _BASE_NAMES.get(found["base"]))
    return (digits(found["digits"]), base) if found and base else None


def digits(text: str) -> str:
    """The digits of a whole number without separators and leading zeros."""
    return re.sub(r"[,{}! \\]", "", text).upper().lstrip("0") or "0"


def bases(text: str) -> list[str]:
    """All bases that numbers of a text carry: Math-Verify ignores them."""
    return sorted(_BASES.findall(text))


def primes(text: str) -> int:
    """How many primes (`f'(x)`, `30'`) stand in a text, apostrophes of words left out: Math-Verify ignores them."""
    return len(re.findall(r"'", re.sub(r"(?<=[A-Za-z]{2})'(?=[a-z])|^'(.*)'$", r"\1", text)))


# Units as they are compared: a symbol and what it is called. All other units are words.
_UNIT_NAMES = """
m=meter,metre cm=centimeter,centimetre,cms mm=millimeter,millimetre km=kilometer,kilometre,kms in=inch,inches,inche ft=foot,feet
yd=yard mi=mile s=sec,second min=minute,mins h=hour,hr,hrs g=gram,gramme kg=kilogram,kilogramme,kgs L=l,liter,litre
mL=ml,milliliter,millilitre lb=pound,lbs oz=ounce deg=degree rad=radian N=newton J=joule W=watt V=volt A=ampere,amp K=kelvin
kN=kilonewton kJ=kilojoule kW=kilowatt Hz=hertz kHz=kilohertz MHz=megahertz Pa=pascal kPa=kilopascal mph=mi/h,mi/hr kph=km/h,kmh,km/hr
degC=deg_celsius,celsius degF=deg_fahrenheit,fahrenheit dollar=usd,buck euro=eur cent=cents ms=millisecond mg=milligram
"""
_SYMBOL = {
    name: symbol
    for symbol, names in (entry.split("=") for entry in _UNIT_NAMES.split())
    for name in [symbol, *names.split(",")]
}
_CURRENCIES = {"\\$": "dollars", "€": "euros", "£": "pounds", "¥": "yen", "₹": "rupees", "₩": "won", "₽": "rubles"}
_CURRENCY = re.compile(r"(-?)\s*(\\\$|[€£¥₹₩₽])\s*([-\d][\d.,{}\\! ]*)|([-\d][\d.,{}\\! ]*?)\s*(\\\$|[€£¥₹₩₽])")
# A unit is words, or one of the letters that are no variable in an answer.
_UNIT = re.compile(
    rf"(?P<value>.*(?:[\d}}]|\\pi)){_SPACE}*{_FONT}\s*\{{[\s~]*(?P<unit>[A-Za-z][A-Za-z/ .~]+|[mgshLNJWVAKCF])"
    r"\s*\}\s*(?:\^\s*\{?\s*(?P<power>[123])\s*\}?)?"
)
_BARE_UNIT = re.compile(
    rf"(?P<value>.*(?:[\d}}]|\\pi))(?P<space>{_SPACE}*)(?P<unit>[A-Za-z]+(?:(?:{_SPACE}+|\s*/\s*)[A-Za-z]+)*)\.?"
    r"\s*(?:\^\s*\{?\s*(?P<power>[123])\s*\}?)?"
)
_DEGREE = re.compile(
    rf"(?P<value>.*[\d}}])\s*\^\s*(?:\{{\s*\\circ\s*\}}|\\circ)\s*(?:{_FONT}\s*\{{\s*)?(?P<scale>[CF]?)\s*\}}?"
)
_CONSTANT = re.compile(r"(?:[-+*/^(){}\d.,!\s~]|\\(?:frac|sqrt|pi|cdot|times|[,;:! ]))+")
# Written behind a number without a space: no other two letters, for `2mg` is a product.
_GLUED = ("cm", "mm", "km", "kg", "ml", "mL", "Hz", "kHz", "MHz", "kPa", "mph", "min", "sec", "hrs")
_SHORT_WORDS = (
    "men",
    "day",
    "days",
    "bus",
    "cow",
    "pen",
    "cup",
    "way",
    "box",
    "egg",
    "car",
    "dog",
    "cat",
    "bag",
    "yen",
)
# Words that make a number another one, or withdraw it.
_NO_UNIT = re.compile(
    r"\b(?:percent|pct|hundreds?|thousands?|[a-z]*illions?|dozens?|squared|cubed|factorial|plus|minus|times|over|base|mod|"
    r"less|more|fewer|and|or|not|no|never|maybe|wrong|incorrect|false|unless|except|but|if|else|half|halves|thirds?|quarters?|"
    r"(?:four|fif|six|seven|eigh|nin|ten|hundred|thousand|million)ths?)\b",
    re.IGNORECASE,
)
_NO_WORD = re.compile(
    r"(?:a?(?:sin|cos|tan|cot|sec|csc)|arc|log|ln|exp|sqrt|frac|max|lim|mod|gcd|lcm|det|binom|infty|alpha|beta|gamma|delta|"
    r"theta|lambda|sigma|omega|phi|pi)"
)


def quantity(text: str) -> tuple[str, str]:
    """Value and unit of `3.5\\text{ cm}^2`, `3.5 cm^2` or `12 apples`: `3.5` and `cm2`; any other text has the unit ''.

    Several sources give the unit on one side only. Two units are compared: 5 m is not 5 cm, which it is to Math-Verify.
    """
    if (found := _DEGREE.fullmatch(text)) and _CONSTANT.fullmatch(found["value"]):
        return found["value"].strip(), f"deg{found['scale']}"
    found = _UNIT.fullmatch(text)
    if not found and (bare := _BARE_UNIT.fullmatch(text)) and _is_bare_unit(bare):
        found = bare
    if not found or _NO_UNIT.search(found["unit"]):
        return text, ""
    return re.sub(rf"{_SPACE}+$", "", found["value"]).strip(), _unit_name(found["unit"], found["power"] or "")


def _is_bare_unit(found: re.Match) -> bool:
    """Whether letters behind a number are a unit and no product of variables (`5cm` and `12 apples`, not `2ab` or `3 n`)."""
    names = [name for name in re.split(rf"{_SPACE}+|/", found["unit"]) if name]
    if not _CONSTANT.fullmatch(found["value"]) or all(len(name) == 1 for name in names):
        return False
    if any(_NO_WORD.match(name) for name in names if name not in ("sec", "secs", "second", "seconds")):
        return False
    if not found["space"] and len(names) == 1 and len(names[0]) < 4:
        return names[0] in _GLUED
    return all(
        name in _SYMBOL or len(name) > 2 and name.lower() in _SYMBOL or name.rstrip("s") in _SYMBOL or name.rstrip("s") in _SHORT_WORDS or name in ("per", "sq", "of")
        or len(name) > 3 and name[1:].islower() and re.search("[aeiouy]", name) for name in names
    )  # fmt: skip


def _unit_name(unit: str, power: str) -> str:
    """One name for a unit: `square centimeters`, `sq cm` and `cm` with the power 2 are `cm2`."""
    names = []
    for name in re.sub(rf"\bper\b|{_SPACE}*/{_SPACE}*", " / ", unit).replace("~", " ").replace(".", "").split():
        lower = name.lower()
        if lower in ("square", "sq", "cubic", "cu"):
            power = "3" if lower.startswith("cu") else "2"
            continue
        forms = (name, lower, lower.removesuffix("s"))
        names.append(next((_SYMBOL[form] for form in forms if form in _SYMBOL), lower.removesuffix("s")))
    joined = "".join(names)
    return _SYMBOL.get(joined, joined) + power


def without_unit(text: str, unit: str) -> str:
    """The text without this unit at its end where it is written like a variable: `12m^2` beside `12\\text{ m}^2`."""
    symbol = re.sub(r"(\d)$", r"\\s*\\^\\s*\\{?\\s*\1\\s*\\}?", unit)
    found = re.fullmatch(rf"(.*[\d}}]){_SPACE}*{symbol}", text) if unit else None
    return found[1].strip() if found else text


def _with_currency(text: str) -> str:
    """`€5` and `5 €` as `5\\text{ euros}`."""
    inner = text[1:-1] if len(text) > 2 and text[0] == text[-1] == "$" and text[-2] != "\\" else text
    found = _CURRENCY.fullmatch(inner)
    if not found:
        return text
    sign, before, value, value_before, after = found.groups()
    return f"{sign or ''}{value or value_before}\\text{{ {_CURRENCIES[before or after]}}}"


_CODE = re.compile(r"__|\blambda\b|\]\s*\[")
_STATEMENTS = re.compile(
    r"\\(?:long)?(?:[lL]eft|[rR]ight|[lL]eftright)arrow|\\(?:to|mapsto|implies|iff|therefore|because|equiv|cancel)(?![a-zA-Z])|"
    r"\\\\(?![a-zA-Z])|\\begin|\\(?:sout|st|not)(?![a-zA-Z])|:=|->|=>"
)


def is_code(text: str) -> bool:
    """Whether a box holds a program rather than mathematics: Math-Verify reads `(lambda: 12)()` as 12."""
    return bool(_CODE.search(text.replace("\\lambda", "")))


def says_more(answer: str, gold: str) -> bool:
    """Whether an answer is several statements (`13 \\to 12`, two lines) where the label is one.

    Math-Verify reads one of them, so that a guess scores.
    """
    return bool(_STATEMENTS.search(answer)) and not _STATEMENTS.search(gold)
