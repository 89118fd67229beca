"""How every figure looks: one palette that colour-blind readers can tell apart; dashes and markers tell lines apart in grey print."""

import re
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

RC = Path(__file__).parent / "page" / "figures.mplstyle"
# Okabe and Ito (2008), their yellow left out: too light on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F5A2E")
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)), (0, (3, 1)))
MARKERS = {"o": "●", "s": "■", "^": "▲", "D": "◆", "v": "▼", "P": "✚", "X": "✖", "*": "★"}  # as drawn, as written
# Those of several figures have the same look in each.
EXPERIMENTS = ("one_shot", "full_set", "two_shot", "one_shot_pi13", "format_reward", "math_full_set", "sixteen_shot",
               "four_shot")  # fmt: skip
LIGHTER, DARKER = 0.45, 0.3
FORMATS = ("png", "pdf", "svg")
P = ParamSpec("P")
T = TypeVar("T")
SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def drawn(work: Callable[P, T]) -> Callable[P, T]:
    """A function that draws with the figures' settings; matplotlib is loaded when it is called."""

    @wraps(work)
    def inside(*args: P.args, **options: P.kwargs) -> T:
        from matplotlib import rc_context

        with rc_context(fname=RC):
            return work(*args, **options)

    return inside


def light(color: str) -> tuple[float, ...]:
    """The same hue, lighter: the paper's curve."""
    from matplotlib.colors import to_rgb

    return tuple(part + (1 - part) * LIGHTER for part in to_rgb(color))


def dark(color: str) -> tuple[float, ...]:
    """The same hue, darker: a curve's name."""
    from matplotlib.colors import to_rgb

    return tuple(part * (1 - DARKER) for part in to_rgb(color))


def pretty(label: str) -> str:
    """`{pi1,pi13}` as `{π₁,π₁₃}`."""
    return re.sub(r"pi(\d+)", lambda found: "π" + found[1].translate(SUBSCRIPTS), label)


def of_line(i: int) -> dict[str, Any]:
    """Colour, dash and marker of the i-th line of a figure."""
    return {"color": PALETTE[i % len(PALETTE)], "ls": DASHES[i % len(DASHES)], "marker": [*MARKERS][i % len(MARKERS)]}


def of_lines(experiments: Sequence[str | None]) -> list[dict[str, Any]]:
    """The looks of a figure's lines, by what each was trained with; a line of no known experiment has one that is left."""
    own = [EXPERIMENTS.index(one) if one in EXPERIMENTS and one not in experiments[:i] else None
           for i, one in enumerate(experiments)]  # fmt: skip
    left = iter([i for i in range(2 * len(PALETTE)) if i not in own])
    return [of_line(next(left) if i is None else i) for i in own]
