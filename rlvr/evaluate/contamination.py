"""Does a model know the questions of a benchmark? It sees the first 60 % of each and continues greedily.

    python -m rlvr.evaluate run=<folder> contamination=true [benchmarks=math500]

A question counts as known if the model writes the rest word for word. The beginning is given without a template. For each
question <run>/contamination/<benchmark>.json says whether it is known, and how many words of the rest were right before the
first wrong one. Source of the probe: arXiv 2509.21882 and the contamination checks that it cites.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from rlvr.evaluate.answer_store import evaluation_lock
from rlvr.evaluate.answering import BenchmarkTask, LazyEngine
from rlvr.evaluate.evaluated_models import EvaluatedModels
from rlvr.runs.plain_files import read_json, write_json

SHOWN = 0.6  # share of a question's words
FEWEST_WORDS = 4  # of the rest: fewer are guessed
SPARE_TOKENS = 8  # the rest may be spelt with other tokens than ours


def evaluate(engine: LazyEngine, models: EvaluatedModels, tasks: Sequence[BenchmarkTask], screen: Console) -> None:
    """Probe the untrained model on every benchmark that is not probed yet, and print the share of known questions."""
    for one in tasks:
        path = models.folder.path / "contamination" / f"{one.protocol.name}.json"
        if not path.exists():
            with evaluation_lock(models.folder):
                found = _probe(engine, models.models[0], one)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_json(path, {"shown": SHOWN, "model": models.models[0], "questions": found})
        questions = read_json(path)["questions"]
        known = sum(row["exact"] for row in questions.values())
        screen.print(
            f"{one.protocol.name}: {known} of {len(questions)} questions continued word for word", highlight=False
        )


def halves(question: str) -> tuple[str, str] | None:
    """The beginning that a model sees and the rest; None for a question whose rest has fewer words than FEWEST_WORDS."""
    words = question.split()
    shown = round(SHOWN * len(words))
    if len(words) - shown < FEWEST_WORDS:
        return None
    rest = words[shown:]
    # Cut the text itself, so that its own spacing stays.
    cut = len(question.rstrip())
    for word in reversed(rest):
        cut = question.rindex(word, 0, cut)
    return question[:cut].rstrip(), question[cut:]


def _probe(lazy: LazyEngine, model: str, one: BenchmarkTask) -> dict[str, dict]:
    """Id of the question -> exact: whether all words of the rest came, words: how many came first, of: how many there are."""
    from rlvr.verl_torch.generation import Sampling

    engine = lazy.at(model)
    parts = {example["id"]: cut for example in one.examples if (cut := halves(example["question"]))}
    prompts = [engine.tokenizer(begin)["input_ids"] for begin, _ in parts.values()]
    rests = [engine.tokenizer(rest, add_special_tokens=False)["input_ids"] for _, rest in parts.values()]
    draws = [Sampling(len(rest) + SPARE_TOKENS, 0.0) for rest in rests]
    answers = engine.generate(prompts, draws, lambda responses, tokens: None)
    texts = engine.tokenizer.batch_decode([answer.token_ids for answer in answers], skip_special_tokens=True)
    found = {}
    for (id, (_, rest)), text in zip(parts.items(), texts, strict=True):
        words, given = rest.split(), text.split()
        same = next((i for i, word in enumerate(words) if given[i : i + 1] != [word]), len(words))
        found[id] = {"exact": same == len(words), "words": same, "of": len(words)}
    return found
