"""Generates, grades and stores the missing answers of all models and benchmarks, with one engine start."""

from __future__ import annotations

import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rlvr.cli import DataError
from rlvr.data.protocols import Protocol
from rlvr.evaluate.answer_store import Store
from rlvr.evaluate.graded_rows import choice_row, grade
from rlvr.runs import samples

if TYPE_CHECKING:
    from rlvr.evaluate.inference_engines import Engine, OnProgress

# Answers that are generated and stored together: an interruption loses at most so many. A large model stores after each
# batch instead, because a batch can take half an hour on a CPU.
CHUNK = 4096


@dataclass(eq=False)
class BenchmarkTask:
    """A benchmark to evaluate: protocol, store of its answers, problems; `render` makes a prompt of a question."""

    protocol: Protocol
    store: Store
    examples: list[dict]
    render: Callable[[str], str]
    # Set by `tokenize`, by the id of an example: the tokens of its prompt, and the most tokens of an answer.
    tokens: dict[str, list[int]] = field(default_factory=dict)
    room: dict[str, int] = field(default_factory=dict)

    @property
    def generates(self) -> bool:
        return self.protocol.scoring == "generate"

    @property
    def requests(self) -> int:
        return len(self.examples) * self.protocol.k

    def prompt(self, example: dict) -> str:
        return self.render(example["question"]) if self.generates else f"Question: {example['stem']}\nAnswer:"

    def tokenize(self, engine: Engine) -> None:
        """Set `tokens` and `room`. DataError if a prompt leaves no room for an answer in the model's context."""
        for example in self.examples:
            id = example["id"]
            ids = self.tokens[id] = _ids(engine, self.prompt(example))
            self.room[id] = min(self.protocol.max_tokens or 0, engine.context - len(ids))
            if self.generates and self.room[id] < 1:
                raise DataError(
                    f"{self.protocol.name}: the prompt of {id} has {len(ids)} tokens, the model's context "
                    f"{engine.context}: no room for an answer; choose another model or leave the problem out"
                )


Request = tuple[BenchmarkTask, dict, int]  # task, example, and number of the answer among the k answers to the example


def _ids(engine: Engine, text: str) -> list[int]:
    """Token ids without special tokens: a template that begins with one contains it as text."""
    return engine.tokenizer(text, add_special_tokens=False)["input_ids"]


class LazyEngine:
    """One engine, started when it is first needed. It loads further models without a new start."""

    def __init__(self, name: str, device: str | None, dtype: str | None, rows: int | None, seed: int):
        self.name, self.settings, self.seed = name, (device, dtype, rows, seed), seed
        self.engine: Engine | None = None
        self.path = ""

    def at(self, path: str) -> Engine:
        """The engine with the weights of the model at `path`."""
        if self.engine is None:
            from rlvr.evaluate.inference_engines import start

            self.engine = start(self.name, path, *self.settings)
        elif self.path != path:
            self.engine.load(path)
        self.path = path
        return self.engine


def run_all(engine: LazyEngine, models: dict[int, str], tasks: list[BenchmarkTask], screen: Console) -> None:
    """Evaluate what is missing at each step of `models`. The engine starts only if something is missing."""
    missing: dict[int, list[BenchmarkTask]] = defaultdict(list)
    for task in tasks:
        task.store.note()
        for step in models:
            _grade_stored(task, step, screen)
            if not task.store.complete(step):
                missing[step].append(task)
    if not missing:
        screen.print("all answers are stored already")
        return
    running = engine.at(models[min(missing)])
    for task in {task: None for lacking in missing.values() for task in lacking}:
        task.tokenize(running)
    requests = {step: sum(task.requests for task in lacking) for step, lacking in missing.items()}
    label = TextColumn("{task.description} {task.fields[rate]}")
    columns = (label, BarColumn(bar_width=20), MofNCompleteColumn(), TimeRemainingColumn())
    with _background() as in_background, Progress(*columns, console=screen, disable=not screen.is_terminal) as progress:
        bar = progress.add_task("", total=sum(requests.values()), rate="")
        generated = 0

        def on_progress(responses: int, tokens: int) -> None:
            nonlocal generated
            generated += tokens
            elapsed = progress.tasks[bar].elapsed or 0
            progress.update(bar, advance=responses, rate=f"{generated / elapsed:,.0f} tokens/s" if elapsed else "")

        for step in sorted(missing, key=list(models).index):
            progress.update(bar, description=f"step {step}")
            tokens, seconds = _evaluate(engine.at(models[step]), step, missing[step], on_progress, in_background)
            if not screen.is_terminal:
                text = f"step {step}: {requests[step]} responses, {tokens} tokens in {seconds:.1f} s "
                screen.print(f"{text}({tokens / seconds:,.0f} tokens/s)", soft_wrap=True, highlight=False)


@contextmanager
def _background() -> Iterator[Callable[..., None]]:
    """Yields a function that runs others in a second thread, in order, while the engine generates the next answers.

    After a failure it runs nothing more. The failure is raised by the next call, or at the end.
    """

    def after(previous: Future, work: Callable[..., None], arguments: tuple) -> None:
        previous.result()
        work(*arguments)

    with ThreadPoolExecutor(1) as thread:
        last = thread.submit(lambda: None)

        def in_background(work: Callable[..., None], *arguments: Any) -> None:
            nonlocal last
            if last.done():
                last.result()
            last = thread.submit(after, last, work, arguments)

        try:
            yield in_background
        except BaseException:
            thread.shutdown(cancel_futures=True)
            raise
        last.result()


def _evaluate(
    engine: Engine, step: int, tasks: list[BenchmarkTask], on_progress: OnProgress, in_background: Callable[..., None]
) -> tuple[int, float]:
    """Generate, grade and store the missing answers of one model; returns tokens and seconds. Benchmarks share batches."""
    started = time.perf_counter()
    tokens: Counter[BenchmarkTask] = Counter()
    missing: list[Request] = []
    for task in tasks:
        stored = task.store.answered(step)
        lacking = [(task, e, i) for e in task.examples for i in range(task.protocol.k) if (e["id"], i) not in stored]
        on_progress(task.requests - len(lacking), 0)
        missing += lacking
    for answer, size, generates in ((_generate, engine.batch or CHUNK, True), (_score_choices, CHUNK // 4, False)):
        requests = [request for request in missing if request[0].generates == generates]
        for start in range(0, len(requests), size):
            chunk = requests[start : start + size]
            rows: dict[BenchmarkTask, list[dict]] = defaultdict(list)
            for (task, example, sample), columns in zip(chunk, answer(engine, chunk, on_progress), strict=True):
                tokens[task] += columns["response_tokens"]
                rows[task].append({
                    "step": step, "benchmark": task.protocol.name, "id": example["id"], "subject": example["subject"],
                    "uid": example["id"], "sample": sample, "rank": 0, "prompt": task.prompt(example),
                    "gold": example["answer"], **columns,
                })  # fmt: skip
            for task, new in rows.items():
                in_background(_grade_and_store, task, new, task.store.keep(step, new))
    seconds = time.perf_counter() - started
    for task in tasks:
        capped = sum(room < (task.protocol.max_tokens or 0) for room in task.room.values())
        how = {"engine": engine.name, "dtype": engine.dtype, "versions": engine.versions, "tokens": tokens[task],
               "answers_of_step": len(missing), "seconds_of_step": round(seconds, 3),
               "tokens_per_s": round(tokens.total() / seconds, 1), "capped_by_context": capped}  # fmt: skip
        task.store.note(steps=task.store.record["steps"] | {str(step): how})
        in_background(task.store.finish, step, [example["id"] for example in task.examples])
    return tokens.total(), seconds


def _grade_stored(task: BenchmarkTask, step: int, screen: Console) -> None:
    """Grade the answers that an interrupted evaluation stored without a grade. Needs no engine."""
    for path in task.store.chunks(step, "ungraded"):
        rows = samples.rows(path)
        screen.print(f"{task.protocol.name}, step {step}: grading {len(rows)} stored answers", highlight=False)
        _grade_and_store(task, rows, path)
    if not task.store.complete(step) and len(task.store.answered(step)) == task.requests:
        task.store.finish(step, [example["id"] for example in task.examples])


def regrade(task: BenchmarkTask, screen: Console) -> None:
    """Grade the stored answers of every step again, so that all steps have the same grader and golds."""
    golds = {example["id"]: example["answer"] for example in task.examples}
    for step, path in task.store.complete_files().items():
        rows = [row | {"gold": golds.get(row["id"], row["gold"])} for row in samples.rows(path)]
        graded = _graded(task, rows)
        samples.write(path, {name: [row[name] for row in graded] for name in samples.SCHEMA})
        before, after = (sum(row["score"] for row in side) for side in (rows, graded))
        text = f"{task.protocol.name}, step {step}: {len(rows)} answers graded again, score {before:g} -> {after:g}"
        screen.print(text, highlight=False, soft_wrap=True)
    task.store.note(protocol=task.store.requested)


def _generate(engine: Engine, requests: list[Request], on_progress: OnProgress) -> list[dict[str, Any]]:
    """The columns of each request that do not need its grade."""
    from rlvr.verl_torch import stop_texts
    from rlvr.verl_torch.generation import Sampling

    texts_of = {task: task.protocol.stop or () for task, _, _ in requests}
    ids_of = {task: stop_texts.token_ids(engine.tokenizer, texts) for task, texts in texts_of.items()}
    sampling = []
    for task, example, sample in requests:
        p, id = task.protocol, example["id"]
        # The seed depends on the sample alone, so that a resumed evaluation draws the same answers.
        key = f"{task.store.requested['seed']}/{p.name}/{id}/{sample}".encode()
        seed = int.from_bytes(hashlib.blake2b(key, digest_size=6).digest(), "big") if p.temperature else None
        sampling.append(Sampling(task.room[id], p.temperature, p.top_p, p.top_k, seed, ids_of[task]))
    answers = engine.generate([task.tokens[example["id"]] for task, example, _ in requests], sampling, on_progress)
    texts = engine.tokenizer.batch_decode([answer.token_ids for answer in answers], skip_special_tokens=True)
    columns = []
    for (task, _, _), text, answer in zip(requests, texts, answers, strict=True):
        response, count = stop_texts.ended(engine.tokenizer, answer.token_ids, text, texts_of[task])
        truncated = answer.stop_reason != "completed" and response == text
        columns.append({"response": response, "truncated": truncated, "response_tokens": count})
    return columns


def _score_choices(engine: Engine, requests: list[Request], on_progress: OnProgress) -> list[dict[str, Any]]:
    """The columns of each request: its most likely choice, graded."""
    prompts, continuations = [], []
    for task, example, _ in requests:
        prompts += [task.tokens[example["id"]]] * len(example["choices"])
        continuations += [_ids(engine, f" {choice}") for choice in example["choices"]]
    sums = iter(engine.loglikelihood(prompts, continuations))
    rows = []
    for task, example, _ in requests:
        of_choices = [next(sums) for _ in example["choices"]]
        per_byte = task.protocol.scoring == "loglikelihood_per_byte"
        rows.append(choice_row(of_choices, example["choices"], example["answer"], per_byte))
    on_progress(len(requests), 0)
    return rows


def _grade_and_store(task: BenchmarkTask, rows: list[dict[str, Any]], kept: Path) -> None:
    """Grade the rows of the file `kept`, and replace the file by the graded rows."""
    task.store.add(_graded(task, rows), kept)


def _graded(task: BenchmarkTask, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with their grades; scored choices have theirs already."""
    if not task.generates:
        return rows
    graded = grade(task.protocol.grader, [row["response"] for row in rows], [row["gold"] for row in rows])
    return [row | columns | {"reward": columns["score"]} for row, columns in zip(rows, graded, strict=True)]
