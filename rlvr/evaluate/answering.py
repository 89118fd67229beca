"""The work of an evaluation: one engine start, every model of a subject, and of each benchmark the answers that are missing."""

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
    from rlvr.evaluate.inference_engines import Engine

CHUNK = 4096  # requests that are generated and written together: what an interruption can cost
Done = Callable[[int, int], None]  # told of (responses, tokens) as they come


@dataclass(eq=False)
class Asked:
    """One benchmark as it is put to a model. `render(question)` is the whole prompt, `examples` its problems."""

    protocol: Protocol
    store: Store
    examples: list[dict]
    render: Callable[[str], str]
    tokens: dict[str, list[int]] = field(default_factory=dict)  # id -> prompt, once the tokenizer is known
    room: dict[str, int] = field(default_factory=dict)  # id -> tokens of an answer: as asked, or as the context leaves

    @property
    def generates(self) -> bool:
        return self.protocol.scoring == "generate"

    @property
    def requests(self) -> int:
        return len(self.examples) * self.protocol.k

    def prompt(self, example: dict) -> str:
        return self.render(example["question"]) if self.generates else f"Question: {example['stem']}\nAnswer:"

    def tokenize(self, engine: Engine) -> None:
        """Prompts as token ids; DataError when one leaves no room for an answer in the model's context."""
        for example in self.examples:
            id, ids = example["id"], _ids(engine, self.prompt(example))
            self.tokens[id] = ids
            self.room[id] = min(self.protocol.max_tokens or 0, engine.context - len(ids))
            if self.generates and self.room[id] < 1:
                raise DataError(
                    f"{self.protocol.name}: the prompt of {id} has {len(ids)} tokens, the model's context "
                    f"{engine.context}: no room for an answer; choose another model or leave the problem out"
                )

    def capped(self) -> int:
        """How many problems leave less room than the protocol gives."""
        return sum(room < (self.protocol.max_tokens or 0) for room in self.room.values())


Request = tuple[Asked, dict, int]  # a benchmark, one of its examples, and which of its k samples


def _ids(engine: Engine, text: str) -> list[int]:
    """Without special tokens: a template that begins with one has written it out."""
    return engine.tokenizer(text, add_special_tokens=False)["input_ids"]


class LazyEngine:
    """One engine, started when first needed; further models are loaded into it."""

    def __init__(self, name: str, device: str | None, dtype: str | None, rows: int | None, seed: int):
        self.how = (device, dtype, rows, seed)
        self.name, self.seed = name, seed
        self.engine: Engine | None = None
        self.path = ""

    def at(self, path: str) -> Engine:
        """The engine with the weights of this model."""
        if self.engine is None:
            from rlvr.evaluate.inference_engines import start

            self.engine = start(self.name, path, *self.how)
        elif self.path != path:
            self.engine.load(path)
        self.path = path
        return self.engine


def run_all(engine: LazyEngine, models: dict[int, str], asked: list[Asked], screen: Console) -> None:
    """Evaluate what is missing at each step of `models`, one engine start for all; none when nothing is missing."""
    for one in asked:
        one.store.note()
        for step in models:
            _grade_what_is_left(one, step, screen)
    missing = {step: [one for one in asked if not one.store.complete(step)] for step in models}
    missing = {step: ones for step, ones in missing.items() if ones}
    if not missing:
        screen.print("all of it is there already")
        return
    running = engine.at(models[min(missing)])
    for one in dict.fromkeys(one for ones in missing.values() for one in ones):
        one.tokenize(running)
    total = sum(one.requests for ones in missing.values() for one in ones)
    text = TextColumn("{task.description} {task.fields[rate]}")
    columns = (text, BarColumn(bar_width=20), MofNCompleteColumn(), TimeRemainingColumn())
    with _judging() as later, Progress(*columns, console=screen, disable=not screen.is_terminal) as progress:
        task = progress.add_task("", total=total, rate="")
        counted = 0

        def done(responses: int, tokens: int) -> None:
            nonlocal counted
            counted += tokens
            elapsed = progress.tasks[task].elapsed or 0
            progress.update(task, advance=responses, rate=f"{counted / elapsed:,.0f} tokens/s" if elapsed else "")

        for step, ones in missing.items():
            progress.update(task, description=f"step {step}")
            tokens, seconds = _evaluate(engine.at(models[step]), step, ones, done, later)
            if not screen.is_terminal:
                what = f"step {step}: {sum(one.requests for one in ones)} responses, {tokens} tokens in {seconds:.1f} s"
                screen.print(f"{what} ({tokens / seconds:,.0f} tokens/s)", soft_wrap=True, highlight=False)


@contextmanager
def _judging() -> Iterator[Callable[..., None]]:
    """A function that has work done in a thread of its own, in order, while the engine goes on with the next answers.

    After the first failure nothing more is written; it is raised at the next call, or at the end.
    """

    def after(previous: Future, work: Callable[..., None], arguments: tuple) -> None:
        previous.result()
        work(*arguments)

    with ThreadPoolExecutor(1) as thread:
        last = thread.submit(lambda: None)

        def later(work: Callable[..., None], *arguments: Any) -> None:
            nonlocal last
            if last.done():
                last.result()
            last = thread.submit(after, last, work, arguments)

        try:
            yield later
        except BaseException:
            thread.shutdown(cancel_futures=True)
            raise
        last.result()


def _evaluate(
    engine: Engine, step: int, asked: list[Asked], done: Done, later: Callable[..., None]
) -> tuple[int, float]:
    """Answer what is missing of each benchmark at this step, and have it judged and stored; returns (tokens, seconds).

    All benchmarks share batches: what is sorted together is decoded together.
    """
    started = time.perf_counter()
    tokens: Counter[Asked] = Counter()
    missing: list[Request] = []
    for one in asked:
        have = one.store.answered(step)
        rows = [(one, e, i) for e in one.examples for i in range(one.protocol.k) if (e["id"], i) not in have]
        done(one.requests - len(rows), 0)
        missing += rows
    for answer, size, generates in ((_generate, CHUNK, True), (_score, CHUNK // 4, False)):
        requests = [request for request in missing if request[0].generates == generates]
        for start in range(0, len(requests), size):
            chunk = requests[start : start + size]
            answered: dict[Asked, list[dict]] = defaultdict(list)
            for (one, example, sample), columns in zip(chunk, answer(engine, chunk, done), strict=True):
                tokens[one] += columns["response_tokens"]
                answered[one].append(_question_columns(one, step, example, sample) | columns)
            for one, new in answered.items():
                later(_judge, one, step, new, one.store.keep(step, new))
    seconds = time.perf_counter() - started
    for one in asked:
        how = {"engine": engine.name, "dtype": engine.dtype, "versions": engine.versions, "tokens": tokens[one],
               "answers_of_step": len(missing), "seconds_of_step": round(seconds, 3),
               "tokens_per_s": round(tokens.total() / seconds, 1), "capped_by_context": one.capped()}  # fmt: skip
        one.store.note_step(step, how)
        later(one.store.finish, step, [example["id"] for example in one.examples])
    return tokens.total(), seconds


def _grade_what_is_left(one: Asked, step: int, screen: Console) -> None:
    """Judge answers that an earlier evaluation has left unjudged; no engine is needed."""
    for path in one.store.ungraded(step):
        rows = samples.rows(path)
        screen.print(f"{one.protocol.name}, step {step}: grading {len(rows)} stored answers", highlight=False)
        _judge(one, step, rows, path)
    if not one.store.complete(step) and len(one.store.answered(step)) == one.requests:
        one.store.finish(step, [example["id"] for example in one.examples])


def regrade(one: Asked, screen: Console) -> None:
    """Judge all that is stored again, every step, by the benchmark's present grader: one curve has one grader."""
    golds = {example["id"]: example["answer"] for example in one.examples}
    for step in one.store.steps():
        rows = [row | {"gold": golds.get(row["id"], row["gold"])} for row in samples.rows(one.store.path(step))]
        before = sum(row["score"] for row in rows)
        graded = _judged(one, rows)
        samples.write(one.store.path(step), {name: [row[name] for row in graded] for name in samples.SCHEMA})
        after = sum(row["score"] for row in graded)
        screen.print(f"{one.protocol.name}, step {step}: {len(rows)} answers graded again, "
                     f"score {before:g} -> {after:g}", highlight=False, soft_wrap=True)  # fmt: skip
    one.store.note(protocol=one.store.asked)


def row_seed(seed: int, benchmark: str, id: str, sample: int) -> int:
    """A seed of the sample alone, so that an interrupted evaluation goes on with the same draws."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{benchmark}/{id}/{sample}".encode(), digest_size=6).digest(), "big")


def _generate(engine: Engine, requests: list[Request], done: Done) -> list[dict[str, Any]]:
    """The columns of each request that are known before it is judged."""
    from rlvr.verl_torch import stop_texts
    from rlvr.verl_torch.generation import Sampling

    texts_of = {one: one.protocol.stop or () for one, _, _ in requests}
    ids_of = {one: stop_texts.token_ids(engine.tokenizer, texts) for one, texts in texts_of.items()}
    sampling = []
    for one, example, sample in requests:
        row = one.protocol
        seed = row_seed(one.store.asked["seed"], row.name, example["id"], sample) if row.temperature else None
        sampling.append(Sampling(one.room[example["id"]], row.temperature, row.top_p, row.top_k, seed, ids_of[one]))
    answers = engine.generate([one.tokens[example["id"]] for one, example, _ in requests], sampling, done)
    texts = engine.tokenizer.batch_decode([answer.token_ids for answer in answers], skip_special_tokens=True)
    columns = []
    for (one, _, _), text, answer in zip(requests, texts, answers, strict=True):
        response, count = stop_texts.ended(engine.tokenizer, answer.token_ids, text, texts_of[one])
        truncated = answer.stop_reason != "completed" and response == text
        columns.append({"response": response, "truncated": truncated, "response_tokens": count})
    return columns


def _score(engine: Engine, requests: list[Request], done: Done) -> list[dict[str, Any]]:
    """The columns of each request: its likeliest choice and the verdict on that."""
    prompts, continuations = [], []
    for one, example, _ in requests:
        prompts += [one.tokens[example["id"]]] * len(example["choices"])
        continuations += [_ids(engine, f" {choice}") for choice in example["choices"]]
    sums = iter(engine.loglikelihood(prompts, continuations))
    rows = []
    for one, example, _ in requests:
        of_choices = [next(sums) for _ in example["choices"]]
        per_byte = one.protocol.scoring == "loglikelihood_per_byte"
        rows.append(choice_row(of_choices, example["choices"], example["answer"], per_byte))
    done(len(requests), 0)
    return rows


def _question_columns(one: Asked, step: int, example: dict, sample: int) -> dict[str, Any]:
    return {
        "step": step, "benchmark": one.protocol.name, "id": example["id"], "subject": example["subject"],
        "uid": example["id"], "sample": sample, "rank": 0, "prompt": one.prompt(example), "gold": example["answer"],
    }  # fmt: skip


def _judge(one: Asked, step: int, rows: list[dict[str, Any]], kept: Path) -> None:
    """Judge answers that are on the disk already, in the file `kept`, and store them with their verdicts."""
    one.store.add(step, _judged(one, rows), kept)


def _judged(one: Asked, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with their verdicts; a choice has been judged when it was made."""
    if not one.generates:
        return rows
    graded = grade(one.protocol.grader, [row["response"] for row in rows], [row["gold"] for row in rows])
    return [row | columns | {"reward": columns["score"]} for row, columns in zip(rows, graded, strict=True)]
