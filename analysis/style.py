"""How every figure looks: one palette that colour-blind readers can tell apart, and dashes that tell lines apart in grey print."""

import re
from pathlib import Path
from typing import Any

from matplotlib.colors import to_rgb

RC = Path(__file__).parent / "page" / "figures.mplstyle"
# Okabe and Ito (2008), their yellow left out: too light on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F5A2E")
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)), (0, (3, 1)))
LIGHTER = 0.45
FORMATS = ("png", "pdf", "svg")
SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def light(color: str) -> tuple[float, float, float]:
    """The same hue, lighter: the paper's curve."""
    red, green, blue = to_rgb(color)
    return (red + (1 - red) * LIGHTER, green + (1 - green) * LIGHTER, blue + (1 - blue) * LIGHTER)


def pretty(label: str) -> str:
    """`{pi1,pi13}` as `{π₁,π₁₃}`."""
    return re.sub(r"pi(\d+)", lambda found: "π" + found[1].translate(SUBSCRIPTS), label)


def of_line(i: int) -> dict[str, Any]:
    """Colour and dash of the i-th line of a figure."""
    return {"color": PALETTE[i % len(PALETTE)], "ls": DASHES[i % len(DASHES)]}
