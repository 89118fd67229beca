"""The accuracy of the untrained model under other prompts, and what training adds (paper C.2.3(c), Table 16).

    python -m rlvr.evaluate run=<folder> baselines=true [examples=qwen_official_4.jsonl]

    paper                  the run's own template: its evaluation at step 0
    none                   the question alone
    in_context_pi1         pi1 before the question, with a right answer that the model itself generated
    in_context_<file>      the worked examples of a file (the paper's are Qwen's four for MATH, which are not shipped)

Demonstrations come before the question in the same user turn. Answers: <run>/baselines/<name>/eval/. The best baseline is
chosen on `validation` if that is evaluated, else on the test sets themselves, which makes its accuracy too high.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from rlvr.cli import ConfigError
from rlvr.data import pools, prompts
from rlvr.data.own_examples import checked, texts
from rlvr.data.row_files import read_rows
from rlvr.evaluate import metrics, summary
from rlvr.evaluate.answer_store import evaluation_lock
from rlvr.evaluate.answering import BenchmarkTask, LazyEngine, run_all
from rlvr.evaluate.checkpoints import selection
from rlvr.evaluate.evaluated_models import EvaluatedModels
from rlvr.evaluate.graded_rows import grade
from rlvr.runs.folder import RunFolder
from rlvr.runs.plain_files import read_json, write_json

TRIES = 64  # sampled answers to pi1; the first right one is the demonstration
TRY_TEMPERATURE = 0.6


def evaluate(
    engine: LazyEngine,
    models: EvaluatedModels,
    tasks_of: Callable[[EvaluatedModels], tuple[list[BenchmarkTask], list[str]]],
    examples: Path | None,
    data_root: str | None,
    screen: Console,
) -> None:
    """Evaluate every baseline; print their table and the parts of the trained model's gain.

    `tasks_of(models)` returns benchmarks and notes (rlvr.evaluate.evaluated_models).
    """
    if not models.config:
        raise ConfigError("baselines=true: needs run=<run folder>: pi1 is the first example of a run's pool")
    shots = {"paper": "", "none": ""}
    if demonstration := _pi1(engine, models, data_root, screen):
        shots["in_context_pi1"] = demonstration
    if examples:
        shots[f"in_context_{examples.stem}"] = _of_file(examples)
    accuracies: dict[str, dict[str, dict]] = {}
    before: dict[str, dict[str, Any]] = {}  # the columns of the paper's prompt, which is the first
    for name, demonstrations in shots.items():
        folder = models.folder if name == "paper" else RunFolder(models.folder.baseline_path(name))
        template = "none" if name == "none" else models.template
        base = replace(models, folder=folder, models={0: models.models[0]}, template=template, shots=demonstrations)
        tasks, _ = tasks_of(base)
        screen.print(f"baseline {name}")
        with evaluation_lock(folder):
            run_all(engine, base.models, tasks, screen)
        columns = {task.protocol.name: metrics.read_columns(task.store.path(0)) for task in tasks}
        accuracies[name] = {benchmark: metrics.summarise(samples)[0] for benchmark, samples in columns.items()}
        before = before or columns
    rows = [[name, *map(metrics.percent, of_benchmark.values())] for name, of_benchmark in accuracies.items()]
    screen.print(summary.grid(["base model", *before], rows))
    best = max(accuracies, key=lambda name: selection({k: row["value"] for k, row in accuracies[name].items()}))
    warning = "" if "validation" in before else " (chosen on the test sets: its accuracy is too high)"
    screen.print(f"best baseline: {best}{warning}")
    last = max(models.models)
    for name, columns in before.items() if last else ():
        path = models.folder.eval_path(name, last)
        if not path.exists():
            screen.print(f"{name}: step {last} is not evaluated yet; without baselines=true this command does that")
            continue
        parts = metrics.split_gain(columns, metrics.read_columns(path))
        text = ", ".join(f"{part} {change * 100:+.1f}" for part, change in parts.items())
        screen.print(f"{name}, step 0 to {last}: {text}", soft_wrap=True, highlight=False)


def _demonstration(question: str, answer: str) -> str:
    return f"{question}\n{answer}\n\n"


def _of_file(path: Path) -> str:
    """The worked examples of a file. ConfigError for an example without a question or an answer."""
    where = f"examples={path}"
    demonstrations = []
    for i, row in enumerate(read_rows(path, where), start=1):
        checked(row, f"{where}, example {i}")
        demonstrations.append(_demonstration(*texts(row, f"{where}, example {i}")))
    return "".join(demonstrations)


def _pi1(lazy: LazyEngine, models: EvaluatedModels, data_root: str | None, screen: Console) -> str | None:
    """pi1 with the base model's first right answer to it; None if it has none. Stored, so that it is sampled only once."""
    path = models.folder.baseline_path("pi1.json")
    if path.exists():
        return str(read_json(path)["shot"])
    from rlvr.verl_torch.generation import Sampling

    config = models.config
    pi1 = pools.ranked_rows(config["pool"], data_root or config.get("data_root"), [1])[0]
    engine = lazy.at(models.models[0])
    text = prompts.render(models.template, pi1["prompt"], engine.tokenizer)
    prompt = engine.tokenizer(text, add_special_tokens=False)["input_ids"]
    limit = config["scale"]["max_response_tokens"]
    draws = [Sampling(limit, TRY_TEMPERATURE, seed=lazy.seed + i) for i in range(TRIES)]
    answers = engine.generate([prompt] * TRIES, draws, lambda responses, tokens: None)
    texts = engine.tokenizer.batch_decode([a.token_ids for a in answers], skip_special_tokens=True)
    graded = grade("math_verify", texts, [pi1["answer"]] * TRIES)
    right = [text for text, row in zip(texts, graded, strict=True) if row["score"] == 1]
    if not right:
        screen.print(f"in_context_pi1 is left out: none of {TRIES} answers of the base model to pi1 is right")
        return None
    demonstration = _demonstration(pi1["prompt"], right[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"shot": demonstration, "right": len(right), "of": TRIES, "temperature": TRY_TEMPERATURE})
    return demonstration
