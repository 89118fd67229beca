"""The tiny world means what its model card says: disjoint sets, right answers, an able but unreliable base model."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from rlvr.tiny import datasets
from rlvr.tiny.arithmetic import Scratch
from rlvr.tiny.behaviours import MAX_RESPONSE_TOKENS, draw_document, respond
from rlvr.tiny.hard import HARD_TEMPLATES
from rlvr.tiny.multiple_choice import draw_choice
from rlvr.tiny.problems import SUBJECTS, draw_problem, split_of
from rlvr.tiny.templates import TEMPLATES

MODEL_FOLDER = Path(datasets.__file__).with_name("model")
SIZES = {"pool": 1209, "validation": 500, "tiny500": 500, "tiny_hard": 200, "tiny_arc": 200}


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(MODEL_FOLDER)


def test_sets_have_their_sizes_and_share_no_question():
    loaded = {name: datasets.load(name) for name in datasets.NAMES}
    larger = loaded.pop("pool_7500")
    assert [e["question"] for e in larger[:1209]] == [e["question"] for e in loaded["pool"]]
    others = {e["question"] for name, examples in loaded.items() if name != "pool" for e in examples}
    assert len({e["question"] for e in larger} - others) == 7500
    assert {name: len(examples) for name, examples in loaded.items()} == SIZES
    questions = [example["question"] for examples in loaded.values() for example in examples]
    assert len(set(questions)) == sum(SIZES.values())
    assert len({example["id"] for examples in loaded.values() for example in examples}) == len(questions)


def test_sets_are_the_same_on_every_load_and_machine():
    assert datasets.load("pool") == datasets.load("pool")
    first = datasets.load("tiny500")[0]
    assert first == {
        "id": "tiny500/0",
        "question": "Quiz: Find the dot product of (3,7) and (5,2).",
        "answer": "29",
        "subject": "Precalculus",
    }


def test_unknown_set_is_refused_with_the_known_names():
    with pytest.raises(ValueError, match="tiny501.*expected one of pool, pool_7500"):
        datasets.load("tiny501")


@pytest.mark.parametrize("name", ["pool", "validation", "tiny500"])
def test_every_set_of_problems_covers_the_seven_math_subjects(name):
    assert {example["subject"] for example in datasets.load(name)} == set(SUBJECTS)
    assert len(SUBJECTS) == 7 and "Counting & Probability" in SUBJECTS


def test_pretraining_never_shows_a_question_of_any_set():
    rng = Random(123)
    seen = {draw_document(rng)[0].removesuffix("\n") for _ in range(30_000)}
    for name in datasets.NAMES:
        assert seen.isdisjoint(example["question"] for example in datasets.load(name)), name


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


def test_hard_problems_lie_outside_the_pretrained_templates():
    assert {t.name for t in HARD_TEMPLATES}.isdisjoint(t.name for t in TEMPLATES)
    rng = Random(6)
    ordinary = {re.sub(r"\d+", "0", draw_problem(rng, "pretrain").template.wordings[0]) for _ in range(2000)}
    longer = [t for t in HARD_TEMPLATES if t.wordings[0] not in ordinary]
    assert {t.name for t in longer} >= {"hard_outfits", "hard_hole", "hard_shop", "hard_dot"}
    bigger = {"hard_linear": 1, "hard_line_value": 2, "hard_sequence": 0, "hard_remainder": 0}
    for hard in HARD_TEMPLATES:
        if hard.name in bigger:
            usual = next(t for t in TEMPLATES if t.wordings[0] == hard.wordings[0])
            place = bigger[hard.name]
            largest = max(usual.draw(rng)[place] for _ in range(2000))
            assert min(hard.draw(rng)[place] for _ in range(2000)) > largest


@pytest.mark.parametrize(
    ("template", "parameters", "answer"),
    [
        ("linear_plus", (3, 5, 26), 7),
        ("sum_difference", (20, 6), 13),
        ("outfits", (2, 3, 4), 24),
        ("codes", (2, 3, 5), 17),
        ("spins", (2, 5, 30), 12),
        ("hole", (10, 6, 4), 44),
        ("triangle", (8, 5, 7), 27),
        ("angle", (50, 60), 70),
        ("quadratic_value", (3, 4, 5), 44),
        ("discriminant", (1, 5, 6), 1),
        ("sequence", (5, 3, 10), 32),
        ("system", (9, 3), 18),
        ("remainder", (50, 7), 1),
        ("digit_sum", (37, 5), 14),
        ("left", (80, 6, 4), 56),
        ("percent", (30, 150), 45),
        ("average", (10, 12, 14), 12),
        ("determinant", (5, 2, 3, 4), 14),
        ("distance", (1, 2, 4, 6), 25),
        ("compose", (2, 3, 4, 5, 1), 21),
    ],
)
def test_templates_solve_hand_computed_problems(template, parameters, answer):
    solve = next(t.solve for t in TEMPLATES if t.name == template)
    assert solve(Scratch(Random(0), careful=1.0), *parameters) == answer


@pytest.mark.parametrize("split", ["pool", "hard"])
def test_careful_steps_are_true_equations_that_end_in_the_answer(split):
    rng = Random(7)
    for _ in range(1000):
        problem = draw_problem(rng, split)
        steps, value = problem.work(rng, careful=1.0)
        for step in steps.rstrip(".").split("; "):
            assert len({eval(side) for side in step.split("=")}) == 1, step
        assert value == problem.answer == steps.rstrip(".").split("=")[-1]
        assert problem.answer.isdigit()


def test_sloppy_operations_slip_about_one_time_in_three():
    rng, slips, operations = Random(8), 0, 0
    for _ in range(3000):
        steps, _ = draw_problem(rng, "pool").work(rng, careful=0.0)
        for step in steps.rstrip(".").split("; "):
            left, right = step.split("=")
            slips += eval(left.replace("//", "/").replace("/", "//")) != int(right)
            operations += 1
    assert 0.2 < slips / operations < 0.4


def test_a_careful_boxed_response_ends_in_the_right_box():
    problem = draw_problem(Random(9), "pool")
    text = respond(Random(1), problem, kind="reasoned", careful=1.0, boxed=1.0)
    assert f"\\boxed{{{problem.answer}}}." in text and "=" in text


def test_every_habit_occurs_and_wrong_boxes_are_common():
    rng = Random(10)
    problems = [draw_problem(rng, "validation") for _ in range(3000)]
    texts = [respond(rng, problem) for problem in problems]
    last = [re.findall(r"\\boxed\{([^}]*)\}", text) for text in texts]
    boxed = sum(map(bool, last)) / len(texts)
    right = sum(bool(b) and b[-1] == p.answer for b, p in zip(last, problems, strict=True)) / len(texts)
    assert 0.5 < boxed < 0.7 and right < boxed / 2
    assert 0.05 < sum(text.startswith("```python") for text in texts) / len(texts) < 0.2
    assert 0.1 < sum(len(text) > 700 for text in texts) / len(texts) < 0.4


def test_datasets_import_neither_torch_nor_transformers():
    code = "import rlvr.tiny.datasets, sys; assert not {'torch', 'transformers', 'tokenizers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_tokenizer_keeps_text_digits_and_special_tokens_apart(tokenizer):
    text = "Task: Tom has 48 pens.\nFirst, 48+17=58+7=65. So \\boxed{65}."
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert len(tokenizer("1234567890").input_ids) == 10
    assert tokenizer.eos_token_id is not None and tokenizer.pad_token_id not in (None, tokenizer.eos_token_id)


def test_chat_template_is_the_question_and_a_line_break(tokenizer):
    for name in datasets.NAMES:
        for example in datasets.load(name)[:50]:
            messages = [{"role": "user", "content": example["question"]}]
            text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
            assert text == example["question"] + "\n"
            assert len(tokenizer(text).input_ids) <= 64


def test_model_is_small():
    import torch
    from transformers import AutoModelForCausalLM

    assert sum(path.stat().st_size for path in MODEL_FOLDER.iterdir()) <= 8 * 2**20
    model = AutoModelForCausalLM.from_pretrained(MODEL_FOLDER, dtype=torch.float32)
    assert sum(p.numel() for p in model.parameters()) <= 3_000_000
    config = json.loads((MODEL_FOLDER / "config.json").read_text())
    assert config["architectures"] == ["Qwen2ForCausalLM"]


def test_base_model_is_able_but_unreliable(tokenizer):
    from rlvr.evaluation import engines
    from rlvr.verl_cpu.generation import Sampling

    engine = engines.start("torch", str(MODEL_FOLDER))
    examples = datasets.load("validation")

    def accuracy(hint: str) -> float:
        prompts = [tokenizer(example["question"] + "\n" + hint)["input_ids"] for example in examples]
        greedy = [Sampling(MAX_RESPONSE_TOKENS, 0.0)] * len(prompts)
        answers = engine.generate(prompts, greedy, lambda responses, tokens: None)
        texts = [tokenizer.decode(answer.token_ids, skip_special_tokens=True) for answer in answers]
        boxes = [re.findall(r"\\boxed\{([^{}]*)\}", text) for text in texts]
        return sum(bool(b) and b[-1] == e["answer"] for b, e in zip(boxes, examples, strict=True)) / len(examples)

    base = accuracy("")
    assert 0.25 <= base <= 0.45
    assert accuracy("Step by step: ") > base + 0.1
