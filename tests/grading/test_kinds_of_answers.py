"""Kinds of answers that Math-Verify reads wrongly: each with right and wrong ones, an answer before its label."""

import pytest

from rlvr.grading import REASONS, grade, grade_many

RIGHT = {
    'a number in a base': [
        ('4210_{5}', '4210_{5}'), ('(1210)_5', '1210_5'), ('1,210_5', '1210_5'), ('1210', '1210_5'),
        ('1210_{\\text{five}}', '1210_5'), ('1210_{five}', '1210_5'), ('1210 \\text{ (base 5)}', '1210_5'),
        ('1210 in base 5', '1210_5'), ('1210 base five', '1210_5'), ('1010_{two}', '1010_2'),
        ('1010_{(2)}', '1010_2'), ('1010₂', '1010_2'), ('\\text{1010}_2', '1010_2'), ('1A3_{16}', '1A3_{16}'),
        ('1a3_{16}', '1A3_{16}'), ('n = 52_8', '52_8'), ('12_{10}', '12'), ('\\mathrm{1010}_{2}', '1010_2'),
        ('1010_{\\text{base }2}', '1010_2'), ('52_{\\text{eight}}', '52_8'), ('2516_{8}', '2516_8'),
        ('52_8, 40_9', '52_{8},40_{9}'), ('(52)_{8}', '52_8'),
    ],
    'small values': [
        ('1.5\\times10^{-19}', '1.5e-19'), ('1.5 \\cdot 10^{-19}', '1.5e-19'), ('1.5e-19', '1.5\\times 10^{-19}'),
        ('e^{-40}', 'e^{-40}'), ('\\frac{1}{e^{40}}', 'e^{-40}'), ('1/2004!', '1 / 2004!'),
        ('\\frac{1}{2004!}', '1 / 2004!'), ('2.88\\times10^{-19}', '2.88e-19'), ('0.333333', '\\frac13'),
        ('0.016667', '\\frac{1}{60}'), ('1e-5', '0.00001'), ('12.8000004', '12.8'),
        ('2^{-100}', '\\frac{1}{2^{100}}'), ('10^{-20}', '1e-20'), ('-1.5e-19', '-1.5\\times10^{-19}'),
        ('1.325 \\times 10^{-27}', '1.325e-27'), ('15\\times10^{-20}', '1.5e-19'),
    ],
    'multiple choice': [
        ('B) Paris', 'B'), ('B. 12', 'B'), ('Option B', 'B'), ('B.', 'B'), ('\\text{B. a magnet}', 'B'),
        ('(B)', 'B'), ('\\textbf{B}', 'B'), ('\\textbf{(B)}', 'B'), ('B: text', 'B'), ('Answer: B', 'B'),
        ('The answer is B', 'B'), ('\\textbf{(B)}\\ 12', 'B'), ('\\text{(B) }12', '(B)'),
        ('\\mathbf{B}', '\\text{(B)}'), ('B) A magnet', 'B'), ('\\text{Option (B)}', 'B'), ('\\text{B}', 'B'),
        ('B - a magnet', 'B'), ('\\text{B) Paris}', '\\text{B}'), ('\\mathrm{B}', 'B'), ('B', '(B)'),
        ('(B) Paris', 'B'), ('choice B', 'B'), ('B）巴黎', 'B'), ('[B]', 'B'), ('\\textbf{(B) }\\frac{1}{2}', 'B'),
        ('B: \\frac{1}{2}', 'B'), ('{B}', 'B'), ('option B: magnet', 'B'),
    ],
    'primes': [
        ("f'(x)=2x", "f'(x) = 2x"), ('2x', "f'(x)=2x"), ("f'(x)=2x", '2x'),
        ('y^{\\prime}+r y-r x(t)=0', "y'+r y-r x(t)=0"), ('f^{\\prime}(x)', "f'(x)"), ('f′(x)', "f'(x)"),
        ("x'", 'x^\\prime'), ("x''", 'x^{\\prime\\prime}'), ("30'", '30^{\\prime}'),
    ],
    'repeating decimals': [
        ('0.\\overline{3}', '1/3'), ('0.\\overline{3}', '\\frac13'), ('\\frac13', '0.\\overline{3}'),
        ('0.1\\overline{6}', '\\frac{1}{6}'), ('0.\\dot3', '\\frac{1}{3}'), ('0.\\dot{3}', '\\frac{1}{3}'),
        ('0.\\bar{3}', '\\frac{1}{3}'), ('0.\\overline{142857}', '\\frac{1}{7}'), ('0.\\dot{1}4285\\dot{7}', '1/7'),
        ('0.(3)', '1/3'), ('-0.\\overline{3}', '-1/3'), ('1.\\overline{3}', '4/3'), ('.\\overline{3}', '1/3'),
        ('0.\\overline{9}', '1'), ('0.1\\dot{6}', '1/6'), ('2.\\overline{18}', '\\frac{24}{11}'),
        ('0.\\overline{3}', '0.\\dot3'), ('x=0.\\overline{3}', '1/3'), ('0.\\dot 3', '1/3'),
    ],
    'plain Unicode': [
        ('½', '1/2'), ('1½', '1.5'), ('√2', '\\sqrt{2}'), ('2√3', '2\\sqrt{3}'), ('√(x+1)', '\\sqrt{x+1}'),
        ('−3', '-3'), ('–3', '-3'), ('１２', '12'), ('（１，２）', '(1,2)'), ('１２．５', '12.5'), ('2π', '2\\pi'),
        ('x²+1', 'x^2+1'), ('45°', '45'), ('3×10⁵', '300000'), ('5²', '25'), ('x ≤ 3', 'x \\le 3'), ('１２。', '12'),
        ('１，２', '1,2'), ('π/2', '\\frac{\\pi}{2}'), ('5 cm²', '5'), ('θ', '\\theta'), ('x₁', 'x_1'),
        ('10⁻³', '0.001'), ('３', '3'), ('∞', '\\infty'), ('−½', '-\\frac12'), ('√13/2', '\\frac{\\sqrt{13}}{2}'),
        ('{1，2}', '\\{1,2\\}'),
    ],
    'units and plain spellings': [
        ('5cm', '5'), ('5 cm', '5'), ('12 apples', '12'), ('12', '12 apples'),
        ('12\\text{ m}^2', '12\\text{ m}^{2}'), ('12m^2', '12\\text{ m}^2'), ('45 degrees', '45'),
        ('45^\\circ', '45 degrees'), ('45', '45 degrees'), ('45°', '45 degrees'), ('\\$5', '5'), ('€5', '5'),
        ('5 €', '5'), ('5 dollars', '\\$5'), ('5 euros', '€5'), ('1 1/2', '1.5'), ('1\\frac{1}{2}', '1 1/2'),
        ('3/2', '1 1/2'), ('12 500', '12500'), ('12500', '12 500'), ('12\\,500', '12500'), ('2pi', '2\\pi'),
        ('2\\pi', '2pi'), ('2*pi', '2\\pi'), ('sqrt(2)', '\\sqrt{2}'), ('10 square units', '10'), ('10weeks', '10'),
        ('5 km/h', '5'), ('5\\text{ km/h}', '5 kph'), ('20 miles', '20\\text{ miles}'),
        ('5\\text{ centimeters}', '5\\text{ cm}'), ('25\\text{ square meters}', '25\\text{ m}^2'),
        ('50 percent', '50\\%'), ('50', '50%'), ('3\\sqrt{2} cm', '3\\sqrt{2}'), ('5\\pi cm^2', '5\\pi'),
        ('5.4', '5.4 \\text{ cents}'), ('25^\\circ C', '25^{\\circ} \\mathrm{C}'), ('25', '25^{\\circ} \\mathrm{C}'),
        ('25 ℃', '25'), ('100 mph', '100 miles per hour'), ('8 hours', '8'), ('12.50 USD', '\\$12.50'),
        ('5\\text{ m/s}', '5'), ('￥100', '100'), ('60 minutes', '60'), ('£3.50', '3.5'),
    ],
}  # fmt: skip
WRONG = {
    'a number in a base': [
        ('4210_{7}', '4210_{5}'), ('1010_3', '1010_2'), ('10_2', '2'), ('2', '10_2'), ('1010_{three}', '1010_2'),
        ('1210 base 6', '1210_5'), ('121_5', '1210_5'), ('52_9', '52_8'), ('180', '1210_5'), ('10_2', '10'),
        ('52_8, 40_8', '52_8,40_9'), ('(1210)_{6}', '1210_5'), ('1010₃', '1010_2'),
    ],
    'small values': [
        ('1.5e-19', '2.88e-19'), ('-1.5e-19', '1.5e-19'), ('1.5\\times10^{-19}', '2.88e-19'), ('e^{-41}', 'e^{-40}'),
        ('e^{-40}', '1 / 2004!'), ('\\frac{1}{2005!}', '1 / 2004!'), ('0', '1 / 2004!'), ('10^{-30}', '1 / 2004!'),
        ('1e-20', '0'), ('2.7e-6', '2.7778e-6'), ('1.5e-19', '1.5e-18'), ('0.0000001', '0'),
        ('\\frac{1}{2^{101}}', '\\frac{1}{2^{100}}'), ('(1.5e-19, 2)', '(2.88e-19,2)'),
        ('1.5\\times10^{-19}x', '2.88\\times 10^{-19}x'), ('0.000001', '0.0000014'),
        ('\\pi\\times10^{-18}', 'e\\times10^{-18}'), ('1.4e-8', '1.24e-8'), ('\\{10^{-18},1\\}', '\\{10^{-19},1\\}'),
        ('0.3333', '1/3'), ('12.80001', '12.8'), ('12.0000001', '12'),
    ],
    'multiple choice': [
        ('C) Paris', 'B'), ('B or C', 'B'), ('B, C', 'B'), ('AB', 'B'), ('A and B', 'B'), ('not B', 'B'),
        ('B) Paris, C) Rome', 'B'), ('A. B', 'B'), ('B + C', 'B'), ("B'", 'B'), ('12', 'B'), ('Paris', 'B'),
        ('\\text{A or B}', 'B'), ('B_1', 'B'), ('Option A', 'B'), ('B and C', 'B'), ('B/C', 'B'), ('B) or C)', 'B'),
        ('B. 12, C. 13', 'B'), ('B) C', 'B'), ('-B', 'B'), ('2B', 'B'), ('B; C', 'B'), ('Option 3', '3 B'),
        ('Boston', 'B'), ('B^2', 'B'), ('B) Paris \\text{ or } C) Rome', 'B'),
    ],
    'primes': [
        ("f'(x)", 'f(x)'), ('f(x)', "f'(x)"), ("30'", '30'), ('30', "30'"), ("x'", 'x'), ("x''", "x'"),
        ("f''(x)", "f'(x)"), ("30''", "30'"), ('f^\\prime(x)', 'f(x)'), ("A'", 'A'), ("y'", 'y'), ("6'", '6'),
        ('30^{\\prime}', '30'), ('30′', '30'), ('f(x)=2x', "f'(x)=2x"), ('x^{\\prime\\prime}', "x'"),
    ],
    'repeating decimals': [
        ('0.\\overline{3}', '0.3'), ('0.\\overline{3}', '3'), ('0.\\overline{36}', '\\frac{1}{3}'),
        ('0.3', '0.\\overline{3}'), ('0.1\\overline{6}', '0.16'), ('0.\\dot3', '0.3'), ('0.\\overline{6}', '1/3'),
    ],
    'plain Unicode': [
        ('½', '1'), ('1½', '11/2'), ('3–5', '-2'), ('√2', '2'), ('x²', 'x'), ('５', '6'), ('x²', 'x_2'),
        ('10²', '102'),
    ],
    'units and plain spellings': [
        ('5 cm', '5 m'), ('5cm', '5 m'), ('5 cm', '6'), ('5 km', '5\\text{ m}'), ('12 million', '12'),
        ('12 dozen', '12'), ('12 thousand', '12'), ('12 wrong', '12'), ('3 quarters', '3'), ('2mg', '2'),
        ('2ab', '2'), ('3 n', '3'), ('5 apples', '5 oranges'), ('5 cents', '\\$5'), ('€5', '5 dollars'),
        ('45 radians', '45 degrees'), ('12 or 13', '12'), ('5cm^3', '5\\text{ cm}^2'), ('1 1/2', '11/2'),
        ('2pi', '2'), ('2sin', '2'), ('12 500', '12.5'), ('12 squared', '12'), ('3x cm', '3'), ('12 tenths', '12'),
        ('12 pi', '12'), ('3 abc', '3'), ('12 unless wrong', '12'), ('6m', '6'), ('6', '6m'), ('2 n', '2'),
        ('1, 5', '1.5'), ('3 halves', '3'), ('5 hundred', '5'), ('2 alpha', '2'), ('3^2', '3'), ('7 mod 3', '7'),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    "piece", ["the answer is : ", "option ", "\\text{ ", "5 ~", "5_{base ", "(", "\u221a(", "1 1/2 ", "0.1("]
)
def test_a_repeated_piece_ends(piece):
    """A pattern that tries all ways to read it would go on for years."""
    response = f"\\boxed{{5{piece * 150}x!}}".replace("{", "(").replace("\\boxed(", "\\boxed{", 1)
    for gold in ("B", "1210_5", "5\\text{ m}"):
        assert grade(response, gold)[1] in REASONS


@pytest.mark.parametrize("kind", RIGHT)
def test_right_answers(kind):
    verdicts = grade_many([f"\\boxed{{{answer}}}" for answer, _ in RIGHT[kind]], [gold for _, gold in RIGHT[kind]])
    assert [pair for pair, (score, _) in zip(RIGHT[kind], verdicts, strict=True) if not score] == []


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_answers(kind):
    verdicts = grade_many([f"\\boxed{{{answer}}}" for answer, _ in WRONG[kind]], [gold for _, gold in WRONG[kind]])
    assert [pair for pair, (score, _) in zip(WRONG[kind], verdicts, strict=True) if score] == []
