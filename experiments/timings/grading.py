"""How fast the grader is, and how much memory it takes.

    python -m experiments.timings.grading [data=../shared/data]

Prints the time of 1,024 responses of some 5,000 characters to one question, once warm; and of answers not
seen before: labels of the benchmarks, compared with another row's label, and with their own in another spelling. What
hostile answers may cost is tested (tests/grading/test_grading.py).
"""

import json
import random
import resource
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from experiments.timings import seconds
from rlvr.cli import command, option
from rlvr.grading import grade, grade_many


def report(name: str, times: list[float]) -> None:
    times = sorted(times)
    at = {share: 1e3 * times[int(share * (len(times) - 1))] for share in (0.5, 0.9, 0.99, 1.0)}
    print(f"{name} (n={len(times)}): " + ", ".join(f"p{100 * share:.0f} {ms:.2f} ms" for share, ms in at.items()))


def warm_batch() -> None:
    steps = [f"step {i}: $\\frac{{x}}{{2}}$. " * 200 for i in range(1024)]
    responses = [f"{text}so \\boxed{{{12.8 if i % 3 else i % 40}}}" for i, text in enumerate(steps)]
    responses[::7] = ["thus \\boxed{\\frac{64}{5}\\text{ psf}}"] * len(responses[::7])
    times = seconds(lambda: grade_many(responses, ["12.8"] * 1024), 21)
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
    for name, given in answers.items():
        pairs = zip(given, golds, strict=True)
        report(f"{name}, not seen before", [seconds(partial(grade, f"\\boxed{{{a}}}", gold))[0] for a, gold in pairs])


@dataclass
class Options:
    data: Path = option("the folder of the benchmarks", Path("../shared/data"))


def measure(options: Options) -> None:
    from rlvr.grading.workers import workers

    warm_batch()
    if options.data.exists():
        unseen_answers(options.data)
    else:
        print(f"data={options.data}: not there, so the benchmarks' labels are not timed")
    workers().stop()
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"largest worker process: {peak:.0f} MiB resident (the address space is limited to 768 MiB)")


if __name__ == "__main__":
    sys.exit(command(Options, measure, __doc__))
