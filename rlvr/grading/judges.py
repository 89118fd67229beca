"""What a worker process does with one answer. Only workers import this: it loads sympy.

The caller has cut the answer out, normalised both sides and decided what needs no algebra; limits of time and memory
are the worker's (`workers.py`), so Math-Verify's own timeouts are off.
"""

import logging
import math
from functools import lru_cache

from latex2sympy2_extended.latex2sympy2 import NormalizationConfig, PSParser
from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify
from sympy import (
    Add,
    Basic,
    Expr,
    Float,
    I,
    Integer,
    MatrixBase,
    Mul,
    Number,
    Pow,
    Rational,
    Sum,
    Symbol,
    UnevaluatedExpr,
    binomial,
    exp,
    factorial,
)
from sympy import preorder_traversal as traverse

from rlvr.grading import authors
from rlvr.grading.normalise import equation_sides, is_constant

logging.getLogger("math_verify").setLevel(logging.ERROR)

MAX_DIGITS = 1e6
_PRIMES = (101, 211, 53, 307, 73, 131, 61, 179)
# Math-Verify takes the last letter of `5 - 5c` for a unit; units are `normalise.py`'s work.
_BOXED = (
    LatexExtractionConfig(
        normalization_config=NormalizationConfig(
            basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="all", equations=False
        )
    ),
    ExprExtractionConfig(),
)


# latex2sympy2_extended 1.11 asks every atom for a token that its grammar for antlr 4.9 does not know, before it comes
# to percentages: `28\\%` could not be read at all.
if not hasattr(PSParser.AtomContext, "FUNC_GAMMA"):
    PSParser.AtomContext.FUNC_GAMMA = lambda self: None


# Kinds of answers, not answers: the parser builds its tables from what it has seen, and a worker that has seen these
# reads the next of their kind several times faster.
_KINDS = r"""
-\frac{3}{4}|\frac{2\sqrt{3}}{5}|3\sqrt{2}+1|\sqrt[3]{5}|2^{10}|x^2+2x+1|(x+1)(x-2)|\frac{x+1}{x^2-1}|\pi|\frac{\pi}{6}|2\pi r^2
(1,2)|(-1,2,\frac{1}{2})|(3,\frac{\pi}{2})|[0,1)|(-\infty,2]\cup[3,\infty)|1,2,3|\{1,2,3\}|x=1,y=2|x\leq 2|x<5|1<x<2|3\pm\sqrt{5}
\sin x|\cos(2x)+\sin^2 x|\tan\frac{\pi}{3}|\log_2 3|\ln 2|e^{-2t}|e^{x}+C|\text{Monday}|\text{(A)}|12.5|1.5\times10^{-3}|n!|\binom{n}{k}
\begin{pmatrix}1&2\\3&4\end{pmatrix}|\begin{pmatrix}1\\-2\\0\end{pmatrix}|y=2x+3|x^2+y^2=4|f(x)=x^2|a_{n}=2n-1|\frac{a+b}{c}|28\%
2+3i|\frac{1}{2}+\frac{\sqrt{3}}{2}i|\frac{n(n+1)}{2}|10^{\frac{1}{2}}|\lfloor x\rfloor|\lceil n/2\rceil+1|\sum_{k=1}^{n}k|\left|x\right|
2(x+1)^3-5|-x^3|\frac{-1+\sqrt{5}}{2}|\frac{1}{\sqrt{2}}|5\cdot 2^n|A\cos(\omega t)|\frac{e^{t}}{1+e^{t}}|3x-2y+z-4=0|120^{\circ}
"""


def warm_up() -> None:
    """Compile the patterns and fill the parser's tables, which the first answers should not pay for."""
    for kind in _KINDS.replace("\n", "|").strip("|").split("|"):
        math_verify_judge(kind, "\\frac{x}{2}", True)
    for answer, gold in (("x^2 + 2x + 1", "(x+1)^2"), ("x \\leq 2", "2 \\geq x"), ("(1, 2)", "(1, 3)")):
        math_verify_judge(answer, gold, True)


def judge(grader: str, answer: str, gold: str, boxed: bool) -> tuple[float, str]:
    """Score and reason; whatever the grader raises is the reason `error`, never an end of the worker."""
    try:
        if grader == "authors":
            return authors.judge(answer, gold)
        return math_verify_judge(answer, gold, boxed)
    except (MemoryError, RecursionError):
        return 0.0, "unparsable"
    except Exception:
        return 0.0, "error"


def math_verify_judge(answer: str, gold: str, boxed: bool) -> tuple[float, str]:
    """Math-Verify's verdict on an answer, and its veto on an equation whose sides disagree."""
    golds = _parsed(f"\\boxed{{{gold}}}")
    answers = _parsed(f"\\boxed{{{answer}}}") if boxed else tuple(parse(answer, parsing_timeout=None))
    if not golds:
        return 0.0, "error"
    if not answers or (_only_text(answers) and not _only_text(golds)):
        return 0.0, "unparsable"
    if all(_has_i(values[0]) for values in (golds, answers)):
        golds, answers = _imaginary(golds), _imaginary(answers)
    if any(_too_large(value) for value in (*golds, *answers)):
        return 0.0, "unparsable"
    if _certainly_different(golds[0], answers[0]):
        return 0.0, "wrong"
    if not verify(list(golds), list(answers), timeout_seconds=None):
        return 0.0, "wrong"
    if boxed and not _sides_agree(answer):
        return 0.0, "wrong"
    return 1.0, "correct"


@lru_cache(maxsize=1024)
def _parsed(text: str) -> tuple:
    return tuple(parse(text, _BOXED, parsing_timeout=None))


def _only_text(values: tuple) -> bool:
    return not any(isinstance(value, Basic | MatrixBase) for value in values)


def _sides_agree(answer: str) -> bool:
    """False for `13 = 12` and `x = 1 = 12`: Math-Verify reads the last side only, so that a list of guesses scores."""
    sides = equation_sides(answer)
    constants = [side for side in sides if is_constant(side)]
    if len(sides) < 2 or len(constants) < 2:
        return True
    last = list(_parsed(f"\\boxed{{{constants[-1]}}}"))
    return all(verify(last, list(_parsed(f"\\boxed{{{side}}}")), timeout_seconds=None) for side in constants[:-1])


def _has_i(value: object) -> bool:
    return isinstance(value, Expr) and any(symbol.name == "i" for symbol in value.atoms(Symbol)) and not value.has(Sum)


def _imaginary(values: tuple) -> tuple:
    """`i` as the imaginary unit, which it is where both sides have it and nothing is summed over it."""
    return tuple(
        value.subs({symbol: I for symbol in value.atoms(Symbol) if symbol.name == "i"}) if _has_i(value) else value
        for value in values
    )


def _certainly_different(gold: object, answer: object) -> bool:
    """Whether two expressions differ at some point by more than rounding: what `simplify` takes long to find out."""
    if not isinstance(gold, Expr) or not isinstance(answer, Expr) or _is_a_name(gold) or _is_a_name(answer):
        return False
    symbols = sorted(gold.free_symbols | answer.free_symbols, key=str)
    point = {symbol: Rational(prime, 97) for symbol, prime in zip(symbols, _PRIMES, strict=False)}
    if len(point) < len(symbols):
        return False
    try:
        a, b = (complex(value.subs(point).doit().evalf(15)) for value in (gold, answer))
        return abs(a - b) > 1e-4 * max(1.0, abs(a), abs(b))
    except (TypeError, ValueError, OverflowError, AttributeError):
        return False


def _is_a_name(expr: Expr) -> bool:
    """Letters only: Math-Verify compares those as words, and reads percentages in two ways."""
    return isinstance(expr, Symbol) or not expr.free_symbols ^ expr.atoms() or expr.has(UnevaluatedExpr)


def _too_large(value: object) -> bool:
    """Whether evaluating some part of the expression would make a number of more than a million digits."""
    if not isinstance(value, Basic):
        return False
    return any(_digits(part) > MAX_DIGITS for part in traverse(value) if isinstance(part, Pow | factorial | binomial))


def _digits(expr: Basic) -> float:
    """An upper bound on |log10| of a number's size; symbols count as 1."""
    if isinstance(expr, Integer):
        return abs(expr.p).bit_length() * math.log10(2)
    if isinstance(expr, Rational):
        return max(expr.p.bit_length(), expr.q.bit_length()) * math.log10(2)
    if isinstance(expr, Float):
        return abs(math.log10(abs(expr))) if expr else 0.0
    if isinstance(expr, Pow | exp):
        base, exponent = expr.as_base_exp()
        return max(_digits(base), 0.5) * _size(exponent)
    if isinstance(expr, factorial):
        n = _size(expr.args[0])
        return n * math.log10(n + 1)
    if isinstance(expr, binomial):
        return _size(expr.args[0])
    parts = [_digits(arg) for arg in expr.args]
    if isinstance(expr, Mul):
        return sum(parts)
    if isinstance(expr, Add):
        return max(parts) + math.log10(len(parts) + 1)
    return max(parts, default=0.0)


def _size(expr: Basic) -> float:
    """An upper bound on a number's absolute value, infinite where a float overflows."""
    if isinstance(expr, Number):
        return min(abs(float(expr)), math.inf) if _digits(expr) < 300 else math.inf
    digits = _digits(expr)
    return 10**digits if digits < 300 else math.inf
