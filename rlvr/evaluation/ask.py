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
from rlvr.data.protocols import Protocol
from rlvr.evaluation.judging import choice_row, judge
from rlvr.evaluation.store import Store

if TYPE_CHECKING:
    from rlvr.evaluation.engines import Engine

CHUNK = 4096  # requests that are generated, judged and written together: what an interruption can cost


@dataclass
class Asked:
    """One benchmark as it is put to a model. `render(question)` is the whole prompt, `examples` its problems."""

    protocol: Protocol
    store: Store
    examples: list[dict]
    render: Callable[[str], str]
    tokens: dict[str, list[int]] = field(default_factory=dict)  # id -> prompt, once the tokenizer is known
    context: int = 0  # of the model: no answer goes beyond it

    def tokenize(self, engine: Engine) -> None:
        """Prompts as token ids; DataError when one leaves no room for an answer in the model's context."""
        self.context = engine.context
        for example in self.examples:
            self.tokens[example["id"]] = _ids(engine, self.prompt(example))
        if self.protocol.scoring == "generate" and (full := [id for id in self.tokens if self.room(id) < 1]):
            raise DataError(
                f"{self.protocol.name}: the prompt of {full[0]} has {len(self.tokens[full[0]])} tokens, the model's context "
                f"{engine.context}: no room for an answer; choose another model or leave the problem out"
            )

    def room(self, id: str) -> int:
        """Tokens an answer may have: the protocol's, or what the prompt leaves of the model's context."""
        return min(int(self.protocol.max_tokens or 0), self.context - len(self.tokens[id]))

    def capped(self) -> int:
        """How many problems leave less room than the protocol gives."""
        return sum(self.room(id) < int(self.protocol.max_tokens or 0) for id in self.tokens)

    def prompt(self, example: dict) -> str:
        if self.protocol.scoring != "generate":
            return f"Question: {example['stem']}\nAnswer:"
        return self.render(example["question"])

    @property
    def requests(self) -> int:
        return len(self.examples) * self.protocol.k


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
        rows = [(one, e, i) for e in one.examples for i in range(one.protocol.k) if (e["id"], i) not in have]
        done(one.requests - len(rows), 0)
        missing += rows
    generated = [row for row in missing if row[0].protocol.scoring == "generate"]
    scored = [row for row in missing if row[0].protocol.scoring != "generate"]
    for start in range(0, len(generated), CHUNK):
        _generate(engine, step, generated[start : start + CHUNK], done, tokens, judging)
    for start in range(0, len(scored), CHUNK // 4):
        _score(engine, step, scored[start : start + CHUNK // 4], judging)
        done(len(scored[start : start + CHUNK // 4]), 0)
    seconds = time.perf_counter() - started
    how = {"engine": engine.name, "dtype": engine.dtype, "versions": engine.versions}
    for one in asked:
        order = {example["id"]: i for i, example in enumerate(one.examples)}
        whole = {"tokens": tokens[one.protocol.name], "seconds_of_step": round(seconds, 3),
                 "tokens_per_s": round(sum(tokens.values()) / seconds, 1), "capped_by_context": one.capped()}  # fmt: skip
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
        b = one.protocol
        own = row_seed(one.store.asked["seed"], b.name, example["id"], sample) if b.temperature else None
        sampling.append(Sampling(one.room(example["id"]), b.temperature, b.top_p, b.top_k, own))
    completions = engine.generate([one.tokens[example["id"]] for one, example, _ in rows], sampling, done)
    texts = engine.tokenizer.batch_decode([c.token_ids for c in completions], skip_special_tokens=True)
    answered: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for (one, example, sample), answer, text in zip(rows, completions, texts, strict=True):
        tokens[one.protocol.name] += len(answer.token_ids)
        about = {
            "response": text,
            "truncated": answer.stop_reason != "completed",
            "response_tokens": len(answer.token_ids),
        }
        answered[one.protocol.name].append(_question_columns(one, step, example, sample) | about)
    for one in {id(one): one for one, _, _ in rows}.values():
        judging.later(_judge, one, step, answered[one.protocol.name])


def _judge(one: Asked, step: int, rows: list[dict[str, Any]]) -> None:
    columns = judge(one.protocol.grader, [row["response"] for row in rows], [row["gold"] for row in rows])
    judged = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
    one.store.add(step, [row | more for row, more in zip(rows, judged, strict=True)])


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
            [next(sums) for _ in example["choices"]],
            example["choices"],
            example["answer"],
            one.protocol.scoring == "loglikelihood_per_byte",
        )
        of_benchmark[one.protocol.name].append(_question_columns(one, step, example, sample) | verdict)
        stores[one.protocol.name] = one.store
    for name, stored in of_benchmark.items():
        judging.later(stores[name].add, step, stored)


def _question_columns(one: Asked, step: int, example: dict, sample: int) -> dict[str, Any]:
    return {
        "step": step, "benchmark": one.protocol.name, "id": example["id"], "subject": example["subject"],
        "uid": example["id"], "sample": sample, "rank": 0, "prompt": one.prompt(example), "gold": example["answer"],
    }  # fmt: skip
