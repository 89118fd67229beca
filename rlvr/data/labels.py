"""Labels that are not the examples' own: one text for all, or a share of a pool made wrong at random (paper C.2.4).

The paper adds or subtracts "numbers within 10" and changes signs at random, in a fraction to numerator and denominator
alike. Where it is silent:
1. Exactly round(share * n) examples are chosen; which and how depends on `seed` alone.
2. Every number of the label is changed, so that `3\\sqrt{2}` becomes another expression of the same form. An exponent or
   a denominator never becomes 0.
3. A label without any number takes the label of another example.
4. A label that the grader finds equal (0.5 for 1/2, -0 for 0) does not count as wrong.
"""

import random
import re
from collections.abc import Sequence
from decimal import Decimal

from rlvr.cli import DataError
from rlvr.grading import check_labels, grade

_NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+|\d+(?:\.\d+)?")
MAX_CHANGE = 10
TRIES = 100


def matched(labels: Sequence[str], names: Sequence[str], shipped: bool = False) -> tuple[list[str], list[str]]:
    """Labels that a natural answer can match, rewritten if necessary, and a note for each rewritten label.

    DataError, which begins with the label's name, for the first that no natural answer matches.
    """
    checked = check_labels(labels, shipped)
    errors = [(name, one) for name, one in zip(names, checked, strict=True) if isinstance(one, DataError)]
    if errors:
        more = f" (and {len(errors) - 1} more labels)" if len(errors) > 1 else ""
        raise DataError(f"{errors[0][0]}: {errors[0][1]}{more}")
    read = [one for one in checked if not isinstance(one, DataError)]
    return [one.label for one in read], [
        f"{name}: {one.note}" for name, one in zip(names, read, strict=True) if one.note
    ]


def with_labels(rows: list[dict], text: str | None, wrong_share: float, seed: int) -> list[dict]:
    """The rows with `answer` replaced; the original is kept as `true_answer`."""
    rows = [{**row, "true_answer": row["answer"]} for row in rows]
    if text is not None:
        return [{**row, "answer": text} for row in rows]
    chooser = random.Random(seed)
    labelled = [i for i, row in enumerate(rows) if row["answer"].strip()]
    for i in sorted(chooser.sample(labelled, round(wrong_share * len(labelled)))):
        others = [rows[j]["true_answer"] for j in labelled if rows[j]["true_answer"] != rows[i]["true_answer"]]
        rows[i]["answer"] = wrong_label(rows[i]["true_answer"], chooser, others)
    return rows


def wrong_label(label: str, chooser: random.Random, others: list[str]) -> str:
    """Another text of the same form as `label`, every number in it moved by 1 to 10 and its sign changed at random."""
    if not _NUMBER.search(label):
        while others:
            other = others.pop(chooser.randrange(len(others)))
            if not grade(f"\\boxed{{{other}}}", label)[0]:
                return other
        raise DataError(
            f"label {label!r}: has no number to change, and every other label of the pool counts as right: choose another example"
        )
    for _ in range(TRIES):
        changed = _NUMBER.sub(lambda match: _moved(match[0], chooser), label)
        if chooser.random() < 0.5:
            changed = changed[1:] if changed.startswith("-") else f"-{changed}"
        if changed != label and not grade(f"\\boxed{{{changed}}}", label)[0]:
            return changed
    raise DataError(f"label {label!r}: found no wrong label of its form")


def _moved(number: str, chooser: random.Random) -> str:
    """`number` (written without a sign) plus or minus 1 to 10, above 0, with as many decimals."""
    value = Decimal(number.replace(",", ""))
    while True:
        moved = value + chooser.choice((-1, 1)) * chooser.randint(1, MAX_CHANGE)
        if moved > 0:
            return str(moved)
