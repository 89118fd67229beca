"""What prompting alone gives the untrained model, and what is left for training (paper C.2.3(c), Table 16).

    python -m rlvr.evaluate run=<folder> ladder=true [examples=four_math.jsonl]

Rungs: `paper` (the run's template), `none` (the question alone), `in_context_pi1` (pi1 with an answer that the model gave
itself), `in_context_given` (the worked examples of a file: the paper's are Qwen's four MATH examples, which are not shipped).
Demonstrations stand before the question in the same user turn. Samples are kept under <run>/ladder/<rung>/eval/.
The best rung is chosen on `validation` where that is evaluated; else on the test sets themselves, which flatters it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from rlvr import pools, prompts
from rlvr.config import ConfigError
from rlvr.evaluation import metrics
from rlvr.evaluation.ask import Asked
from rlvr.evaluation.samples import Lock, Store, grade_all
from rlvr.run_folder import RunFolder

if TYPE_CHECKING:
    from rlvr.evaluate import LazyEngine, Options, Subject

TRIES = 64  # samples of pi1 among which the demonstration is looked for
TRY_TEMPERATURE = 0.6


def climb(options: Options, subject: Subject, screen: Console) -> int:
    """Evaluate every rung, then print the ladder and the split of the trained model's gain; returns the exit code."""
    from rlvr import evaluate

    if not subject.config:
        raise ConfigError("ladder=true: needs run=<run folder>: pi1 is the first example of a run's pool")
    rungs = {"paper": "", "none": ""}
    engine = evaluate.LazyEngine(options)
    if demonstration := _pi1(engine, subject, screen):
        rungs["in_context_pi1"] = demonstration
    if options.examples:
        rungs["in_context_given"] = _given(options.examples)
    else:
        screen.print(
            "in_context_given is left out: give examples=<JSONL with question and answer> (Qwen's four MATH examples in the paper)"
        )
    accuracies: dict[str, dict[str, dict]] = {}
    before: dict[str, Any] = {}
    for rung, shots in rungs.items():
        # The rung "paper" is the run's own evaluation of its base model: nothing is asked twice.
        folder = subject.folder if rung == "paper" else RunFolder(subject.folder.path / "ladder" / rung)
        base = evaluate.Subject(
            folder, {0: subject.models[0]}, subject.config, "none" if rung == "none" else subject.template, {}
        )
        asked, _ = evaluate.ask(options, base)
        if shots:
            asked = [_with_shots(one, shots, folder) for one in asked]
        screen.print(f"rung {rung}")
        with Lock(folder):
            evaluate.run_all(engine, base, asked, screen)
        for one in asked:
            columns = metrics.read_columns(one.store.path(0))
            accuracies.setdefault(rung, {})[one.benchmark.name] = metrics.summarise(columns)[0]
            if rung == "paper":
                before[one.benchmark.name] = columns
    screen.print(ladder_table(accuracies))
    best = best_rung(accuracies)
    screen.print(
        f"best rung: {best}"
        + ("" if "validation" in before else " (chosen on the test sets: it flatters the baseline)")
    )
    _print_split(subject, before, screen)
    return 0


def best_rung(accuracies: dict[str, dict[str, dict]]) -> str:
    """The rung with the best accuracy on validation, else on the average of all benchmarks; the earlier one at a tie."""

    def accuracy(rung: str) -> float:
        of_benchmark = accuracies[rung]
        chosen = [of_benchmark["validation"]] if "validation" in of_benchmark else list(of_benchmark.values())
        return sum(row["value"] for row in chosen) / len(chosen)

    return max(accuracies, key=accuracy)


def ladder_table(accuracies: dict[str, dict[str, dict]]) -> Table:
    """Rungs by benchmarks, accuracies in percent with their 95 % intervals."""
    names = list(next(iter(accuracies.values())))
    table = Table(box=None, pad_edge=False)
    for column in ("base model", *names):
        table.add_column(column, no_wrap=True)
    for rung, rows in accuracies.items():
        table.add_row(rung, *map(metrics.percent, rows.values()))
    return table


def _print_split(subject: Subject, before: dict[str, Any], screen: Console) -> None:
    last = max(subject.models)
    for name, columns in before.items() if last else ():
        path = subject.folder.eval_path(name, last)
        if not path.exists():
            screen.print(f"{name}: step {last} is not evaluated yet; without ladder=true this command does that")
            continue
        parts = metrics.split_gain(columns, metrics.read_columns(path))
        text = ", ".join(f"{part} {change * 100:+.1f}" for part, change in parts.items())
        screen.print(f"{name}, step 0 to {last}: {text}", soft_wrap=True, highlight=False)


def _with_shots(one: Asked, shots: str, folder: RunFolder) -> Asked:
    store = Store(folder, one.benchmark, one.store.protocol | {"shots": shots})
    return Asked(one.benchmark, store, one.examples, partial(_after, one.render, shots))


def _after(render: Callable[[str], str], shots: str, question: str) -> str:
    return render(shots + question)


def shot(question: str, answer: str) -> str:
    return f"{question}\n{answer}\n\n"


def _given(path: str) -> str:
    try:
        rows = [json.loads(line) for line in Path(path).read_text().splitlines() if line.strip()]
        return "".join(shot(row["question"], row["answer"]) for row in rows)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"examples={path}: expected JSON lines with question and answer ({error})") from None


def _pi1(lazy: LazyEngine, subject: Subject, screen: Console) -> str | None:
    """pi1 with the first of the base model's own responses that the grader takes for right; kept, so it is drawn once."""
    path = subject.folder.path / "ladder" / "pi1.json"
    if path.exists():
        return str(json.loads(path.read_text())["shot"])
    from rlvr.verl_cpu.generation import Sampling

    config, data_root = subject.config, lazy.options.data_root or subject.config.get("data_root")
    pool = pools.load_pool(config["pool"]["source"], data_root)
    ranked = pools.ranking(config["pool"]["source"], config["pool"]["ranking"], data_root)
    pi1 = pools.chosen_rows(pool, ranked, [1])[0]
    engine = lazy.at(subject.models[0])
    prompt = engine.tokenizer(
        prompts.render(subject.template, pi1["prompt"], engine.tokenizer), add_special_tokens=False
    )["input_ids"]
    limit = config["scale"]["max_response_tokens"]
    draws = [Sampling(limit, TRY_TEMPERATURE, seed=lazy.options.seed + i) for i in range(TRIES)]
    answers = engine.generate([prompt] * TRIES, draws, lambda responses, tokens: None)
    texts = engine.tokenizer.batch_decode([a.token_ids for a in answers], skip_special_tokens=True)
    verdicts = grade_all("math_verify", texts, [pi1["answer"]] * TRIES)
    right = [text for text, (score, _) in zip(texts, verdicts, strict=True) if score == 1]
    if not right:
        screen.print(f"in_context_pi1 is left out: none of {TRIES} answers of the base model to pi1 is right")
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {"shot": shot(pi1["prompt"], right[0]), "right": len(right), "of": TRIES, "temperature": TRY_TEMPERATURE}
    path.write_text(json.dumps(kept, indent=2) + "\n")
    return str(kept["shot"])
