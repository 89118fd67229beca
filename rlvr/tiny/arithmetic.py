"""Written-out arithmetic: one step per operation, either careful (expanded and right) or sloppy (in one go).

Sloppy arithmetic drops carries and borrows, as people and base models do, so it is wrong in its most likely
answer too and not only when sampled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

SLIP_WITH_CARRY = 0.55
SLIP_WITHOUT_CARRY = 0.12


@dataclass
class Scratch:
    """Collects the steps of one solution; every operation returns the value it wrote down, right or wrong.

    `careful` is the probability, drawn per operation, of writing it out expanded and right.
    """

    rng: Random
    careful: float = 1.0
    steps: list[str] = field(default_factory=list)

    def add(self, a: int, b: int) -> int:
        large, small = max(a, b), min(a, b)
        tens, units = small // 10 * 10, small % 10
        expanded = f"{large + tens}+{units}" if tens and units else ""
        carry = a % 10 + b % 10 >= 10
        return self._write(f"{a}+{b}", a + b, expanded, a + b - 10 if carry else None)

    def sub(self, a: int, b: int) -> int:
        right = max(a - b, 0)
        tens, units = b // 10 * 10, b % 10
        expanded = f"{a - tens}-{units}" if tens and units and a >= b else ""
        borrow = a % 10 < b % 10 and a >= b
        return self._write(f"{a}-{b}", right, expanded, right + 10 if borrow else None)

    def mul(self, a: int, b: int) -> int:
        large, small = max(a, b), min(a, b)
        tens, units = large // 10 * 10, large % 10
        expanded = f"{tens * small}+{units * small}" if tens and units and small > 1 else ""
        carry = units * small >= 10 and small > 1
        dropped = a * b - (10 if tens else large if small > 2 else small)
        return self._write(f"{a}*{b}", a * b, expanded, dropped if carry else None)

    def div(self, a: int, b: int) -> int:
        right = a // b
        tens, units = right // 10 * 10, right % 10
        # After a slip the division may not come out even; a sloppy solver does not notice.
        whole = tens and units and a % b == 0
        expanded = f"{tens * b}/{b}+{units * b}/{b}={tens}+{units}" if whole else ""
        return self._write(f"{a}/{b}", right, expanded, right - 1 if whole else None)

    def quotient(self, a: int, b: int) -> int:
        """Whole part of a/b."""
        return self._write(f"{a}//{b}", a // b, "", None)

    def _write(self, left: str, right: int, expanded: str, carry_dropped: int | None) -> int:
        if self.rng.random() < self.careful:
            self.steps.append(f"{left}={expanded}={right}" if expanded else f"{left}={right}")
            return right
        value = right
        if self.rng.random() < (SLIP_WITHOUT_CARRY if carry_dropped is None else SLIP_WITH_CARRY):
            if carry_dropped is not None and self.rng.random() < 0.8:
                value = carry_dropped
            else:
                value = right + self.rng.choice((-10, -2, -1, 1, 2, 10))
                value = value if value >= 0 else right + 1
        self.steps.append(f"{left}={value}")
        return value
