"""How a worker process judges one answer. Only workers import this module, because it loads sympy.

The caller has cut out the answer, normalised both sides and decided all that needs no algebra. The worker has limits of time
and memory (`worker_process.py`), so Math-Verify's own timeouts are off.
"""

import logging
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import math_verify.grader as comparisons
from latex2sympy2_extended.latex2sympy2 import NormalizationConfig, PSParser
from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify
from sympy import Basic, Expr, MatrixBase, Rational

from rlvr.grading.workers import RELATIVE

logging.getLogger("math_verify").setLevel(logging.ERROR)

_VARIABLE = re.compile(r"(?<![\\A-Za-z])[A-Za-z]")
# Math-Verify takes the last letter of `5 - 5c` for a unit; units are `normalise.py`'s work.
_BOXED = (
    LatexExtractionConfig(
        normalization_config=NormalizationConfig(
            basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="all", equations=False
        )
    ),
    ExprExtractionConfig(),
)


# latex2sympy2_extended 1.11 looks for a token that its grammar for antlr 4.9 does not have, before it looks for percentages.
# Without this line `28\\%` cannot be read.
if not hasattr(PSParser.AtomContext, "FUNC_GAMMA"):
    PSParser.AtomContext.FUNC_GAMMA = lambda self: None


# Math-Verify compares absolute differences, so all values below 1e-16 are equal to it. It calls this global name of its
# module for every pair of numbers, also inside lists and matrices.
_equal_absolutely = comparisons.sympy_numeric_eq


def _equal_numerically(gold: Any, answer: Any, *how: Any, **named: Any) -> bool:
    return _equal_absolutely(gold, answer, *how, **named) and _of_one_size(gold, answer)


comparisons.sympy_numeric_eq = _equal_numerically


def _of_one_size(gold: Any, answer: Any) -> bool:
    """False if both are expressions and their values differ in the fifth significant digit; a percentage has two values."""
    if not (isinstance(gold, Expr) and isinstance(answer, Expr)):
        return True
    symbols = sorted(gold.free_symbols | answer.free_symbols, key=str)
    points = [{symbol: Rational(7 * i + 9, 7 * i + 4) for i, symbol in enumerate(symbols)}, dict.fromkeys(symbols, 0)]
    return all(_agree_at(point, gold, answer) for point in (points if symbols else points[:1]))


def _agree_at(point: dict, gold: Any, answer: Any) -> bool:
    """Whether both have the same value at these values of their symbols, or one of them has no value."""

    def values(side: Expr) -> list[Expr]:
        return [value.doit().subs(point).evalf() for value in {side, comparisons.get_pct_val(side, side)}]

    pairs = [(x, y) for x in values(gold) for y in values(answer)]
    if not all(value.is_number and value.is_finite for pair in pairs for value in pair):
        return True
    return any(bool(abs(x - y) <= RELATIVE * max(abs(x), abs(y))) for x, y in pairs)


# One answer of each kind: the parser builds its tables as it reads, so a worker that has read these reads the next of
# their kind several times faster.
_KINDS = r"""
-\frac{3}{4}|\frac{2\sqrt{3}}{5}|3\sqrt{2}+1|\sqrt[3]{5}|2^{10}|x^2+2x+1|(x+1)(x-2)|\frac{x+1}{x^2-1}|\pi|\frac{\pi}{6}|2\pi r^2
(1,2)|(-1,2,\frac{1}{2})|(3,\frac{\pi}{2})|[0,1)|(-\infty,2]\cup[3,\infty)|1,2,3|\{1,2,3\}|x=1,y=2|x\leq 2|x<5|1<x<2|3\pm\sqrt{5}
\sin x|\cos(2x)+\sin^2 x|\tan\frac{\pi}{3}|\log_2 3|\ln 2|e^{-2t}|e^{x}+C|\text{Monday}|\text{(A)}|12.5|1.5\times10^{-3}|n!|\binom{n}{k}
\begin{pmatrix}1&2\\3&4\end{pmatrix}|\begin{pmatrix}1\\-2\\0\end{pmatrix}|y=2x+3|x^2+y^2=4|f(x)=x^2|a_{n}=2n-1|\frac{a+b}{c}|28\%
2+3i|\frac{1}{2}+\frac{\sqrt{3}}{2}i|\frac{n(n+1)}{2}|10^{\frac{1}{2}}|\lfloor x\rfloor|\lceil n/2\rceil+1|\sum_{k=1}^{n}k|\left|x\right|
2(x+1)^3-5|-x^3|\frac{-1+\sqrt{5}}{2}|\frac{1}{\sqrt{2}}|5\cdot 2^n|A\cos(\omega t)|\frac{e^{t}}{1+e^{t}}|3x-2y+z-4=0|120^{\circ}
"""


def warm_up() -> None:
    """Compile the patterns and fill the parser's tables before the first answer comes."""
    for kind in _KINDS.replace("\n", "|").strip("|").split("|"):
        math_verify_judge(kind, "\\frac{x}{2}", True)
    for answer, gold in (("x^2 + 2x + 1", "(x+1)^2"), ("x \\leq 2", "2 \\geq x"), ("(1, 2)", "(1, 3)")):
        math_verify_judge(answer, gold, True)


def judge(answer: str, gold: str, boxed: bool) -> tuple[float, str]:
    """Score and reason. Whatever the grader raises becomes the reason `error`; the worker goes on."""
    try:
        return math_verify_judge(answer, gold, boxed)
    except (MemoryError, RecursionError):
        return 0.0, "unparsable"
    except Exception:
        return 0.0, "error"


def math_verify_judge(answer: str, gold: str, boxed: bool) -> tuple[float, str]:
    """Math-Verify's verdict on an answer; an equation whose sides disagree is wrong."""
    golds = _parsed(gold)
    answers = _parsed(answer) if boxed else parse(answer, parsing_timeout=None)
    if not golds:
        return 0.0, "error"
    if not answers or (_only_text(answers) and not _only_text(golds)):
        return 0.0, "unparsable"
    if not _equal(golds, answers) or (boxed and not _sides_agree(answer)):
        return 0.0, "wrong"
    return 1.0, "correct"


@lru_cache(maxsize=1024)
def _parsed(answer: str) -> tuple:
    return tuple(parse(f"\\boxed{{{answer}}}", _BOXED, parsing_timeout=None))


def _equal(golds: Sequence, answers: Sequence) -> bool:
    return verify(list(golds), list(answers), timeout_seconds=None)


def _only_text(values: Sequence) -> bool:
    return not any(isinstance(value, Basic | MatrixBase) for value in values)


def _sides_agree(answer: str) -> bool:
    """False for `13 = 12` and `x = 1 = 12`: Math-Verify reads only the last side, so a list of guesses would score."""
    constants = [side for side in _sides(answer) if re.search(r"\d|\\pi", side) and not _VARIABLE.search(side)]
    return all(_equal(_parsed(constants[-1]), _parsed(side)) for side in constants[:-1])


def _sides(text: str) -> list[str]:
    """The sides of an equation, split at `=` outside of brackets; [] if the text is a list or an inequality."""
    text = re.sub(r"\\(?:text|mbox|mathrm)\s*\{[^{}]*\}", " ", text)
    if re.search(r"[,;<>]|\\[lgn]eq?\b|\\begin", text):
        return []
    sides, depth = [""], 0
    for character in text:
        depth += (character in "{([") - (character in "})]")
        if character == "=" and depth == 0:
            sides.append("")
        else:
            sides[-1] += character
    return sides
