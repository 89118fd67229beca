"""What is evaluated: the models of a run, or one model, and the benchmarks with their prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from rlvr.cli import ConfigError
from rlvr.data import gguf, prompts, protocols
from rlvr.evaluate import checkpoints
from rlvr.evaluate.answer_store import Store
from rlvr.evaluate.answering import BenchmarkTask
from rlvr.grading import grader_named
from rlvr.runs.folder import RunFolder


@dataclass
class EvaluatedModels:
    """Models to evaluate, by step (0: untrained), and the folder of the results. `config`: the run's, {} without a run."""

    folder: RunFolder
    models: dict[int, str]
    config: dict[str, Any]
    template: str
    left_out: dict[int, str] = field(default_factory=dict)  # damaged checkpoints, with the reason
    shots: str = ""  # worked examples before every question


def of_model(model: str, out: Path, template: str | None) -> EvaluatedModels:
    """One model: a folder, GGUF file or Hugging Face id. ConfigError for a folder that cannot be loaded."""
    model = gguf.local_folder(model)
    path = Path(model).expanduser()
    if path.is_dir() and (problem := checkpoints.fault(path)):
        raise ConfigError(f"model={model}: {problem}")
    return EvaluatedModels(RunFolder(out), {0: str(path) if path.is_dir() else model}, {}, template or "chat")


def of_run(run: Path, steps: str, base: str | None, template: str | None) -> EvaluatedModels:
    """The base model and the checkpoints of a run that `steps` names. Damaged ones are left out."""
    folder = RunFolder(run)
    if folder.state == "new":
        raise ConfigError(f"run={run}: no config.yaml there; give the folder of a run")
    config = folder.config()
    kept, left_out = checkpoints.choose(folder, steps)
    models = {0: checkpoints.base_path(folder, base)} | {step: str(folder.weights_path(step)) for step in kept}
    return EvaluatedModels(folder, models, config, template or config["base_model"]["template"], left_out)


def tasks_of(
    models: EvaluatedModels,
    benchmarks: Sequence[str],
    changes: Mapping[str, Mapping[str, Any]],
    data_root: str | None,
    seed: int | None,
    regrade: bool = False,
) -> tuple[list[BenchmarkTask], list[str]]:
    """The benchmarks to evaluate, and notes for the user about their data.

    Default: the benchmarks of the run's scale and those that stand for the paper's columns; without a run, the paper's six.
    """
    config = models.config
    chosen = [*benchmarks, *changes]
    if not chosen and config:
        chosen = protocols.reported_names(config)
    changes = {**(config.get("benchmarks") or {}), **changes}
    root = data_root or config.get("data_root")
    seed = int(config.get("seed", 0)) if seed is None else seed
    limit = config["scale"]["max_response_tokens"] if config else protocols.MAX_TOKENS
    tasks, notes = [], []
    for row in protocols.select(chosen or ["paper"], changes):
        row = protocols.complete(row, models.template, limit)
        grader_named(row.grader)
        examples, without_gold, more = protocols.load(row, root)
        notes += more
        record = row.record(seed, examples)
        if models.shots:
            record["shots"] = models.shots
        store = Store(models.folder, row, record, regrade)
        if without_gold:
            rows = without_gold + len(examples)
            notes.append(f"{row.name}: {without_gold} of {rows} rows have no gold and are left out")
            store.note(left_out_without_gold=without_gold)
        tasks.append(BenchmarkTask(row, store, examples, partial(_render, models, str(row.template))))
    return tasks, notes


def _render(models: EvaluatedModels, template: str, question: str) -> str:
    tokenizer = tokenizer_of(models.models[0]) if template == "chat" else None
    return prompts.render(template, models.shots + question, tokenizer)


@lru_cache
def tokenizer_of(path: str):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(path)
