"""Can an answer match this label? Grades the spellings of the label that a model would naturally write.

That a label matches its own text says nothing: with the label `3,5` for 3.5 no answer of a whole run would be rewarded.
"""

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from rlvr.cli import DataError
from rlvr.grading.graders import grade_many
from rlvr.grading.letters_and_bases import in_base, letter
from rlvr.grading.normalise import normalise, number
from rlvr.grading.unicode_spelling import as_tex
from rlvr.grading.units import quantity

_DECIMAL_COMMA = re.compile(r"[-+]?\d+,(?!\d{3}(?!\d))\d+|[-+]?0,\d+")
_POINT_GROUPS = re.compile(r"(\D*)(\d{1,3}(?:\.\d{3})+),(\d+)(\D*)")
_CHOICE_AND_MORE = re.compile(r"(?:\(([A-J])\)|([A-J])[).:])\s*\S.*", re.DOTALL)
_LETTER_UNIT = re.compile(
    r"([-+]?\d[\d.,]*)\s+([mgshLNJWVAKCF]|[a-z]{1,2}\s*/\s*[a-z]{1,2})(?:\s*\^\s*\{?\s*([123])\s*\}?)?"
)
_MAX_DECIMALS = 6


class CheckedLabel(NamedTuple):
    """A label to grade by. `note` says how it was rewritten; '' if it was not."""

    label: str
    note: str = ""


def check_labels(labels: Sequence[str], shipped: bool = False) -> list[CheckedLabel | DataError]:
    """Each label; rewritten, with a note, if answers could match only another spelling.

    In its place a DataError, one line that begins with the label, if it has two meanings or if its natural spellings do not
    match it. The caller adds the row.
    `shipped`: labels of the project's own pools and benchmarks are not rewritten (`1,3` is a list there).
    """
    read = [CheckedLabel(label) if shipped else _reading(label) for label in labels]
    checked = [(i, one.label) for i, one in enumerate(read) if isinstance(one, CheckedLabel)]
    pairs = [(i, spelling, label) for i, label in checked for spelling in natural_spellings(label)]
    verdicts = grade_many([f"\\boxed{{{spelling}}}" for _, spelling, _ in pairs], [label for *_, label in pairs])
    for (i, spelling, _), (score, reason) in zip(pairs, verdicts, strict=True):
        if not score and reason != "timeout" and isinstance(read[i], CheckedLabel):
            read[i] = DataError(
                f"label {labels[i]!r}: the grader does not find the answer {spelling!r} equal to it ({reason}): "
                "write a number, a word or whole LaTeX, a unit as \\text{ cm}"
            )
    return read


def natural_spellings(label: str) -> list[str]:
    """Answers that a model would naturally write for this label; the label itself comes first.

    With and without its unit; a number as fraction, decimal and with grouped digits; a letter with brackets and fonts; a number
    in a base with and without it; roots and pi in plain Unicode.
    """
    plain = normalise(label)
    if choice := letter(plain):
        forms = ("{}", "({})", "\\text{{{}}}", "\\textbf{{({})}}", "{}.", "Option {}")
        return [label, *(form.format(choice) for form in forms)]
    if based := in_base(plain):
        return [label, based[0], f"{based[0]}_{{{based[1]}}}", f"({based[0]})_{based[1]}"]
    value, unit = quantity(plain)
    size = number(value)
    values = [value] if size is None else [value, *_spellings_of_number(size)]
    values += [value.replace("\\pi", "π"), re.sub(r"\\sqrt\{(\d+)\}", r"√\1", value)]
    if unit and not unit.startswith("deg"):
        values.append(re.sub(r"^(.*?)([23]?)$", r"\\text{ \1}^\2", unit).removesuffix("^").join([value, ""]))
    return list(dict.fromkeys([label, plain, *values]))


def _spellings_of_number(value: Fraction) -> list[str]:
    """A number as integer with and without grouped digits, as fraction, and as decimal if that is short."""
    sign, size = "-" * (value < 0), abs(value)
    if size.denominator == 1:
        return [f"{value}", f"{int(value):,}"] if size < 10**15 else []
    spellings = []
    if max(size.numerator, size.denominator) < 10**9:
        spellings = [f"{sign}\\frac{{{size.numerator}}}{{{size.denominator}}}", f"{value}"]
    if 10**_MAX_DECIMALS % size.denominator == 0:
        spellings.append(f"{float(value):.{_MAX_DECIMALS}f}".rstrip("0"))
    return spellings


def _reading(label: str) -> CheckedLabel | DataError:
    """The label as it is read, or what is wrong with it."""
    text = re.sub(r"^\\?\$(.*)\\?\$$", r"\1", as_tex(label).strip())
    braces = re.sub(r"\\[{}]", "", label)
    shown = f"label {label!r}"
    if not label.strip():
        return DataError(f"{shown}: is empty, so no answer can be right: write the answer")
    if braces.count("{") != braces.count("}"):
        return DataError(f"{shown}: the grader cannot read it, its braces do not match: write whole LaTeX")
    if _DECIMAL_COMMA.fullmatch(quantity(normalise(label))[0]):
        point, spaced = text.replace(",", "."), text.replace(",", ", ")
        return DataError(
            f"{shown}: a decimal or two numbers? Write {point!r} for the decimal, {spaced!r} for the numbers"
        )
    if found := _POINT_GROUPS.fullmatch(text):
        point = f"{found[1]}{found[2].replace('.', '')}.{found[3]}{found[4]}"
        return CheckedLabel(point, f"{shown} is read as {point!r}: a point is for decimals")
    if found := _CHOICE_AND_MORE.fullmatch(text):
        choice = found[1] or found[2]
        return DataError(f"{shown}: a letter and its text: write the letter {choice!r} alone, or the text alone")
    if found := _LETTER_UNIT.fullmatch(text):
        product = re.sub(r"\s", "", text)
        name = re.sub(r"\s", "", found[2])
        power = f"^{found[3]}" if found[3] else ""
        rewritten = f"{found[1]}\\text{{ {name}}}{power}"
        note = f"{shown} is read as a number with a unit, {rewritten!r}; for a product write {product!r}"
        return CheckedLabel(rewritten, note)
    return CheckedLabel(label)
