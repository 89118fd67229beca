"""How fast the grader is, and what hostile answers cost.

    python -m experiments.timings.grading [data=../shared/data]

Prints: 1,024 responses of some 5,000 characters to one question once warm; hostile answers with their time and the reason, and the time of an
ordinary answer right after each; and answers it has not seen (labels of the benchmarks, each put to another row's label
and to its own, spelled differently).
"""

import json
import random
import resource
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from experiments.timings import seconds
from rlvr.cli import command, option
from rlvr.grading import grade, grade_many

HOSTILE = {
    "power tower": "9^{9^{9^{9}}}", "2^(10^9)": "2^{10^9}", "(10^7)!": "(10^7)!", "7^123456789": "7^{123456789}",
    "Python power": "10**10**10", "10^5 digits": "7" * 100_000, "100 kB of text": "a" * 100_000,
    "100 kB of sums": "1+" * 50_000 + "1", "14k unclosed boxes": "\\boxed{" * 14_000, "14k closed boxes": "\\boxed{1}" * 14_000,
    "100 kB of backslashes": "\\" * 100_000, "900 parentheses": "(" * 900 + "1" + ")" * 900,
    "200 nested roots": "\\sqrt{" * 200 + "2" + "}" * 200, "1800 letters": "ab" * 900,
    "sum to 10^9": "\\sum_{k=1}^{10^9} \\frac{1}{k^2}", "(x+y+z)^300": "(x+y+z)^{300} - 1",
}  # fmt: skip
NOT_IN_A_BOX = ("14k unclosed boxes", "14k closed boxes", "100 kB of backslashes")


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


def hostile_answers() -> None:
    print(f"{'hostile answer':24}{'reason':12}{'s':>6}{'next, ms':>10}")
    for name, answer in HOSTILE.items():
        response = answer if name in NOT_IN_A_BOX else f"\\boxed{{{answer}}}"
        started = time.perf_counter()
        score, reason = grade(response, "x^2 + 12")
        taken = time.perf_counter() - started
        assert score == 0, name
        started = time.perf_counter()
        assert grade(f"\\boxed{{x + {random.random()}}}", "x + 2")[1] == "wrong"
        after = time.perf_counter() - started
        print(f"{name:24}{reason:12}{taken:6.2f}{1e3 * after:10.1f}")


def unseen_answers(data: Path) -> None:
    from rlvr.grading.math_verify_judge import judge, warm_up

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
        report(f"{name}, uncached, wall", [seconds(partial(grade, f"\\boxed{{{a}}}", gold))[0] for a, gold in pairs])
    warm_up()
    for name, given in answers.items():
        cpu = [time.process_time()]
        for answer, gold in zip(given, golds, strict=True):
            judge(answer, gold, True)
            cpu.append(time.process_time())
        report(
            f"{name} in one process, all by Math-Verify, CPU time", [b - a for a, b in zip(cpu, cpu[1:], strict=False)]
        )


@dataclass
class Options:
    data: Path = option("the folder of the benchmarks", Path("../shared/data"))


def measure(options: Options) -> None:
    from rlvr.grading.workers import workers

    warm_batch()
    hostile_answers()
    if options.data.exists():
        unseen_answers(options.data)
    else:
        print(f"data={options.data}: not there, so the benchmarks' labels are not timed")
    workers().stop()
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"largest worker process: {peak:.0f} MiB resident (the address space is limited to 768 MiB)")


if __name__ == "__main__":
    sys.exit(command(Options, measure, __doc__))
