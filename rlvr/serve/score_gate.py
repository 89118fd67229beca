"""The score gate: does the served model still solve the problems that it is reported to solve?

The first problems of a benchmark that was answered greedily are asked through the endpoint's own path (template, engine,
limits) and graded again. The gate is closed when more answers went from right to wrong than the reverse and an exact test
(McNemar's, one-sided) puts that below 1 %. Equal weights on an equal engine give equal answers.
"""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import dataclass
from typing import Any

from rlvr.cli import ConfigError
from rlvr.data.protocols import Protocol
from rlvr.runs import samples
from rlvr.runs.folder import RunFolder

CLOSED_BELOW = 0.01


@dataclass
class Verdict:
    """Right answers of `problems`, as reported and as served; `lost` went wrong, `gained` became right."""

    benchmark: str
    problems: int
    reported: int
    served: int
    lost: int
    gained: int

    @property
    def open(self) -> bool:
        changed = self.lost + self.gained
        chance = sum(math.comb(changed, k) for k in range(self.lost, changed + 1)) / 2**changed
        return self.lost <= self.gained or chance >= CLOSED_BELOW

    def __str__(self) -> str:
        share = [f"{100 * right / self.problems:.1f}" for right in (self.reported, self.served)]
        return (
            f"{self.benchmark}, {self.problems} problems: reported {share[0]} %, served {share[1]} % "
            f"({self.lost} lost, {self.gained} gained)"
        )


def reported(folder: RunFolder, step: int, protocols: list[Protocol], limit: int) -> tuple[Protocol, list[dict]]:
    """A benchmark of the step that was answered greedily, with its first rows {id, gold, score}.

    ConfigError when the step has none: it has no score to be held to.
    """
    for protocol in sorted(protocols, key=lambda protocol: protocol.name != "validation"):
        path = folder.eval_path(protocol.name, step)
        if protocol.scoring == "generate" and not protocol.temperature and path.exists():
            columns = samples.read(path, ["id", "gold", "score"])
            rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
            return protocol, rows[:limit]
    raise ConfigError(
        f"gate: step {step} of {folder.path} has no greedy evaluation, so no score to be held to: "
        f"`python -m rlvr.evaluate run={folder.path} steps={step}` gives it one, gate=off serves without"
    )


async def check(
    backend: Any, model: str, protocol: Protocol, rows: list[dict], questions: dict[str, str], at_once: int = 64
) -> Verdict:
    """Ask, so many at once, and grade. `questions`: id -> the user's message. ConfigError for one that is not answered."""
    from rlvr.evaluate.graded_rows import grade
    from rlvr.serve.api_requests import Problem, read

    places = asyncio.Semaphore(at_once)

    async def one(row: dict) -> str:
        body = {"model": model, "messages": [{"role": "user", "content": questions[row["id"]]}], "temperature": 0.0}
        asked = read("chat", json.dumps(body | {"max_tokens": protocol.max_tokens}).encode())
        async with places:
            try:
                (whole,) = [chunk async for chunk in backend.answer(asked)]
            except Problem as problem:
                raise ConfigError(f"gate: problem {row['id']} of {protocol.name} is not answered: {problem}") from None
        return whole["choices"][0]["message"]["content"]

    answers = await asyncio.gather(*map(one, rows))
    graded = await asyncio.to_thread(grade, protocol.grader, answers, [row["gold"] for row in rows])
    before, now = [row["score"] == 1 for row in rows], [row["score"] == 1 for row in graded]
    pairs = list(zip(before, now, strict=True))
    return Verdict(
        protocol.name, len(rows), sum(before), sum(now), pairs.count((True, False)), pairs.count((False, True))
    )
