"""How fast the grader is, and what hostile answers cost.

    python -m experiments.benchmarks.grading [data=../shared/data]

Prints: 1,024 responses of some 5,000 characters to one question once warm, by both graders; answers it has not seen (labels of the benchmarks, each put to another
row's label and to its own, spelled differently); and hostile answers with their time and the
reason, each beside an ordinary answer that is judged at the same time.
"""

import json
import random
import resource
import sys
import time
from pathlib import Path

from rlvr.grading import GRADERS, grade, grade_many
from rlvr.grading.judges import judge, warm_up

HOSTILE = {
    "power tower": "\\boxed{9^{9^{9^{9}}}}",
    "2^(10^9)": "\\boxed{2^{10^9}}",
    "(10^7)!": "\\boxed{(10^7)!}",
    "7^123456789": "\\boxed{7^{123456789}}",
    "Python power": "\\boxed{10**10**10}",
    "10^5 digits": "\\boxed{" + "7" * 100_000 + "}",
    "100 kB of text": "\\boxed{" + "a" * 100_000 + "}",
    "100 kB of sums": "\\boxed{" + "1+" * 50_000 + "1}",
    "14k unclosed boxes": "\\boxed{" * 14_000,
    "14k closed boxes": "\\boxed{1}" * 14_000,
    "100 kB of backslashes": "\\" * 100_000,
    "900 parentheses": "\\boxed{" + "(" * 900 + "1" + ")" * 900 + "}",
    "200 nested roots": "\\boxed{" + "\\sqrt{" * 200 + "2" + "}" * 200 + "}",
    "1800 letters": "\\boxed{" + "ab" * 900 + "}",
    "sum to 10^9": "\\boxed{\\sum_{k=1}^{10^9} \\frac{1}{k^2}}",
    "(x+y+z)^300": "\\boxed{(x+y+z)^{300} - 1}",
}


def warm_batch() -> None:
    responses = [
        f"step {i}: $\\frac{{x}}{{2}}$. " * 200 + f"so \\boxed{{{12.8 if i % 3 else i % 40}}}" for i in range(1024)
    ]
    responses[::7] = ["thus \\boxed{\\frac{64}{5}\\text{ psf}}"] * len(responses[::7])
    for grader in GRADERS:
        grade_many(responses, ["12.8"] * 1024, grader)
        times = []
        for _ in range(20):
            started = time.perf_counter()
            grade_many(responses, ["12.8"] * 1024, grader)
            times.append(time.perf_counter() - started)
        median, worst = 1e3 * sorted(times)[10], 1e3 * max(times)
        print(f"1,024 answers to one question, {grader}, warm: median {median:.1f} ms, worst {worst:.1f} ms")


def labels(data: Path) -> list[str]:
    rows = [json.loads(line) for line in (data / "eval/math500.jsonl").read_text().splitlines()]
    rows += [json.loads(line) for line in (data / "eval/olympiadbench.jsonl").read_text().splitlines()]
    return [row["answer"] if "answer" in row else row["final_answer"][0].strip("$") for row in rows]


def unseen_answers(data: Path) -> None:
    golds = labels(data)
    wrong = list(zip(random.Random(0).sample(golds, len(golds)), golds, strict=True))
    right = [(f"\\displaystyle {{{gold}}} ", gold) for gold in golds]
    grade("\\boxed{x^2}", "x")  # starts the worker
    for name, questions in (("wrong answers", wrong), ("right answers in another spelling", right)):
        times = []
        for answer, gold in questions:
            started = time.perf_counter()
            grade(f"\\boxed{{{answer}}}", gold)
            times.append(time.perf_counter() - started)
        report(f"{name}, uncached, wall", times)
    warm_up()
    for name, questions in (("wrong", wrong), ("right", right)):
        cpu = []
        for answer, gold in questions:
            started = time.process_time()
            judge("math_verify", answer, gold, True)
            cpu.append(time.process_time() - started)
        report(f"the {name} ones in one process, all by Math-Verify, CPU time", cpu)


def report(name: str, times: list[float]) -> None:
    times = sorted(times)
    at = {share: 1e3 * times[int(share * (len(times) - 1))] for share in (0.5, 0.9, 0.99, 1.0)}
    print(f"{name} (n={len(times)}): " + ", ".join(f"p{100 * share:.0f} {ms:.2f} ms" for share, ms in at.items()))


def hostile_answers() -> None:
    print(f"{'hostile answer':24}{'grader':14}{'reason':12}{'s':>6}{'next, ms':>10}")
    for name, response in HOSTILE.items():
        for grader in ("math_verify", "authors"):
            started = time.perf_counter()
            score, reason = grade(response, "x^2 + 12", grader)
            taken = time.perf_counter() - started
            assert score == 0, name
            started = time.perf_counter()
            assert grade(f"\\boxed{{x + {random.random()}}}", "x + 2")[1] == "wrong"
            after = time.perf_counter() - started
            print(f"{name:24}{grader:14}{reason:12}{taken:6.2f}{1e3 * after:10.1f}")


def main(arguments: list[str]) -> None:
    data = Path(dict(argument.split("=", 1) for argument in arguments).get("data", "../shared/data"))
    warm_batch()
    hostile_answers()
    if data.exists():
        unseen_answers(data)
    else:
        print(f"data={data}: not there, so the benchmarks' labels are not timed")


if __name__ == "__main__":
    main(sys.argv[1:])
    from rlvr.grading.workers import workers

    workers().stop()
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"largest worker process: {peak:.0f} MiB resident (the address space is limited to 768 MiB)")
