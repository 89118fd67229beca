"""From benchmarks and a running engine to judged samples: which requests are missing, in what chunks, what a row holds."""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rlvr.cli import DataError
from rlvr.data.protocols import Benchmark
from rlvr.evaluation.samples import Store, choice_row, judge

if TYPE_CHECKING:
    from rlvr.evaluation.engines import Engine

CHUNK = 4096  # requests that are generated, judged and written together: what an interruption can cost


@dataclass
class Asked:
    """One benchmark as it is put to a model. `render(question)` is the whole prompt, `examples` its problems."""

    benchmark: Benchmark
    store: Store
    examples: list[dict]
    render: Callable[[str], str]
    tokens: dict[str, list[int]] = field(default_factory=dict)  # id -> prompt, once the tokenizer is known

    def tokenize(self, engine: Engine) -> None:
        """Prompts as token ids; DataError when one leaves less room than `max_tokens` in the model's context."""
        for example in self.examples:
            self.tokens[example["id"]] = _ids(engine, self.prompt(example))
        longest = max(self.tokens, key=lambda id: len(self.tokens[id]))
        if self.benchmark.scoring == "generate":
            room = engine.context - len(self.tokens[longest])
            if room < self.benchmark.max_tokens:
                raise DataError(
                    f"benchmarks.{self.benchmark.name}.max_tokens={self.benchmark.max_tokens}: the model's context of "
                    f"{engine.context} tokens leaves {room} after the longest prompt ({longest}); ask for at most that"
                )

    def prompt(self, example: dict) -> str:
        if self.benchmark.scoring == "loglikelihood":
            return f"Question: {example['stem']}\nAnswer:"
        return self.render(example["question"])

    @property
    def requests(self) -> int:
        return len(self.examples) * self.benchmark.k


def _ids(engine: Engine, text: str) -> list[int]:
    """Without special tokens: a template that begins with one has written it out."""
    return engine.tokenizer(text, add_special_tokens=False)["input_ids"]


class Judging:
    """Judges and writes in a thread of its own, in order, while the engine goes on with the next answers.

    After the first failure nothing more is written; it is raised by the next `later`, or at the end.
    """

    def __enter__(self) -> Judging:
        self.thread = ThreadPoolExecutor(1)
        self.failure: BaseException | None = None
        return self

    def later(self, work: Callable[..., None], *arguments: Any) -> None:
        if self.failure is not None:
            raise self.failure
        self.thread.submit(self._do, work, *arguments)

    def _do(self, work: Callable[..., None], *arguments: Any) -> None:
        if self.failure is None:
            try:
                work(*arguments)
            except BaseException as error:
                self.failure = error

    def __exit__(self, kind: object, *exc_info: object) -> None:
        self.thread.shutdown(cancel_futures=kind is not None)
        if kind is None and self.failure is not None:
            raise self.failure


def evaluate_step(
    engine: Engine, step: int, asked: Sequence[Asked], done: Callable[[int, int], None], judging: Judging
) -> dict:
    """Answer what is missing of each benchmark at this step, and have it judged and stored; returns {tokens, seconds}.

    All benchmarks share batches: what is sorted together is decoded together.
    """
    started = time.perf_counter()
    tokens: dict[str, int] = defaultdict(int)
    missing: list[tuple[Asked, dict, int]] = []
    for one in asked:
        have = one.store.answered(step)
        rows = [(one, e, i) for e in one.examples for i in range(one.benchmark.k) if (e["id"], i) not in have]
        done(one.requests - len(rows), 0)
        missing += rows
    generated = [row for row in missing if row[0].benchmark.scoring == "generate"]
    scored = [row for row in missing if row[0].benchmark.scoring == "loglikelihood"]
    for start in range(0, len(generated), CHUNK):
        _generate(engine, step, generated[start : start + CHUNK], done, tokens, judging)
    for start in range(0, len(scored), CHUNK // 4):
        _score(engine, step, scored[start : start + CHUNK // 4], judging)
        done(len(scored[start : start + CHUNK // 4]), 0)
    seconds = time.perf_counter() - started
    how = {"engine": engine.name, "dtype": engine.dtype, "versions": engine.versions}
    for one in asked:
        order = {example["id"]: i for i, example in enumerate(one.examples)}
        whole = {"tokens": tokens[one.benchmark.name], "seconds_of_step": round(seconds, 3),
                 "tokens_per_s": round(sum(tokens.values()) / seconds, 1)}  # fmt: skip
        judging.later(one.store.finish, step, order, how | whole)
    return {"tokens": sum(tokens.values()), "seconds": seconds}


def row_seed(seed: int, benchmark: str, id: str, sample: int) -> int:
    """A seed of the sample alone, so that an interrupted evaluation goes on with the same draws."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{benchmark}/{id}/{sample}".encode(), digest_size=6).digest(), "big")


def _generate(
    engine: Engine,
    step: int,
    rows: list[tuple[Asked, dict, int]],
    done: Callable[[int, int], None],
    tokens: dict[str, int],
    judging: Judging,
) -> None:
    from rlvr.verl_cpu.generation import Sampling

    sampling = []
    for one, example, sample in rows:
        b = one.benchmark
        own = row_seed(one.store.protocol["seed"], b.name, example["id"], sample) if b.temperature else None
        sampling.append(Sampling(b.max_tokens, b.temperature, b.top_p, b.top_k, own))
    completions = engine.generate([one.tokens[example["id"]] for one, example, _ in rows], sampling, done)
    texts = engine.tokenizer.batch_decode([c.token_ids for c in completions], skip_special_tokens=True)
    answered: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for (one, example, sample), answer, text in zip(rows, completions, texts, strict=True):
        tokens[one.benchmark.name] += len(answer.token_ids)
        about = {
            "response": text,
            "truncated": answer.stop_reason != "completed",
            "response_tokens": len(answer.token_ids),
        }
        answered[one.benchmark.name].append(_question_columns(one, example, sample) | about)
    for one in {id(one): one for one, _, _ in rows}.values():
        judging.later(_judge, one, step, answered[one.benchmark.name])


def _judge(one: Asked, step: int, rows: list[dict[str, Any]]) -> None:
    verdicts = judge(one.benchmark, [row["response"] for row in rows], [row["gold"] for row in rows], one.store.words)
    columns = zip(*verdicts.values(), strict=True)
    one.store.add(
        step, [row | dict(zip(verdicts, values, strict=True)) for row, values in zip(rows, columns, strict=True)]
    )


def _score(engine: Engine, step: int, rows: list[tuple[Asked, dict, int]], judging: Judging) -> None:
    prompts, continuations = [], []
    for one, example, _ in rows:
        for choice in example["choices"]:
            prompts.append(one.tokens[example["id"]])
            continuations.append(_ids(engine, f" {choice}"))
    sums = iter(engine.loglikelihood(prompts, continuations))
    of_benchmark: dict[str, list[dict]] = defaultdict(list)
    stores = {}
    for one, example, sample in rows:
        verdict = choice_row(
            [next(sums) for _ in example["choices"]], example["choices"], example["answer"], one.benchmark.metric
        )
        of_benchmark[one.benchmark.name].append(_question_columns(one, example, sample) | verdict)
        stores[one.benchmark.name] = one.store
    for name, stored in of_benchmark.items():
        judging.later(stores[name].add, step, stored)


def _question_columns(one: Asked, example: dict, sample: int) -> dict[str, Any]:
    return {
        "benchmark": one.benchmark.name,
        "id": example["id"],
        "subject": example["subject"],
        "sample": sample,
        "prompt": one.prompt(example),
        "gold": example["answer"],
    }
