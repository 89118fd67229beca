"""A folder in the format of the authors' repository and of ARC, with problems of our own: what `data_root` names.

Files, columns and numbers of rows are those of the real files. Their irregularities are here too: an example without a
label, one problem three times, accuracy histories of unequal length, golds as 025, as 27.0 and in dollars, ARC keys as digits.
"""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rlvr.data.pools import INSTRUCTION

EXAMPLES = 1209
UNLABELLED, REPEATED = 265, (136, 780, 899)
FIRSTS = [400 + 7 * i for i in range(16)]  # the indices of pi1 to pi16
LAST = 789  # pi1209
# The golds that a reader has to convert: (benchmark, row) -> the gold in the file.
GOLDS = {
    ("math500", 3): "\\left( 2, \\frac{\\pi}{3} \\right)",
    ("aime24", 7): "025",
    ("amc23", 0): 27.0,
    ("aime25", 19): "45^\\circ",
    ("minerva_math", 0): "1.6",
    ("olympiadbench", 4): "$\\frac{1}{2 n+1}$",
}


def write(root: Path) -> Path:
    for folder in ("train", "eval", "arc"):
        (root / folder).mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(pool()), root / "train" / "dsr_sub.parquet")
    (root / "train" / "acc_step_500.json").write_text(json.dumps(history()))
    for name, rows in benchmarks().items():
        place = root / ("arc" if name.startswith("ARC") else "eval") / f"{name}.jsonl"
        place.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def pool() -> list[dict]:
    return [_training_row(index) for index in range(EXAMPLES)]


def _training_row(index: int) -> dict:
    a = REPEATED[0] if index in REPEATED else index
    return {
        "data_source": "deepscaler",
        "prompt": [{"content": f"A crate holds {a} pears, another {a + 3}. How many pears are there?" + INSTRUCTION, "role": "user"}],
        "ability": "math",
        "reward_model": {"ground_truth": "" if index == UNLABELLED else str(2 * a + 3), "style": "rule"},
        "extra_info": {"index": index, "split": "train"},
    }  # fmt: skip


def history() -> dict[str, list[float]]:
    """44 to 57 accuracies an example, in eighths; the first 16 vary most, and many at the end not at all."""
    found = {}
    for index in reversed(range(EXAMPLES)):
        pairs, visits = index % 5, 44 + index % 14
        found[str(index)] = [0.375, 0.625] * pairs + [0.5] * (visits - 2 * pairs)
    for place, index in enumerate(FIRSTS):
        found[str(index)] = [0.0, 1.0] * (24 - place) + [0.5] * (2 * place)
    found.pop(str(LAST))
    return found | {str(LAST): [1.0] * 50}


def benchmarks() -> dict[str, list[dict]]:
    """The rows of each file, by its name without .jsonl."""

    def gold(name: str, i: int, usual):
        return GOLDS.get((name, i), usual)

    def boxed(answer: str) -> str:
        return f"Adding both numbers gives \\boxed{{{answer}}}."

    asked = "What is {} plus {}?".format
    math500 = [(i, gold("math500", i, str(2 * i + 1))) for i in range(500)]
    minerva = [(i, gold("minerva_math", i, str(2 * i + 1))) for i in range(272)]
    return {
        "math500": [
            {"problem": asked(i, i + 1), "solution": boxed(g), "answer": g, "subject": "Algebra", "level": 1 + i % 5,
             "unique_id": f"test/algebra/{i}.json"} for i, g in math500
        ],
        "aime24": [
            {"id": 60 + i, "problem": asked(i, 100), "solution": "Add.", "answer": gold("aime24", i, f"{100 + i}"),
             "url": "", "question": asked(i, 100)} for i in range(30)
        ],
        "aime25": [{"problem": asked(i, 200), "answer": gold("aime25", i, str(200 + i))} for i in range(30)],
        "amc23": [
            {"id": i, "problem": asked(i, 3), "answer": gold("amc23", i, i + 3.0), "url": "", "question": asked(i, 3)}
            for i in range(40)
        ],
        "minerva_math": [
            {"problem": asked(i, i + 1), "solution": boxed(g), "type": "Ordinary Differential Equations", "idx": i}
            for i, g in minerva
        ],
        "olympiadbench": [
            {"id": 1600 + i, "subfield": "Algebra", "context": None, "question": asked(i, 5), "solution": ["Add."],
             "final_answer": [gold("olympiadbench", i, str(i + 5))], "is_multiple_answer": False, "unit": None,
             "answer_type": "Numerical", "error": None} for i in range(675)
        ],
        "ARC-Easy-Test": [arc(i) for i in range(2376)],
        "ARC-Challenge-Test": [arc(i) for i in range(1172)],
    }  # fmt: skip


def arc(i: int) -> dict:
    """Three to five choices; the keys of every 25th question are digits."""
    count = {0: 3, 1: 5}.get(i % 100, 4)
    labels = "12345" if i % 25 == 0 else "ABCDE"
    return {
        "id": f"Own_{i}",
        "question": f"Which of these numbers is {i % count} more than {i}?",
        "choices": {"text": [str(i + more) for more in range(count)], "label": list(labels[:count])},
        "answerKey": labels[i % count],
    }
