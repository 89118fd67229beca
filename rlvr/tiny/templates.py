"""The problem templates: seven MATH subjects, several templates each, and harder ones that are never pretrained on.

Departures from MATH: answers are nonnegative integers and a solution takes two to four small operations.
Parameter ranges keep every intermediate value small, so that a 2M-parameter model can learn careful arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from rlvr.tiny.arithmetic import Scratch

ALGEBRA, COUNTING, GEOMETRY = "Algebra", "Counting & Probability", "Geometry"
INTERMEDIATE, NUMBER, PREALGEBRA, PRECALCULUS = ("Intermediate Algebra", "Number Theory", "Prealgebra", "Precalculus")
SUBJECTS = (ALGEBRA, COUNTING, GEOMETRY, INTERMEDIATE, NUMBER, PREALGEBRA, PRECALCULUS)


@dataclass(frozen=True)
class Template:
    """One family of problems: `draw` gives parameters, `wordings` texts with {a}..{f}, `solve` the written steps."""

    name: str
    subject: str
    draw: Callable[[Random], tuple[int, ...]]
    wordings: tuple[str, ...]
    solve: Callable[..., int]


def ranges(*bounds: tuple[int, int]) -> Callable[[Random], tuple[int, ...]]:
    """A `draw` that takes each parameter uniformly from its inclusive (low, high)."""
    return lambda rng: tuple(rng.randint(low, high) for low, high in bounds)


def draw_linear(
    rng: Random, sign: int, x_range: tuple[int, int] = (3, 15), b_range: tuple[int, int] = (2, 30), largest: int = 150
) -> tuple[int, int, int]:
    """Parameters (a, b, c) of ax +- b = c with an integer solution in `x_range` and 0 < c <= `largest`."""
    while True:
        a, x, b = rng.randint(2, 9), rng.randint(*x_range), rng.randint(*b_range)
        if 0 < (c := a * x + sign * b) <= largest:
            return a, b, c


def _sum_difference(rng: Random, high: int) -> tuple[int, int]:
    small, large = sorted(rng.sample(range(2, high), 2))
    return small + large, large - small


def _average(rng: Random) -> tuple[int, int, int]:
    mean, up, down = rng.randint(8, 35), rng.randint(1, 6), rng.randint(1, 6)
    return mean + up, mean - down, mean + down - up


def _percent(rng: Random) -> tuple[int, int]:
    return 10 * rng.randint(1, 9), 10 * rng.randint(2, 30)


def _tens(s: Scratch, percent: int, amount: int) -> int:
    return s.mul(s.div(amount, 10), percent // 10)


def _spins(rng: Random) -> tuple[int, int, int]:
    parts = rng.randint(3, 9)
    return rng.randint(2, parts - 1), parts, parts * rng.randint(3, 15)


def _ordered_minus(rng: Random) -> tuple[int, int, int, int]:
    while True:
        a, b, c, d = (rng.randint(2, 12) for _ in range(4))
        if a * d > b * c:
            return a, b, c, d


def _discriminant(rng: Random) -> tuple[int, int, int]:
    while True:
        a, b, c = rng.randint(1, 5), rng.randint(5, 14), rng.randint(1, 6)
        if b * b > 4 * a * c:
            return a, b, c


def _gap(rng: Random) -> tuple[int, int, int, int]:
    a, b = rng.randint(1, 9), rng.randint(1, 9)
    return a, b, a + rng.randint(2, 9), b + rng.randint(2, 9)


def _system(s: Scratch, total: int, difference: int) -> int:
    x = s.div(s.add(total, difference), 2)
    return s.mul(x, s.sub(total, x))


def _remainder(s: Scratch, a: int, m: int) -> int:
    return s.sub(a, s.mul(m, s.quotient(a, m)))


def _digit_sum(s: Scratch, a: int, b: int) -> int:
    product = s.mul(a, b)
    total = int(str(product)[0])
    for digit in str(product)[1:]:
        total = s.add(total, int(digit))
    return total


def _hole(rng: Random) -> tuple[int, int, int]:
    a, b = rng.randint(6, 18), rng.randint(4, 9)
    return a, b, rng.randint(2, min(a, b) - 1)


TEMPLATES: tuple[Template, ...] = (
    Template("linear_plus", ALGEBRA, lambda r: draw_linear(r, 1),
             ("Solve {a}x+{b}={c} for x.", "If {a}x+{b}={c}, what is x?",
              "{name} multiplies a number by {a}, adds {b} and gets {c}. What is the number?"),
             lambda s, a, b, c: s.div(s.sub(c, b), a)),
    Template("linear_minus", ALGEBRA, lambda r: draw_linear(r, -1),
             ("Solve {a}x-{b}={c} for x.", "If {a}x-{b}={c}, what is x?",
              "{name} multiplies a number by {a}, takes away {b} and gets {c}. What is the number?"),
             lambda s, a, b, c: s.div(s.add(c, b), a)),
    Template("line_value", ALGEBRA, ranges((2, 9), (3, 40), (3, 15)),
             ("If y={a}x+{b} and x={c}, what is y?", "Let f(x)={a}x+{b}. Find f({c}).",
              "A line has slope {a} and meets the y-axis at {b}. Find y when x={c}."),
             lambda s, a, b, c: s.add(s.mul(a, c), b)),
    Template("sum_difference", ALGEBRA, lambda r: _sum_difference(r, 45),
             ("Two numbers have sum {a} and difference {b}. Find the larger one.",
              "{name} thinks of two numbers with sum {a} and difference {b}. What is the larger?"),
             lambda s, a, b: s.div(s.add(a, b), 2)),
    Template("outfits", COUNTING, ranges((2, 9), (2, 9), (2, 5)),
             ("{name} has {a} shirts, {b} hats and {c} coats. How many outfits are there?",
              "A menu has {a} soups, {b} mains and {c} desserts. How many meals are there?"),
             lambda s, a, b, c: s.mul(s.mul(a, b), c)),
    Template("roads", COUNTING, ranges((3, 12), (3, 9), (2, 30)),
             ("There are {a} roads from P to Q, {b} from Q to R and {c} from P to R. How many ways from P to R?",
              "{name} picks one of {a} cups and one of {b} plates, or one of {c} bowls. How many choices?"),
             lambda s, a, b, c: s.add(s.mul(a, b), c)),
    Template("spins", COUNTING, _spins,
             ("A spinner shows red with probability {a}/{b}. How many reds are expected in {c} spins?",
              "{name} wins a game with probability {a}/{b}. How many wins are expected in {c} games?"),
             lambda s, a, b, c: s.mul(s.div(c, b), a)),
    Template("codes", COUNTING, ranges((2, 5), (3, 6), (2, 30)),
             ("A code is one of {a} letters and two different digits out of {b}, or one of {c} words. How many codes?",
              "{name} takes one of {a} bags and two of {b} books in order, or one of {c} cards. How many ways?"),
             lambda s, a, b, c: s.add(s.mul(s.mul(b, s.sub(b, 1)), a), c)),
    Template("perimeter", GEOMETRY, ranges((4, 45), (4, 45)),
             ("A rectangle has sides {a} and {b}. Find its perimeter.",
              "{name} walks around a field that is {a} long and {b} wide. How far is it?"),
             lambda s, a, b: s.mul(s.add(a, b), 2)),
    Template("hole", GEOMETRY, _hole,
             ("A {a} by {b} rectangle has a square hole of side {c}. Find the area left.",
              "{name} cuts a square of side {c} out of a {a} by {b} sheet. What area is left?"),
             lambda s, a, b, c: s.sub(s.mul(a, b), s.mul(c, c))),
    Template("triangle", GEOMETRY, lambda r: (2 * r.randint(2, 18), r.randint(3, 9), r.randint(2, 30)),
             ("A triangle has base {a} and height {b}. It is joined to a shape of area {c}. Find the total area.",
              "{name} glues a triangle with base {a} and height {b} to a shape of area {c}. What is the area?"),
             lambda s, a, b, c: s.add(s.mul(s.div(a, 2), b), c)),
    Template("angle", GEOMETRY, ranges((21, 89), (21, 89)),
             ("A triangle has angles of {a} and {b} degrees. Find the third angle.",
              "{name} draws a triangle with angles {a} and {b}. How large is the third?"),
             lambda s, a, b: s.sub(180, s.add(a, b))),
    Template("quadratic_value", INTERMEDIATE, ranges((2, 9), (1, 30), (3, 9)),
             ("Let f(x)=x^2+{a}x+{b}. Find f({c}).", "What is x^2+{a}x+{b} when x={c}?"),
             lambda s, a, b, c: s.add(s.add(s.mul(c, c), s.mul(a, c)), b)),
    Template("discriminant", INTERMEDIATE, _discriminant,
             ("Find the discriminant of {a}x^2+{b}x+{c}.", "What is b^2-4ac for {a}x^2+{b}x+{c}=0?"),
             lambda s, a, b, c: s.sub(s.mul(b, b), s.mul(s.mul(4, a), c))),
    Template("sequence", INTERMEDIATE, ranges((1, 30), (2, 9), (5, 14)),
             ("A sequence starts at {a} and grows by {b}. What is term {c}?",
              "{name} saves {a} dollars, then {b} more each week. How many dollars in week {c}?"),
             lambda s, a, b, c: s.add(a, s.mul(s.sub(c, 1), b))),
    Template("system", INTERMEDIATE, lambda r: _sum_difference(r, 17),
             ("If x+y={a} and x-y={b}, what is xy?", "Two numbers have sum {a} and difference {b}. Find the product."),
             _system),
    Template("remainder", NUMBER, lambda r: (r.randint(20, 130), r.randint(3, 9)),
             ("Find the remainder when {a} is divided by {b}.", "What is {a} mod {b}?",
              "{name} packs {a} {thing} into boxes of {b}. How many are left over?"),
             _remainder),
    Template("digit_sum", NUMBER, ranges((12, 60), (2, 9)),
             ("What is the sum of the digits of {a}*{b}?", "{name} adds up the digits of {a}*{b}. What comes out?"),
             _digit_sum),
    Template("multiple", NUMBER, ranges((3, 9), (5, 19), (2, 9)),
             ("What is the sum of multiple number {b} of {a} and multiple number {c} of {a}?",
              "{name} adds {b} times {a} and {c} times {a}. What is the sum?"),
             lambda s, a, b, c: s.mul(s.add(b, c), a)),
    Template("shop", PREALGEBRA, ranges((3, 15), (2, 9), (3, 40)),
             ("{name} buys {a} {thing} at {b} dollars each and a bag for {c} dollars. What is the cost?",
              "Each of {a} {thing} costs {b} dollars, and a bag costs {c}. What does {name} pay?"),
             lambda s, a, b, c: s.add(s.mul(a, b), c)),
    Template("left", PREALGEBRA, lambda r: (r.randint(73, 120), r.randint(2, 9), r.randint(2, 8)),
             ("{name} has {a} {thing} and gives {b} to each of {c} friends. How many are left?",
              "Out of {a} {thing}, {name} puts {b} in each of {c} boxes. How many remain?"),
             lambda s, a, b, c: s.sub(a, s.mul(b, c))),
    Template("percent", PREALGEBRA, _percent,
             ("What is {a}% of {b}?", "{name} gets {a}% of {b} dollars. How many dollars is that?"),
             _tens),
    Template("average", PREALGEBRA, _average,
             ("Find the average of {a}, {b} and {c}.", "{name} scores {a}, {b} and {c}. What is the mean?"),
             lambda s, a, b, c: s.div(s.add(s.add(a, b), c), 3)),
    Template("dot", PRECALCULUS, ranges((2, 12), (2, 9), (2, 9), (2, 9)),
             ("Find the dot product of ({a},{b}) and ({c},{d}).", "What is ({a},{b}) dot ({c},{d})?"),
             lambda s, a, b, c, d: s.add(s.mul(a, c), s.mul(b, d))),
    Template("determinant", PRECALCULUS, _ordered_minus,
             ("Find the determinant of the matrix with rows ({a},{b}) and ({c},{d}).",
              "A matrix has rows ({a},{b}) and ({c},{d}). What is its determinant?"),
             lambda s, a, b, c, d: s.sub(s.mul(a, d), s.mul(b, c))),
    Template("distance", PRECALCULUS, _gap,
             ("What is the squared distance from ({a},{b}) to ({c},{d})?",
              "{name} goes from ({a},{b}) to ({c},{d}). Find the squared distance."),
             lambda s, a, b, c, d: s.add(s.mul(x := s.sub(c, a), x), s.mul(y := s.sub(d, b), y))),
    Template("compose", PRECALCULUS, ranges((2, 5), (1, 20), (2, 5), (1, 5), (2, 5)),
             ("Let f(x)={a}x+{b} and g(x)={c}x+{d}. Find f(g({e})).",
              "If f(x)={a}x+{b} and g(x)={c}x+{d}, what is f(g({e}))?"),
             lambda s, a, b, c, d, e: s.add(s.mul(a, s.add(s.mul(c, e), d)), b)),
)  # fmt: skip
