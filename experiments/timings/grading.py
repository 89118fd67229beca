"""How fast the grader is, and how much memory it takes.

    python -m experiments.timings.grading [data=../shared/data]

Prints the time for 1,024 responses of about 5,000 characters to one question, after a first call; and for answers that the
grader has not seen: labels of the benchmarks, compared with the label of another row, and with their own in another spelling.
tests/grading/test_grading.py limits the cost of hostile answers.
"""

import json
import random
import resource
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from experiments.timings import seconds
from rlvr.cli import command, option
from rlvr.grading import grade, grade_many


def report(name: str, times: list[float]) -> None:
    """Print percentiles of times in seconds."""
    percentiles = np.percentile(times, (50, 90, 99, 100), method="lower")
    printed = ", ".join(f"p{p} {1e3 * s:.2f} ms" for p, s in zip((50, 90, 99, 100), percentiles, strict=True))
    print(f"{name} (n={len(times)}): {printed}")


def warm_batch() -> None:
    steps = [f"step {i}: $\\frac{{x}}{{2}}$. " * 200 for i in range(1024)]
    responses = [f"{text}so \\boxed{{{12.8 if i % 3 else i % 40}}}" for i, text in enumerate(steps)]
    responses[::7] = ["thus \\boxed{\\frac{64}{5}\\text{ psf}}"] * len(responses[::7])
    times = [seconds(lambda: grade_many(responses, ["12.8"] * 1024)) for _ in range(21)]
    report("1,024 answers to one question, warm", times[1:])


def unseen_answers(data: Path) -> None:
    files = (data / "eval" / f"{name}.jsonl" for name in ("math500", "olympiadbench"))
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    golds = [row["answer"] if "answer" in row else row["final_answer"][0].strip("$") for row in rows]
    answers = {
        "wrong answers": random.Random(0).sample(golds, len(golds)),
        "right answers in another spelling": [f"\\displaystyle {{{gold}}} " for gold in golds],
    }
    grade("\\boxed{x^2}", "x")  # starts the worker
    for name, texts in answers.items():
        calls = [partial(grade, f"\\boxed{{{text}}}", gold) for text, gold in zip(texts, golds, strict=True)]
        report(f"{name}, not seen before", [seconds(call) for call in calls])


@dataclass
class Options:
    data: Path = option("the folder of the benchmarks", Path("../shared/data"))


def measure(options: Options) -> None:
    from rlvr.grading.workers import workers

    warm_batch()
    if options.data.exists():
        unseen_answers(options.data)
    else:
        print(f"data={options.data}: no such folder, so the labels of the benchmarks are not timed")
    workers().stop()
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"largest worker process: {peak:.0f} MiB resident (the address space is limited to 768 MiB)")


if __name__ == "__main__":
    sys.exit(command(Options, measure, __doc__))
