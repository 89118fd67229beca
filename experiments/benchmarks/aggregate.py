"""How long metrics over many checkpoints take, and how much memory: 100 checkpoints, 2,000 problems, up to 3,072 tokens.

    python -m experiments.benchmarks.aggregate [checkpoints=100] [problems=2000]

The samples are made up (each response one of 4,000 texts of random words, log-normal in length, median 700, at most
3,072) and are removed at the end.
Prints the size on disk, then wall time, processor time and peak memory of a process that does nothing but aggregate.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from rlvr.runs.folder import RunFolder, write_eval

AGGREGATE = """
import json, sys, time
from pathlib import Path
started = time.perf_counter(), time.process_time()
from rlvr.evaluation.metrics import summary
rows = list(summary(Path(sys.argv[1])))
print(json.dumps({
    "rows": len(rows), "wall_s": time.perf_counter() - started[0], "cpu_s": time.process_time() - started[1],
    # Not ru_maxrss, which a process takes over from the one that started it.
    "peak_mib": int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024,
}))
"""


def made_up_texts(rng: np.random.Generator, count: int = 4000) -> list[list[str]]:
    letters = list("abcdefghijklmnopqrstuvwxyz")
    words = np.array(["".join(rng.choice(letters, rng.integers(2, 9))) for _ in range(5000)])
    lengths = np.minimum(rng.lognormal(np.log(700), 0.8, count), 3072).astype(int)
    return [list(words[rng.integers(0, len(words), length)]) for length in lengths]


def write_samples(
    folder: RunFolder, step: int, problems: int, rng: np.random.Generator, texts: list[list[str]]
) -> None:
    chosen = [texts[i] for i in rng.integers(0, len(texts), problems)]
    lengths = np.array([len(words) for words in chosen])
    text = [" ".join(words) for words in chosen]
    score = rng.random(problems) < 0.5
    rows = {
        "benchmark": ["made_up"] * problems, "id": [f"p{i}" for i in range(problems)],
        "subject": [f"subject {i % 7}" for i in range(problems)], "sample": [0] * problems, "prompt": ["a question"] * problems,
        "response": text, "gold": ["7"] * problems, "score": score.astype(float), "reason": np.where(score, "correct", "wrong"),
        "boxed": rng.random(problems) < 0.9, "truncated": lengths == 3072, "response_tokens": lengths,
        "answer": [str(n) for n in rng.integers(0, 20, problems)], "score_authors": score.astype(float),
        "repetition": rng.random(problems), "reflection": rng.random(problems) < 0.02,
    }  # fmt: skip
    write_eval(folder, "made_up", step, rows)


def main(arguments: list[str]) -> None:
    options = {"checkpoints": 100, "problems": 2000} | {k: int(v) for k, v in (a.split("=") for a in arguments)}
    rng = np.random.default_rng(0)
    texts = made_up_texts(rng)
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(place)
        started = time.perf_counter()
        for step in range(options["checkpoints"]):
            write_samples(folder, step, options["problems"], rng, texts)
        size = sum(path.stat().st_size for path in Path(place).rglob("*.parquet"))
        print(f"made up in {time.perf_counter() - started:.0f} s: {size / 2**20:.0f} MiB", flush=True)
        done = subprocess.run(
            [sys.executable, "-c", AGGREGATE, str(folder.eval_dir)], capture_output=True, text=True, check=True
        )
        print(json.dumps(json.loads(done.stdout), indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
