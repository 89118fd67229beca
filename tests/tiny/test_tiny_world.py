"""The tiny world means what its model card says: disjoint sets, right answers, habits as stated, a base able but unreliable."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path
from random import Random

import pytest

from rlvr.cli import ConfigError
from rlvr.grading import grade_many, last_boxed
from rlvr.tiny import datasets, habits, pretrain
from rlvr.tiny.arithmetic import Scratch
from rlvr.tiny.calibration import habit_of
from rlvr.tiny.multiple_choice import LETTERS, draw_choice
from rlvr.tiny.problems import SUBJECTS, draw_problem, split_of
from rlvr.tiny.templates import LONGER_TEMPLATES, TEMPLATES

MODEL_FOLDER = Path(datasets.__file__).with_name("model")
SIZES = {"pool": 1209, "validation": 500, "tiny500": 500, "tiny_hard": 200, "tiny_arc": 200}
# What each template asks for, computed in another way than by its written steps.
ANSWERS = {
    "linear_plus": lambda a, b, c: Fraction(c - b, a),
    "linear_minus": lambda a, b, c: Fraction(c + b, a),
    "line_value": lambda a, b, c: a * c + b,
    "sum_difference": lambda a, b: Fraction(a + b, 2),
    "outfits": lambda a, b, c: a * b * c,
    "roads": lambda a, b, c: a * b + c,
    "spins": lambda a, b, c: Fraction(a, b) * c,
    "codes": lambda a, b, c: a * math.perm(b, 2) + c,
    "perimeter": lambda a, b: 2 * a + 2 * b,
    "hole": lambda a, b, c: a * b - c**2,
    "triangle": lambda a, b, c: Fraction(a * b, 2) + c,
    "angle": lambda a, b: 180 - a - b,
    "quadratic_value": lambda a, b, c: c**2 + a * c + b,
    "discriminant": lambda a, b, c: b**2 - 4 * a * c,
    "sequence": lambda a, b, c: range(a, a + b * c, b)[c - 1],
    "system": lambda a, b: Fraction(a + b, 2) * Fraction(a - b, 2),
    "remainder": lambda a, b: a % b,
    "digit_sum": lambda a, b: sum(map(int, str(a * b))),
    "multiple": lambda a, b, c: a * b + a * c,
    "shop": lambda a, b, c: a * b + c,
    "left": lambda a, b, c: a - b * c,
    "percent": lambda a, b: Fraction(a, 100) * b,
    "average": lambda a, b, c: Fraction(a + b + c, 3),
    "dot": lambda a, b, c, d: a * c + b * d,
    "determinant": lambda a, b, c, d: a * d - b * c,
    "distance": lambda a, b, c, d: (a - c) ** 2 + (b - d) ** 2,
    "compose": lambda a, b, c, d, e: a * (c * e + d) + b,
    "long_linear": lambda a, b, c, d: Fraction(c - d - b, a),
    "long_outfits": lambda a, b, c, d: a * b * c * d,
    "long_hole": lambda a, b, c, d: a * b - c**2 - d,
    "long_quadratic": lambda a, b, c, d: c**2 + a * c + b + d,
    "long_remainder": lambda a, b, c: (a + b) % c,
    "long_shop": lambda a, b, c, d: a * b + c - d,
    "long_dot": lambda a, b, c, d, e, f: a * d + b * e + c * f,
}


def _pattern(wording):
    """A wording as a regular expression that names its parameters; a parameter named twice must be the same number."""
    parts, seen = re.split(r"\{(\w+)\}", wording), set()
    pattern = re.escape(parts[0])
    for name, text in zip(parts[1::2], parts[2::2], strict=True):
        number = f"(?P={name})" if name in seen else rf"(?P<{name}>\d+)"
        pattern += (number if len(name) == 1 else r"\w+") + re.escape(text)
        seen.add(name)
    return re.compile(pattern)


PATTERNS = [(_pattern(wording), t.name) for t in (*TEMPLATES, *LONGER_TEMPLATES) for wording in t.wordings]


def read(question):
    """(template, parameters) of a question, read from its text; None for a multiple-choice question."""
    found = {}
    for pattern, name in PATTERNS:
        if match := pattern.search(question):
            found[match.end() - match.start()] = (name, tuple(int(v) for _, v in sorted(match.groupdict().items())))
    return found[max(found)] if found else None


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(MODEL_FOLDER)


def test_sets_have_their_sizes_and_share_no_question():
    loaded = {name: datasets.load(name) for name in datasets.NAMES}
    larger = loaded.pop("pool_7500")
    assert [e["question"] for e in larger[:1209]] == [e["question"] for e in loaded["pool"]]
    assert len({e["question"] for e in larger}) == 7500
    assert {name: len(examples) for name, examples in loaded.items()} == SIZES
    questions = [example["question"] for examples in loaded.values() for example in examples]
    assert len(set(questions)) == sum(SIZES.values())
    assert len({example["id"] for examples in loaded.values() for example in examples}) == len(questions)


def test_no_problem_is_in_two_sets_or_in_pretraining_in_whatever_words():
    rng = Random(123)
    documents = [draw(rng) for draw in (habits.draw_document, habits.draw_lesson) for _ in range(15_000)]
    # A question with any problem that a response runs on into; a choice is its own key.
    texts = {"pretraining": [t for prompt, response in documents for t in (prompt, *response.split("\n")[1:2])]}
    texts |= {name: [e["question"] for e in datasets.load(name)] for name in datasets.NAMES if name != "pool"}
    problems = {name: {read(text) or text for text in t} for name, t in texts.items()}
    assert len(problems["pretraining"]) > 5000
    for name, keys in problems.items():
        for other, others in problems.items():
            assert name == other or keys.isdisjoint(others), (name, other)


def test_split_depends_on_template_and_parameters_alone():
    rng = Random(5)
    for split in ("pretrain", "pool", "validation", "test"):
        for _ in range(300):
            problem = draw_problem(rng, split)
            assert split_of(problem.template.name, problem.parameters) == split
    for split in ("pretrain", "test"):
        for _ in range(300):
            choice = draw_choice(rng, split)
            assert split_of(choice.subject, (choice.key, *choice.options)) == split


def test_sets_are_the_same_on_every_load_and_machine():
    assert datasets.load("pool") == datasets.load("pool")
    assert datasets.load("validation")[0] == {
        "id": "validation/0",
        "question": "Exercise: There are 4 roads from P to Q, 9 from Q to R and 17 from P to R. How many ways from P to R? Find it.",
        "answer": "53",
        "subject": "Counting & Probability",
        "reach": "within",
    }


def test_unknown_set_is_refused_with_the_known_names():
    with pytest.raises(ValueError, match="tiny501.*expected one of pool, pool_7500"):
        datasets.load("tiny501")


@pytest.mark.parametrize("name", ["pool", "pool_7500", "validation", "tiny500", "tiny_hard"])
def test_answers_are_those_of_an_independent_reading_of_the_question(name):
    examples = datasets.load(name)
    right = []
    for example in examples:
        template, parameters = read(example["question"])
        right.append(ANSWERS[template](*parameters))
    assert [str(value) for value in right] == [example["answer"] for example in examples]
    boxes = [f"So \\boxed{{{value}}}." for value in right]
    assert all(score == 1 for score, _ in grade_many(boxes, [example["answer"] for example in examples]))


@pytest.mark.parametrize("name", ["pool", "validation", "tiny500"])
def test_every_set_covers_maths_seven_subjects_and_both_kinds_of_difficulty(name):
    examples = datasets.load(name)
    assert {example["subject"] for example in examples} == set(SUBJECTS)
    assert len(SUBJECTS) == 7 and "Counting & Probability" in SUBJECTS
    share = Counter(example["reach"] for example in examples)["beyond"] / len(examples)
    assert share == pytest.approx(0.18, abs=0.04)


def test_what_lies_beyond_reach_needs_a_product_or_quotient_of_two_digit_numbers():
    rng = Random(4)

    def largest(problem):
        """The larger of the smaller operands of the products and quotients in the right solution."""
        sizes = [0]
        for step in problem.work(rng, careful=True)[0]:
            if match := re.match(r"(\d+)(\*|//?)(\d+)=", step):
                a, operator, b = match.groups()
                sizes.append(min(int(a), int(b)) if operator == "*" else int(b))
        return max(sizes)

    problems = [draw_problem(rng, "pool", beyond=0.5) for _ in range(4000)]
    for problem in problems:
        assert (largest(problem) >= 11) == (problem.reach == "beyond"), (problem.question, problem.reach)


@pytest.mark.parametrize("longer", LONGER_TEMPLATES, ids=lambda template: template.name)
def test_longer_problems_have_more_steps_than_what_they_extend(longer):
    extended = {"long_linear": "linear_plus", "long_quadratic": "quadratic_value"}
    name = extended.get(longer.name, longer.name.removeprefix("long_"))
    rng = Random(6)

    def steps(template):
        scratch = Scratch(rng)
        template.solve(scratch, *template.draw(rng, "within"))
        return len(scratch.steps)

    plain = next(t for t in TEMPLATES if t.name == name)
    assert plain.subject == longer.subject
    assert min(steps(longer) for _ in range(50)) > max(steps(plain) for _ in range(50))


def test_careful_steps_are_true_equations_that_end_in_the_answer():
    rng = Random(7)
    for split in ("pool", "longer"):
        for _ in range(1000):
            problem = draw_problem(rng, split)
            steps, value = problem.work(rng, careful=True)
            for step in steps:
                assert len({eval(side) for side in step.split("=")}) == 1, step
            assert value == problem.answer == steps[-1].split("=")[-1]
            assert problem.answer.isdigit()


def test_terse_arithmetic_drops_carries_and_is_else_right():
    always = type("Always", (Random,), {"random": lambda self: 0.0})()
    for operation, a, b, wrong in (("add", 27, 15, 32), ("sub", 42, 15, 37), ("mul", 17, 4, 58), ("div", 56, 7, 7)):
        assert getattr(Scratch(always, careful=False), operation)(a, b) == wrong
    for operation, a, b, right in (
        ("add", 21, 15, 36),
        ("sub", 45, 12, 33),
        ("mul", 12, 4, 48),
        ("quotient", 56, 9, 6),
    ):
        assert getattr(Scratch(always, careful=False), operation)(a, b) == right
    rng = Random(8)
    problems = [draw_problem(rng, "pool") for _ in range(3000)]
    wrong = sum(problem.work(rng, careful=False)[1] != problem.answer for problem in problems) / len(problems)
    assert 0.7 < wrong < 0.9


def test_habits_occur_as_often_as_their_tendencies_say():
    rng = Random(10)
    kinds = ("reason", "terse", "guess", "code", "stall")
    problems = [draw_problem(rng, "validation") for _ in range(6000)]
    expected = Counter()
    for problem in problems:
        weights = {kind: math.exp(habits.logit(kind, problem)) for kind in kinds}
        for kind, weight in weights.items():
            expected[kind] += weight / sum(weights.values())
    stated = {"reason": 0.35, "terse": 0.16, "guess": 0.11, "code": 0.09, "stall": 0.29}
    assert {kind: expected[kind] / len(problems) for kind in kinds} == pytest.approx(stated, abs=0.015)
    texts = [habits.respond(rng, problem) for problem in problems]
    first = Counter("stall" if text.startswith(habits.STALL) else habit_of(text) for text in texts)
    for kind in kinds:
        assert first[kind] == pytest.approx(expected[kind], abs=4 * math.sqrt(expected[kind])), kind
    boxes = [last_boxed(text) for text in texts]
    wrong = sum(box is not None and box != p.answer for box, p in zip(boxes, problems, strict=True))
    assert wrong > 0.3 * sum(box is not None for box in boxes)


def test_a_stall_goes_on_with_one_probability_per_problem():
    rng, problem = Random(11), draw_problem(Random(11), "pool")
    go_on = habits.probability("go_on", problem)
    said = [habits.respond(rng, problem, "stall").count(habits.STALL) for _ in range(6000)]
    for count in (1, 2, 3):
        reached = sum(n >= count for n in said)
        more = sum(n > count for n in said) / reached
        assert more == pytest.approx(go_on, abs=4 * math.sqrt(go_on * (1 - go_on) / reached))


@pytest.mark.parametrize("habit", ["reason", "terse", "guess", "code"])
def test_a_response_is_recognised_by_the_habit_it_ends_up_in(habit):
    rng = Random(12)
    assert {habit_of(habits.respond(rng, draw_problem(rng, "pool"), habit)) for _ in range(200)} == {habit}
    assert habit_of(habits.STALL * 3) == "stall"


def test_datasets_import_neither_torch_nor_transformers():
    code = "import rlvr.tiny.datasets, sys; assert not {'torch', 'transformers', 'tokenizers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_tokenizer_keeps_text_digits_and_special_tokens_apart(tokenizer):
    text = "Task: Tom has 48 pens.\nLet's think step by step. 48+17=58+7=65. So \\boxed{65}."
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert len(tokenizer("1234567890").input_ids) == 10
    assert tokenizer.eos_token_id is not None and tokenizer.pad_token_id not in (None, tokenizer.eos_token_id)


def test_chat_template_is_the_question_and_a_line_break(tokenizer):
    for name in datasets.NAMES:
        for example in datasets.load(name)[:100]:
            messages = [{"role": "user", "content": example["question"]}]
            text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
            assert text == example["question"] + "\n"
            assert len(tokenizer(text).input_ids) <= 64


def test_right_answers_fit_the_response_limit(tokenizer):
    rng = Random(13)
    for _ in range(2000):
        problem = draw_problem(rng, "pool", beyond=0.5)
        steps, value = problem.work(rng, careful=True)
        text = habits.REASON + "; ".join(steps) + "." + habits.THE_ANSWER % (habits.BOX % value)
        assert len(tokenizer(text).input_ids) < habits.MAX_RESPONSE_TOKENS


def micro(tokenizer, tokens, seed=0):
    run = pretrain.Pretraining(Path(), seed=seed, hidden=64, layers=2, mlp=128, batch_tokens=512)
    tokenizer = tokenizer or pretrain.train_tokenizer(run)
    model = pretrain.build_model(run, tokenizer)
    return pretrain.train(run, model, tokenizer, habits.draw_lesson, tokens, 1.0)["loss"], model.state_dict()


def test_micro_pretraining_learns(tokenizer):
    """At first every token of the vocabulary is as likely."""
    first, last = (micro(tokenizer, tokens)[0] for tokens in (500, 80_000))
    assert first == pytest.approx(math.log(640), abs=0.2)
    assert last < 3.5


def test_pretraining_is_the_same_for_the_same_seed(tokenizer):
    (loss, weights), (again, same) = micro(None, 4_000), micro(None, 4_000)
    assert again == loss != micro(tokenizer, 4_000, seed=1)[0]
    assert all((same[name] == tensor).all() for name, tensor in weights.items())


def test_pretraining_over_a_model_is_refused_before_it_starts():
    with pytest.raises(ConfigError, match="holds a model already; give a new folder"):
        pretrain.pretrain(pretrain.Pretraining(MODEL_FOLDER))


def test_model_is_small():
    import torch
    from transformers import AutoModelForCausalLM

    assert sum(path.stat().st_size for path in MODEL_FOLDER.iterdir()) <= 8 * 2**20
    model = AutoModelForCausalLM.from_pretrained(MODEL_FOLDER, dtype=torch.float32)
    assert sum(p.numel() for p in model.parameters()) <= 2_500_000
    config = json.loads((MODEL_FOLDER / "config.json").read_text())
    assert config["architectures"] == ["Qwen2ForCausalLM"]


def test_the_card_is_drawn_from_its_numbers():
    from rlvr.tiny.model_card import draw

    card = json.loads((MODEL_FOLDER / "card.json").read_text())
    assert (MODEL_FOLDER / "README.md").read_text() == draw(card)


def test_the_shipped_model_does_what_its_card_says():
    from rlvr.tiny.calibration import Base

    card = json.loads((MODEL_FOLDER / "card.json").read_text())["statistics"]
    base, examples = Base(str(MODEL_FOLDER)), datasets.load("validation")[:100]
    answers = base.answer(examples)
    told = base.answer(examples, opening=habits.REASON)
    near = 3 * 0.5 / math.sqrt(len(examples))
    assert sum(a.right for a in answers) / 100 == pytest.approx(card["accuracy"], abs=near)
    assert sum(a.boxed for a in answers) / 100 == pytest.approx(card["boxed"], abs=near)
    assert sum(a.truncated for a in answers) / 100 == pytest.approx(card["truncated"], abs=near)
    assert sum(a.right for a in told) / 100 == pytest.approx(card["told_to_reason"], abs=near)
    # The targets that the calibration had, from the real base model.
    assert 0.33 <= card["accuracy"] <= 0.39 and 0.5 < card["accuracy_of_boxed"] < 0.7
    assert card["boxed"] + card["truncated"] == pytest.approx(1, abs=0.1)
    assert card["told_to_reason"] > 0.7 and card["told_within"] > 0.9 and card["told_beyond"] < 0.15
    assert all(letter in LETTERS for letter in {e["answer"] for e in datasets.load("tiny_arc")})
