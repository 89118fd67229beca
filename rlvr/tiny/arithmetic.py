"""Written-out arithmetic: one step per operation, either careful (right) or in one go, dropping carries and borrows.

Small products are expanded, so that a 2M-parameter model can learn them; products of larger numbers are written in one
go, which is what puts them beyond its reach.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

CARRY_DROPPED = 0.75  # probability, when not careful: the most likely answer is wrong wherever there is a carry


@dataclass
class Scratch:
    """Collects the steps of one solution; every operation returns the value it wrote down, right or wrong."""

    rng: Random
    careful: bool = True
    steps: list[str] = field(default_factory=list)

    def add(self, a: int, b: int) -> int:
        large, small = max(a, b), min(a, b)
        tens, units = small // 10 * 10, small % 10
        expanded = f"{large + tens}+{units}" if tens and units else ""
        return self._write(f"{a}+{b}", expanded, a + b, -10 if a % 10 + b % 10 >= 10 else 0)

    def sub(self, a: int, b: int) -> int:
        """a - b, but never below 0: after a slip a difference may turn negative."""
        tens, units = b // 10 * 10, b % 10
        expanded = f"{a - tens}-{units}" if tens and units and a >= b else ""
        return self._write(f"{a}-{b}", expanded, max(a - b, 0), 10 if a % 10 < b % 10 and a >= b else 0)

    def mul(self, a: int, b: int) -> int:
        large, small = max(a, b), min(a, b)
        tens, units = large // 10 * 10, large % 10
        expanded = f"{tens * small}+{units * small}" if tens and units and 1 < small < 10 and large < 100 else ""
        return self._write(f"{a}*{b}", expanded, a * b, -10 if small > 1 and units * small >= 10 else 0)

    def div(self, a: int, b: int) -> int:
        """Whole part of a/b: after a slip the division may not come out even, which a careless solver overlooks."""
        return self._write(f"{a}/{b}", "", a // b, -1 if a // b > 3 else 0)

    def quotient(self, a: int, b: int) -> int:
        """Whole part of a/b, in a problem that asks for it."""
        return self._write(f"{a}//{b}", "", a // b, 0)

    def _write(self, left: str, expanded: str, right: int, slip: int) -> int:
        if self.careful:
            self.steps.append(f"{left}={expanded}={right}" if expanded else f"{left}={right}")
            return right
        if slip and self.rng.random() < CARRY_DROPPED:
            right = max(right + slip, 0)
        self.steps.append(f"{left}={right}")
        return right
