"""How long metrics over many checkpoints take, and how much memory: 100 checkpoints, 2,000 problems, long responses.

    python -m experiments.timings.aggregate [checkpoints=100] [problems=2000]

The samples are SYNTHETIC (experiments/timings/synthetic_runs.py) and are removed at the end. Prints their size on disk,
then wall time, processor time and peak memory of a process that does nothing but aggregate.
"""

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from experiments.timings import apart, listed, seconds
from rlvr.cli import command, option


def aggregate(eval_dir: Path) -> dict[str, float]:
    """Wall and processor seconds, imports included, and MiB."""
    cpu_s = time.process_time()

    def work() -> None:
        from rlvr.evaluate.metrics import summary

        list(summary(eval_dir))

    (wall_s,) = seconds(work)
    peak_kib = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
    return {"wall_s": wall_s, "cpu_s": time.process_time() - cpu_s, "peak_mib": peak_kib / 1024}


@dataclass
class Options:
    checkpoints: int = option("samples files", 100, at_least=2)
    problems: int = option("in each", 2000, at_least=2)


def measure(options: Options) -> None:
    from experiments.timings.synthetic_runs import write_run

    with tempfile.TemporaryDirectory() as place:
        size = {"steps": options.checkpoints - 1, "every": 1, "problems": options.problems, "rollouts": 1, "words": 700}
        folder = write_run(Path(place), "aggregate", 0, **size, benchmarks={"made_up": 1})
        stored = sum(path.stat().st_size for path in folder.eval_dir.rglob("*.parquet"))
        print(f"made up: {stored / 2**20:.0f} MiB", flush=True)
        print(listed(apart(aggregate, folder.eval_dir)))


if __name__ == "__main__":
    sys.exit(command(Options, measure, __doc__))
