"""Does a model know the questions of a benchmark? It sees the first 60 % of each and continues greedily.

    python -m rlvr.evaluate run=<folder> contamination=true [benchmarks=math500]

A question is known if the model writes the rest word for word. The prompt is the beginning without a template. For each
question <run>/contamination/<benchmark>.json says whether it is known, and how many words of the rest were right before the
first wrong one. Source: arXiv 2509.21882 and the contamination checks that it cites.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.console import Console

from rlvr.evaluate.answer_store import evaluation_lock
from rlvr.evaluate.answering import BenchmarkTask, LazyEngine
from rlvr.evaluate.evaluated_models import EvaluatedModels
from rlvr.runs.plain_files import read_json, write_json

SHOWN = 0.6  # share of a question's words
FEWEST_WORDS = 4  # of the rest; a model can guess fewer words
SPARE_TOKENS = 8  # the model may need more tokens for the rest than our tokenization has


def evaluate(engine: LazyEngine, models: EvaluatedModels, tasks: Sequence[BenchmarkTask], screen: Console) -> None:
    """Probe the untrained model on every benchmark that is not yet probed, and print the number of known questions."""
    for task in tasks:
        path = models.folder.path / "contamination" / f"{task.protocol.name}.json"
        if not path.exists():
            with evaluation_lock(models.folder):
                found = _probe(engine, models.models[0], task)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_json(path, {"shown": SHOWN, "model": models.models[0], "questions": found})
        questions = read_json(path)["questions"]
        known = sum(row["exact"] for row in questions.values())
        text = f"{task.protocol.name}: {known} of {len(questions)} questions continued word for word"
        screen.print(text, highlight=False)


def halves(question: str) -> tuple[str, str] | None:
    """The beginning that a model sees, and the rest; None if the rest has fewer words than FEWEST_WORDS."""
    words = list(re.finditer(r"\S+", question))
    shown = round(SHOWN * len(words))
    if len(words) - shown < FEWEST_WORDS:
        return None
    cut = words[shown].start()
    return question[:cut].rstrip(), question[cut:]


def _probe(lazy: LazyEngine, model: str, task: BenchmarkTask) -> dict[str, dict]:
    """By question id: exact (all words of the rest are right), words (right before the first wrong one), of (all words)."""
    from rlvr.verl_torch.generation import Sampling

    engine = lazy.at(model)
    parts = {example["id"]: cut for example in task.examples if (cut := halves(example["question"]))}
    prompts = [engine.tokenizer(begin)["input_ids"] for begin, _ in parts.values()]
    rests = [engine.tokenizer(rest, add_special_tokens=False)["input_ids"] for _, rest in parts.values()]
    draws = [Sampling(len(rest) + SPARE_TOKENS, 0.0) for rest in rests]
    answers = engine.generate(prompts, draws, lambda responses, tokens: None)
    texts = engine.tokenizer.batch_decode([answer.token_ids for answer in answers], skip_special_tokens=True)
    found = {}
    for (id, (_, rest)), text in zip(parts.items(), texts, strict=True):
        words, written = rest.split(), text.split()
        same = next((i for i, word in enumerate(words) if written[i : i + 1] != [word]), len(words))
        found[id] = {"exact": same == len(words), "words": same, "of": len(words)}
    return found
