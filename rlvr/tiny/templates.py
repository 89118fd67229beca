"""The problem templates: seven MATH subjects, with numbers within the base model's reach and numbers beyond it.

Departures from MATH: answers are nonnegative integers and a solution takes two to four operations. Difficulty is of
two kinds only: *within* reach (operands up to about 20, division by table: the base model solves nearly all of these
when it reasons) and *beyond* reach (two-digit products and the like: nearly none).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from rlvr.tiny.arithmetic import Scratch

ALGEBRA, COUNTING, GEOMETRY = "Algebra", "Counting & Probability", "Geometry"
INTERMEDIATE, NUMBER, PREALGEBRA, PRECALCULUS = ("Intermediate Algebra", "Number Theory", "Prealgebra", "Precalculus")
SUBJECTS = (ALGEBRA, COUNTING, GEOMETRY, INTERMEDIATE, NUMBER, PREALGEBRA, PRECALCULUS)

Parameters = tuple[int, ...]
Bounds = tuple[tuple[int, int], ...]  # inclusive (low, high) of each number that is drawn


@dataclass(frozen=True)
class Template:
    """One family of problems: `solve` writes the steps, `wordings` are texts with {a}..{f}.

    Numbers are drawn uniformly from `within` (or `beyond`, where there is one), and `arrange` turns them into the
    parameters a, b, c..; None: draw again.
    """

    name: str
    subject: str
    solve: Callable[..., int]
    wordings: tuple[str, ...]
    within: Bounds
    beyond: Bounds = ()
    arrange: Callable[..., Parameters | None] = lambda *numbers: numbers

    def draw(self, rng: Random, reach: str) -> Parameters:
        """Parameters whose arithmetic is "within" or "beyond" reach."""
        bounds = self.within if reach == "within" else self.beyond
        while True:
            if parameters := self.arrange(*(rng.randint(low, high) for low, high in bounds)):
                return parameters


def _digit_sum(s: Scratch, a: int, b: int) -> int:
    total, *digits = map(int, str(s.mul(a, b)))
    for digit in digits:
        total = s.add(total, digit)
    return total


def _product_of_two(s: Scratch, total: int, difference: int) -> int:
    x = s.div(s.add(total, difference), 2)
    return s.mul(x, s.sub(total, x))


def _sum_and_difference(x: int, y: int) -> Parameters | None:
    return (x + y, x - y) if x > y else None


TEMPLATES: tuple[Template, ...] = (
    Template("linear_plus", ALGEBRA, lambda s, a, b, c: s.div(s.sub(c, b), a),
             ("Solve {a}x+{b}={c} for x.", "If {a}x+{b}={c}, what is x?",
              "{name} multiplies a number by {a}, adds {b} and gets {c}. What is the number?"),
             ((2, 9), (2, 9), (2, 19)), ((12, 39), (12, 39), (11, 99)), lambda a, x, b: (a, b, a * x + b)),
    Template("linear_minus", ALGEBRA, lambda s, a, b, c: s.div(s.add(c, b), a),
             ("Solve {a}x-{b}={c} for x.", "If {a}x-{b}={c}, what is x?",
              "{name} multiplies a number by {a}, takes away {b} and gets {c}. What is the number?"),
             ((2, 9), (2, 9), (2, 15)), ((12, 39), (12, 39), (11, 99)),
             lambda a, x, b: (a, b, a * x - b) if a * x > b else None),
    Template("line_value", ALGEBRA, lambda s, a, b, c: s.add(s.mul(a, c), b),
             ("If y={a}x+{b} and x={c}, what is y?", "Let f(x)={a}x+{b}. Find f({c}).",
              "A line has slope {a} and meets the y-axis at {b}. Find y when x={c}."),
             ((2, 9), (2, 20), (2, 9)), ((12, 59), (11, 99), (12, 59))),
    Template("sum_difference", ALGEBRA, lambda s, a, b: s.div(s.add(a, b), 2),
             ("Two numbers have sum {a} and difference {b}. Find the larger one.",
              "{name} thinks of two numbers with sum {a} and difference {b}. What is the larger?"),
             ((2, 20), (2, 20)), (), _sum_and_difference),
    Template("outfits", COUNTING, lambda s, a, b, c: s.mul(s.mul(a, b), c),
             ("{name} has {a} shirts, {b} hats and {c} coats. How many outfits are there?",
              "A menu has {a} soups, {b} mains and {c} desserts. How many meals are there?"),
             ((2, 7), (2, 6), (2, 4)), ((12, 29), (12, 29), (12, 29))),
    Template("roads", COUNTING, lambda s, a, b, c: s.add(s.mul(a, b), c),
             ("There are {a} roads from P to Q, {b} from Q to R and {c} from P to R. How many ways from P to R?",
              "{name} picks one of {a} cups and one of {b} plates, or one of {c} bowls. How many choices?"),
             ((3, 9), (3, 9), (2, 20)), ((13, 69), (13, 69), (11, 99))),
    Template("spins", COUNTING, lambda s, a, b, c: s.mul(s.div(c, b), a),
             ("A spinner shows red with probability {a}/{b}. How many reds are expected in {c} spins?",
              "{name} wins a game with probability {a}/{b}. How many wins are expected in {c} games?"),
             ((2, 8), (3, 9), (2, 9)), ((2, 38), (12, 39), (12, 29)),
             lambda part, parts, times: (part, parts, parts * times) if part < parts else None),
    Template("codes", COUNTING, lambda s, a, b, c: s.add(s.mul(s.mul(b, s.sub(b, 1)), a), c),
             ("A code is one of {a} letters and two different digits out of {b}, or one of {c} words. How many codes?",
              "{name} takes one of {a} bags and two of {b} books in order, or one of {c} cards. How many ways?"),
             ((2, 4), (3, 5), (2, 15)), ((3, 9), (13, 29), (11, 99))),
    Template("perimeter", GEOMETRY, lambda s, a, b: s.mul(s.add(a, b), 2),
             ("A rectangle has sides {a} and {b}. Find its perimeter.",
              "{name} walks around a field that is {a} long and {b} wide. How far is it?"),
             ((3, 20), (3, 20))),
    Template("hole", GEOMETRY, lambda s, a, b, c: s.sub(s.mul(a, b), s.mul(c, c)),
             ("A {a} by {b} rectangle has a square hole of side {c}. Find the area left.",
              "{name} cuts a square of side {c} out of a {a} by {b} sheet. What area is left?"),
             ((4, 9), (4, 9), (2, 8)), ((23, 79), (23, 79), (13, 78)),
             lambda a, b, c: (a, b, c) if c < min(a, b) else None),
    Template("triangle", GEOMETRY, lambda s, a, b, c: s.add(s.mul(s.div(a, 2), b), c),
             ("A triangle has base {a} and height {b}. It is joined to a shape of area {c}. Find the total area.",
              "{name} glues a triangle with base {a} and height {b} to a shape of area {c}. What is the area?"),
             ((2, 9), (2, 9), (2, 20)), ((13, 39), (13, 59), (11, 99)), lambda half, b, c: (2 * half, b, c)),
    Template("angle", GEOMETRY, lambda s, a, b: s.sub(180, s.add(a, b)),
             ("A triangle has angles of {a} and {b} degrees. Find the third angle.",
              "{name} draws a triangle with angles {a} and {b}. How large is the third?"),
             ((21, 69), (21, 69))),
    Template("quadratic_value", INTERMEDIATE, lambda s, a, b, c: s.add(s.add(s.mul(c, c), s.mul(a, c)), b),
             ("Let f(x)=x^2+{a}x+{b}. Find f({c}).", "What is x^2+{a}x+{b} when x={c}?"),
             ((2, 6), (1, 15), (2, 6)), ((13, 39), (11, 99), (13, 39))),
    Template("discriminant", INTERMEDIATE, lambda s, a, b, c: s.sub(s.mul(b, b), s.mul(s.mul(4, a), c)),
             ("Find the discriminant of {a}x^2+{b}x+{c}.", "What is b^2-4ac for {a}x^2+{b}x+{c}=0?"),
             ((1, 3), (5, 9), (1, 3)), ((2, 9), (23, 59), (2, 9)),
             lambda a, b, c: (a, b, c) if b * b > 4 * a * c else None),
    Template("sequence", INTERMEDIATE, lambda s, a, b, c: s.add(a, s.mul(s.sub(c, 1), b)),
             ("A sequence starts at {a} and grows by {b}. What is term {c}?",
              "{name} saves {a} dollars, then {b} more each week. How many dollars in week {c}?"),
             ((1, 15), (2, 9), (3, 10)), ((11, 99), (13, 39), (14, 49))),
    Template("system", INTERMEDIATE, _product_of_two,
             ("If x+y={a} and x-y={b}, what is xy?", "Two numbers have sum {a} and difference {b}. Find the product."),
             ((2, 9), (2, 9)), (), _sum_and_difference),
    Template("remainder", NUMBER, lambda s, a, b: s.sub(a, s.mul(b, s.quotient(a, b))),
             ("Find the remainder when {a} is divided by {b}.", "What is {a} mod {b}?",
              "{name} packs {a} {thing} into boxes of {b}. How many are left over?"),
             ((20, 89), (3, 9)), ((300, 999), (13, 39))),
    Template("digit_sum", NUMBER, _digit_sum,
             ("What is the sum of the digits of {a}*{b}?", "{name} adds up the digits of {a}*{b}. What comes out?"),
             ((12, 29), (2, 6)), ((23, 89), (13, 49))),
    Template("multiple", NUMBER, lambda s, a, b, c: s.mul(s.add(b, c), a),
             ("What is the sum of multiple number {b} of {a} and multiple number {c} of {a}?",
              "{name} adds {b} times {a} and {c} times {a}. What is the sum?"),
             ((3, 9), (2, 9), (2, 9)), ((13, 39), (12, 49), (12, 49))),
    Template("shop", PREALGEBRA, lambda s, a, b, c: s.add(s.mul(a, b), c),
             ("{name} buys {a} {thing} at {b} dollars each and a bag for {c} dollars. What is the cost?",
              "Each of {a} {thing} costs {b} dollars, and a bag costs {c}. What does {name} pay?"),
             ((3, 9), (2, 9), (3, 20)), ((13, 59), (13, 59), (11, 99))),
    Template("left", PREALGEBRA, lambda s, a, b, c: s.sub(a, s.mul(b, c)),
             ("{name} has {a} {thing} and gives {b} to each of {c} friends. How many are left?",
              "Out of {a} {thing}, {name} puts {b} in each of {c} boxes. How many remain?"),
             ((60, 99), (2, 7), (2, 8)), ((2000, 3500), (13, 39), (13, 39))),
    Template("percent", PREALGEBRA, lambda s, a, b: s.mul(s.div(b, 10), a // 10),
             ("What is {a}% of {b}?", "{name} gets {a}% of {b} dollars. How many dollars is that?"),
             ((1, 9), (2, 12)), (), lambda a, b: (10 * a, 10 * b)),
    Template("average", PREALGEBRA, lambda s, a, b, c: s.div(s.add(s.add(a, b), c), 3),
             ("Find the average of {a}, {b} and {c}.", "{name} scores {a}, {b} and {c}. What is the mean?"),
             ((8, 20), (1, 5), (1, 5)), (), lambda mean, up, down: (mean + up, mean - down, mean + down - up)),
    Template("dot", PRECALCULUS, lambda s, a, b, c, d: s.add(s.mul(a, c), s.mul(b, d)),
             ("Find the dot product of ({a},{b}) and ({c},{d}).", "What is ({a},{b}) dot ({c},{d})?"),
             ((2, 9), (2, 6), (2, 6), (2, 9)), ((12, 49), (12, 49), (12, 49), (12, 49))),
    Template("determinant", PRECALCULUS, lambda s, a, b, c, d: s.sub(s.mul(a, d), s.mul(b, c)),
             ("Find the determinant of the matrix with rows ({a},{b}) and ({c},{d}).",
              "A matrix has rows ({a},{b}) and ({c},{d}). What is its determinant?"),
             ((2, 9), (2, 9), (2, 9), (2, 9)), ((12, 49), (12, 49), (12, 49), (12, 49)),
             lambda a, b, c, d: (a, b, c, d) if a * d > b * c else None),
    Template("distance", PRECALCULUS,
             lambda s, a, b, c, d: s.add(s.mul(x := s.sub(c, a), x), s.mul(y := s.sub(d, b), y)),
             ("What is the squared distance from ({a},{b}) to ({c},{d})?",
              "{name} goes from ({a},{b}) to ({c},{d}). Find the squared distance."),
             ((1, 9), (1, 9), (2, 9), (2, 9)), ((1, 9), (1, 9), (13, 49), (13, 49)),
             lambda a, b, right, up: (a, b, a + right, b + up)),
    Template("compose", PRECALCULUS, lambda s, a, b, c, d, e: s.add(s.mul(a, s.add(s.mul(c, e), d)), b),
             ("Let f(x)={a}x+{b} and g(x)={c}x+{d}. Find f(g({e})).",
              "If f(x)={a}x+{b} and g(x)={c}x+{d}, what is f(g({e}))?"),
             ((2, 5), (1, 9), (2, 4), (1, 5), (2, 4)), ((12, 29), (11, 49), (12, 29), (11, 49), (12, 29))),
)  # fmt: skip

# Out of distribution, for `tiny_hard` alone: small numbers, but one step longer than anything pretrained on.
LONGER_TEMPLATES: tuple[Template, ...] = (
    Template("long_linear", ALGEBRA, lambda s, a, b, c, d: s.div(s.sub(s.sub(c, d), b), a),
             ("Solve {a}x+{b}={c}-{d} for x.", "If {a}x+{b}={c}-{d}, what is x?"),
             ((2, 9), (2, 9), (2, 19), (2, 9)), (), lambda a, x, b, d: (a, b, a * x + b + d, d)),
    Template("long_outfits", COUNTING, lambda s, a, b, c, d: s.mul(s.mul(s.mul(a, b), c), d),
             ("{name} has {a} shirts, {b} hats, {c} coats and {d} bags. How many outfits are there?",),
             ((2, 4), (2, 4), (2, 3), (2, 3))),
    Template("long_hole", GEOMETRY, lambda s, a, b, c, d: s.sub(s.sub(s.mul(a, b), s.mul(c, c)), d),
             ("A {a} by {b} rectangle has a square hole of side {c} and a hole of area {d}. Find the area left.",),
             ((6, 9), (6, 9), (2, 4), (2, 9))),
    Template("long_quadratic", INTERMEDIATE, lambda s, a, b, c, d: s.add(s.add(s.add(s.mul(c, c), s.mul(a, c)), b), d),
             ("Let f(x)=x^2+{a}x+{b}. Find f({c})+{d}.",),
             ((2, 6), (1, 15), (2, 6), (2, 9))),
    Template("long_remainder", NUMBER, lambda s, a, b, c: s.sub(total := s.add(a, b), s.mul(c, s.quotient(total, c))),
             ("Find the remainder when {a}+{b} is divided by {c}.",),
             ((12, 49), (8, 39), (3, 9))),
    Template("long_shop", PREALGEBRA, lambda s, a, b, c, d: s.sub(s.add(s.mul(a, b), c), d),
             (
              "{name} buys {a} {thing} at {b} dollars each and a bag for {c} dollars, and gets {d} back. What is the cost?",),
             ((3, 9), (2, 9), (10, 20), (2, 9))),
    Template("long_dot", PRECALCULUS, lambda s, a, b, c, d, e, f: s.add(s.add(s.mul(a, d), s.mul(b, e)), s.mul(c, f)),
             ("Find the dot product of ({a},{b},{c}) and ({d},{e},{f}).",),
             ((2, 6), (2, 6), (2, 6), (2, 6), (2, 6), (2, 6))),
)  # fmt: skip
