"""What the base model answers to the training examples before any training: can anything be learned from them?

`rlvr.training.train_run` calls it for a user's own examples and for replaced labels. The model runs in a process of its own, so
that its memory is free again before Ray starts.
"""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass

from rlvr.cli import ConfigError

MAX_EXAMPLES = 4  # of a longer list the first ones are probed
MAX_SHOWN = 8
LIMIT_S = 600  # for all of it: a minute on a GPU, hours of a large model on a processor


@dataclass
class Probe:
    """`answers`: text of the last box (None without one) -> how many of `samples` responses; `solved`: share graded right."""

    question: str
    label: str
    true_label: str
    samples: int
    solved: float
    answers: dict[str | None, int]

    def warning(self) -> str | None:
        """What a user should know before spending a run on this example; None when nothing speaks against it."""
        if self.label != self.true_label:
            if self.solved:
                return (
                    f"the model guesses this label in {self.solved:.0%} of its answers and will be rewarded for it; in the "
                    "paper a guessable wrong label (4) ends at 57.0 on MATH500, an unguessable one at 64.4"
                )
            return None
        if self.solved == 0:
            return (
                "no sampled answer is right: without a reward nothing is learnt, unless a right answer comes by chance"
            )
        if self.solved == 1:
            return "every sampled answer is right already: GRPO learns nothing from a group of equal rewards"
        return None


def probe(chosen: list[dict], model_path: str, template: str, samples: int, sampling: dict, seed: int) -> list[Probe]:
    """Sample the model on the first examples; `sampling` = {temperature, top_p, top_k, max_tokens}.

    Raises ConfigError with the cause when the model cannot be loaded or sampled, TimeoutError when it takes too long.
    """
    from rlvr.grading import grade, last_boxed

    chosen = chosen[:MAX_EXAMPLES]
    request = {
        "model": model_path,
        "template": template,
        "questions": [row["prompt"] for row in chosen],
        "samples": samples,
        "seed": seed,
        **sampling,
    }
    command = [sys.executable, "-m", "rlvr.planning.base_model_probe"]
    try:
        process = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        raise TimeoutError(
            f"{samples} answers to each of {len(chosen)} examples took more than {LIMIT_S:g} s on this machine"
        ) from None
    if process.returncode:
        lines = process.stderr.strip().splitlines() or ["no message"]
        raise ConfigError(f"base_model {model_path}: cannot be sampled: {lines[-1]}")
    probes = []
    for row, responses in zip(chosen, json.loads(process.stdout.splitlines()[-1]), strict=True):
        scores = [grade(response, row["answer"])[0] for response in responses]
        answers = Counter(last_boxed(response) for response in responses)
        probes.append(
            Probe(
                row["prompt"],
                row["answer"],
                row["true_answer"],
                len(responses),
                sum(scores) / len(scores),
                dict(answers.most_common()),
            )
        )
    return probes


def table(found: Probe):
    """A rich table: the most frequent answers with their share."""
    from rich.markup import escape
    from rich.table import Table

    shown = Table(
        title=f"{escape(found.question[:90])}\nlabel {escape(found.label)}; the base model is rewarded in {found.solved:.0%} of "
        f"{found.samples} samples",
        title_justify="left",
    )
    shown.add_column("answer")
    shown.add_column("share", justify="right")
    for answer, count in list(found.answers.items())[:MAX_SHOWN]:
        bar = "█" * max(1, round(30 * count / found.samples))
        shown.add_row("(no box)" if answer is None else escape(answer[:40]), f"{count / found.samples:.0%} {bar}")
    if len(found.answers) > MAX_SHOWN:
        shown.add_row(f"{len(found.answers) - MAX_SHOWN} others", "")
    return shown


def _sample(request: dict) -> list[list[str]]:
    """In the child: `samples` responses to each question."""
    from rlvr.data.prompts import render
    from rlvr.evaluate.inference_engines import start
    from rlvr.verl_torch.generation import Sampling

    engine = start("torch", request["model"])
    limits = (request["max_tokens"], request["temperature"], request["top_p"], request["top_k"])
    responses = []
    for i, question in enumerate(request["questions"]):
        prompt = engine.tokenizer(render(request["template"], question, engine.tokenizer), add_special_tokens=False)
        draws = [
            Sampling(*limits, seed=request["seed"] + i * request["samples"] + k) for k in range(request["samples"])
        ]
        answers = engine.generate([prompt["input_ids"]] * len(draws), draws, lambda responses, tokens: None)
        responses.append(engine.tokenizer.batch_decode([a.token_ids for a in answers], skip_special_tokens=True))
    return responses


if __name__ == "__main__":
    print(json.dumps(_sample(json.loads(sys.stdin.read()))))
