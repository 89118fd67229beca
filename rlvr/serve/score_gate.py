"""The score gate: does the served model still solve the problems that it is reported to solve?

The first problems of a benchmark that was answered greedily are asked through the endpoint's own path (template, stop texts,
engine, limits) and graded again. The gate is closed when more answers went from right to wrong than the reverse and an exact
test (McNemar's, one-sided) puts that below 1 %. Equal weights on an equal engine give equal answers.
"""

import asyncio
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlvr.cli import ConfigError
from rlvr.data import protocols
from rlvr.data.prompts import STOPS
from rlvr.data.protocols import Protocol
from rlvr.evaluate.evaluated_models import EvaluatedModels
from rlvr.runs import samples
from rlvr.serve.api_requests import ApiError, parse_request

CLOSED_BELOW = 0.01


@dataclass
class GateOutcome:
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


@dataclass
class Gate:
    """Stored rows of a benchmark, and its questions by id."""

    protocol: Protocol
    rows: list[dict]
    questions: Mapping[str, str]

    async def check(self, backend: Any, model: str, at_once: int = 64) -> GateOutcome:
        """Answer the problems, several at once, and grade them. ConfigError if one is not answered."""
        from rlvr.evaluate.graded_rows import grade

        protocol, places = self.protocol, asyncio.Semaphore(at_once)
        how = {"model": model, "temperature": 0.0, "max_tokens": protocol.max_tokens, "stop": list(protocol.stop or ())}

        async def one(row: dict) -> str:
            messages = [{"role": "user", "content": self.questions[row["id"]]}]
            asked = parse_request("chat", json.dumps(how | {"messages": messages}).encode())
            async with places:
                try:
                    (whole,) = [chunk async for chunk in backend.answer(asked)]
                except ApiError as error:
                    raise ConfigError(f"gate: {row['id']} of {protocol.name} is not answered: {error}") from None
            return whole["choices"][0]["message"]["content"]

        answers = await asyncio.gather(*map(one, self.rows))
        graded = await asyncio.to_thread(grade, protocol.grader, answers, [row["gold"] for row in self.rows])
        before, now = [row["score"] == 1 for row in self.rows], [row["score"] == 1 for row in graded]
        pairs = list(zip(before, now, strict=True))
        lost, gained = pairs.count((True, False)), pairs.count((False, True))
        return GateOutcome(protocol.name, len(self.rows), sum(before), sum(now), lost, gained)


def gate_of(subject: EvaluatedModels, limit: int, data_root: str | None) -> Gate:
    """The first `limit` problems of a benchmark that the last step answered greedily, as the server would.

    The server uses the run's template and ends an answer at its stop texts at least. ConfigError when no benchmark fits.
    """
    if not subject.config:
        raise ConfigError("gate=on: a model alone has no reported score; gate=off serves it")
    template, folder, step = subject.config["base_model"]["template"], subject.folder, max(subject.models)
    for protocol in sorted(protocols.of_run(subject.config), key=lambda protocol: protocol.name != "validation"):
        path = folder.eval_path(protocol.name, step)
        as_served = protocol.template == template and set(STOPS.get(template, ())) <= set(protocol.stop or ())
        if protocol.scoring == "generate" and not protocol.temperature and as_served and path.exists():
            columns = samples.read(path, ["id", "gold", "score"])
            rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
            examples, *_ = protocols.load(protocol, data_root or subject.config.get("data_root"))
            return Gate(protocol, rows[:limit], {example["id"]: example["question"] for example in examples})
    raise ConfigError(
        f"gate: step {step} of {folder.path} has no greedy evaluation, so there is no score to compare with: "
        f"`python -m rlvr.evaluate run={folder.path} steps={step}` gives it one, gate=off serves without"
    )
