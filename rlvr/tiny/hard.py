"""Out-of-distribution problems for `tiny_hard`: numbers larger, or one step longer, than anything pretrained on.

No pretraining document, pool example or other benchmark is ever drawn from these templates.
"""

from __future__ import annotations

from rlvr.tiny.templates import (
    ALGEBRA,
    COUNTING,
    GEOMETRY,
    INTERMEDIATE,
    NUMBER,
    PREALGEBRA,
    PRECALCULUS,
    Template,
    draw_linear,
    ranges,
)

HARD_TEMPLATES: tuple[Template, ...] = (
    Template("hard_linear", ALGEBRA, lambda r: draw_linear(r, 1, (16, 25), (31, 60), 300),
             ("Solve {a}x+{b}={c} for x.", "If {a}x+{b}={c}, what is x?"),
             lambda s, a, b, c: s.div(s.sub(c, b), a)),
    Template("hard_line_value", ALGEBRA, ranges((2, 9), (3, 40), (16, 25)),
             ("If y={a}x+{b} and x={c}, what is y?", "Let f(x)={a}x+{b}. Find f({c})."),
             lambda s, a, b, c: s.add(s.mul(a, c), b)),
    Template("hard_outfits", COUNTING, ranges((2, 6), (2, 6), (2, 4), (2, 3)),
             ("{name} has {a} shirts, {b} hats, {c} coats and {d} bags. How many outfits are there?",),
             lambda s, a, b, c, d: s.mul(s.mul(s.mul(a, b), c), d)),
    Template("hard_hole", GEOMETRY, lambda r: (r.randint(12, 18), r.randint(6, 9), r.randint(2, 5), r.randint(2, 9)),
             ("A {a} by {b} rectangle has a square hole of side {c} and a hole of area {d}. Find the area left.",),
             lambda s, a, b, c, d: s.sub(s.sub(s.mul(a, b), s.mul(c, c)), d)),
    Template("hard_sequence", INTERMEDIATE, ranges((31, 50), (2, 9), (15, 20)),
             ("A sequence starts at {a} and grows by {b}. What is term {c}?",),
             lambda s, a, b, c: s.add(a, s.mul(s.sub(c, 1), b))),
    Template("hard_remainder", NUMBER, ranges((131, 190), (3, 9)),
             ("Find the remainder when {a} is divided by {b}.", "What is {a} mod {b}?"),
             lambda s, a, m: s.sub(a, s.mul(m, s.quotient(a, m)))),
    Template("hard_shop", PREALGEBRA, ranges((3, 15), (2, 9), (20, 40), (2, 19)),
             ("{name} buys {a} {thing} at {b} dollars each and a bag for {c} dollars, and gets {d} dollars back. "
              "What is the cost?",),
             lambda s, a, b, c, d: s.sub(s.add(s.mul(a, b), c), d)),
    Template("hard_dot", PRECALCULUS, ranges((2, 9), (2, 9), (2, 9), (2, 9), (2, 9), (2, 9)),
             ("Find the dot product of ({a},{b},{c}) and ({d},{e},{f}).",),
             lambda s, a, b, c, d, e, f: s.add(s.add(s.mul(a, d), s.mul(b, e)), s.mul(c, f))),
)  # fmt: skip
