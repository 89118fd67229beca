"""Numbers with a unit: `3.5\\text{ cm}^2`, `3.5 cm^2`, `12 apples`, `45^\\circ`, `€5`. Several sources give the unit on one side only.

Units are compared: 5 m is not 5 cm. Math-Verify would call them equal.
"""

import re

FONT = r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathsf|mbox|bf|rm)"
SPACE = r"(?:[\s~]|\\[,;:! ])"
# A symbol and its other names; a plural s is removed too. All other units are words.
_NAMES = """
m=meter,metre cm=centimeter,centimetre mm=millimeter,millimetre km=kilometer,kilometre in=inch,inches ft=foot,feet yd=yard mi=mile
s=sec,second ms=millisecond min=minute h=hour,hr g=gram,gramme kg=kilogram,kilogramme mg=milligram L=l,liter,litre lb=pound oz=ounce
mL=ml,milliliter,millilitre deg=degree rad=radian N=newton J=joule W=watt V=volt A=ampere,amp K=kelvin kN=kilonewton kJ=kilojoule
kW=kilowatt Hz=hertz kHz=kilohertz MHz=megahertz Pa=pascal kPa=kilopascal mph=mi/h kph=km/h,kmh degC=degcelsius,celsius
degF=degfahrenheit,fahrenheit dollar=usd,buck euro=eur cent=cents
"""
_SYMBOL = {
    name: symbol
    for symbol, names in (entry.split("=") for entry in _NAMES.split())
    for name in [symbol, *names.split(",")]
}
_CURRENCIES = {
    "\\$": "dollars", "€": "euros", "£": "pounds", "¥": "yen", "₹": "rupees", "₩": "won", "₽": "rubles",
    "USD": "dollars", "EUR": "euros", "Rs": "rupees", "Rs.": "rupees"}  # fmt: skip
_CURRENCY = re.compile(r"(-?) ?(\\\$|[€£¥₹₩₽]|USD|EUR|Rs\.?) ?([-\d][\d.,{}\\! ]*)|([-\d][\d.,{}\\! ]*)(\\\$|[€£¥₹₩₽])")
_POWER = r"\s*(?:\^\s*\{?\s*(?P<power>[123])\s*\}?)?"
# Inside \text a unit is one or more words, or a single letter that is not used as a variable.
_IN_TEXT = re.compile(
    rf"(?P<value>.*(?:[\d}}]|\\pi)){SPACE}*{FONT}\s*\{{[\s~]*(?P<unit>[A-Za-z][A-Za-z/ .~]+|[mgshLNJWVAKCF])\s*\}}{_POWER}"
)
_BARE = re.compile(
    rf"(?P<value>.*(?:[\d}}]|\\pi))(?P<space>{SPACE}*)(?P<unit>[A-Za-z]+\.?(?:(?:{SPACE}+|\s*/\s*)[A-Za-z]+\.?)*){_POWER}"
)
_DEGREE = re.compile(
    rf"(?P<value>.*[\d}}])\s*\^\s*(?:\{{\s*\\circ\s*\}}|\\circ)\s*(?:{FONT}\s*\{{\s*)?(?P<scale>[CF]?)\s*\}}?"
)
_CONSTANT = re.compile(r"(?:[A-Za-z] ?= ?)?(?:[-+*/^(){}\d.,!\s~]|\\(?:frac|sqrt|pi|cdot|times|[,;:! ]))+")
# Short units that may follow a number without a space (`2mg` is a product), and short words that may follow a space.
_GLUED = re.compile(r"[cmk]m|kg|m[lL]|[kM]?Hz|kPa|mph|min|sec|hrs")
_SHORT_WORD = re.compile(r"per|sq|of|old|men|(?:day|bus|cow|pen|cup|way|box|egg|car|dog|cat|bag|yen)s?")
# Words that change the value of a number, or withdraw it.
_NO_UNIT = re.compile(
    r"\b(?:percent|pct|hundreds?|thousands?|[a-z]*illions?|dozens?|squared|cubed|factorial|root|double|triple|twice|score|pairs?|plus|minus|times|over|base|mod|"
    r"less|more|fewer|and|or|not|no|never|maybe|wrong|incorrect|false|unless|except|but|if|else|half|halves|thirds?|quarters?|"
    r"(?:four|fif|six|seven|eigh|nin|ten|hundred|thousand|million)ths?|three|four|five|seven|eight|nine|eleven|twelve|"
    r"[a-z]+teen|(?:twen|thir|for|fif|six|seven|eigh|nine)ty)\b",
    re.IGNORECASE,
)
_FUNCTION = re.compile(
    r"(?!secs?$|seconds?$)(?:a?(?:sin|cos|tan|cot|sec|csc)|arc|log|ln|exp|sqrt|frac|max|lim|mod|gcd|lcm|det|binom|infty|"
    r"alpha|beta|gamma|delta|theta|lambda|sigma|omega|phi|pi)"
)


def quantity(text: str) -> tuple[str, str]:
    """Value and unit of a number with a unit: `3.5` and `cm2`; for any other text, the text and ''."""
    if (found := _DEGREE.fullmatch(text)) and _CONSTANT.fullmatch(found["value"]):
        return found["value"].strip(), f"deg{found['scale']}"
    found = _IN_TEXT.fullmatch(text)
    if not found and (bare := _BARE.fullmatch(text)) and _is_unit(bare):
        found = bare
    if not found or _NO_UNIT.search(found["unit"]):
        return text, ""
    return re.sub(rf"{SPACE}+$", "", found["value"]).strip(), _one_name(found["unit"], found["power"] or "")


def without_unit(text: str, unit: str) -> str:
    """The text without this unit at its end, written like a variable: `12m^2` where the other side is `12\\text{ m}^2`."""
    symbol = re.sub(r"(\d)$", r"\\s*\\^\\s*\\{?\\s*\1\\s*\\}?", unit)
    found = re.fullmatch(rf"(.*[\d}}]){SPACE}*{symbol}", text) if unit else None
    return found[1].strip() if found else text


def with_currency_named(text: str) -> str:
    """`€5` and `5 €` as `5\\text{ euros}`."""
    found = _CURRENCY.fullmatch(re.sub(r"^\$(.+[^\\])\$$", r"\1", text))
    if not found:
        return text
    sign, before, value, value_before, after = found.groups()
    return f"{sign or ''}{value or value_before.rstrip()}\\text{{ {_CURRENCIES[before or after]}}}"


def _is_unit(found: re.Match) -> bool:
    """Whether the letters after a number are a unit (`5cm`, `12 apples`), not a product of variables (`2ab`, `3 n`)."""
    names = [name for name in re.split(rf"{SPACE}+|/|\.", found["unit"]) if name]
    if not _CONSTANT.fullmatch(found["value"]) or all(len(name) == 1 for name in names):
        return False
    if not found["space"] and len(names) == 1 and len(names[0]) < 4:
        return bool(_GLUED.fullmatch(names[0]))
    return not any(_FUNCTION.match(name) for name in names) and all(map(_is_name, names))


def _is_name(name: str) -> bool:
    """A unit's symbol or name, or a word of four letters or more."""
    forms = {name, name.removesuffix("s"), name.lower() if len(name) > 2 else name}
    is_word = len(name) > 3 and name[1:].islower() and re.search("[aeiouy]", name)
    return bool(forms & _SYMBOL.keys() or _SHORT_WORD.fullmatch(name) or is_word)


def _one_name(unit: str, power: str) -> str:
    """One name for all spellings of a unit: `square centimeters`, `sq cm` and `cm` with the power 2 become `cm2`."""
    names = []
    for name in re.sub(rf"\bper\b|{SPACE}*/{SPACE}*", " / ", unit).replace("~", " ").replace(".", "").split():
        lower = name.lower()
        if lower in ("old", "of"):
            continue
        if lower in ("square", "sq", "cubic", "cu"):
            power = "3" if lower.startswith("cu") else "2"
            continue
        forms = (name, lower, lower.removesuffix("s"))
        names.append(next((_SYMBOL[form] for form in forms if form in _SYMBOL), lower.removesuffix("s")))
    joined = "".join(names)
    return _SYMBOL.get(joined, joined) + power
