"""How long the report of SYNTHETIC runs takes (experiments/timings/synthetic_runs.py).

    python -m experiments.timings.report_time runs=/tmp/synthetic [out=/tmp/synthetic_report]

Prints wall time, processor time and peak memory of `python -m analysis.report`, the size of index.html, and the number of
answers that its pages load on demand.
"""

import json
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from experiments.timings import seconds
from rlvr.cli import ConfigError, command, option


def stored_answers(report: Path) -> int:
    """Rows of the scripts that the pages load on demand."""
    texts = (path.read_text() for path in (report / "data").glob("*/*-*-*.js"))
    return sum(len(json.loads(text[text.index(",{") + 1 : text.rindex(")")])["rows"]) for text in texts)


@dataclass
class Options:
    runs: Path = option("a folder of synthetic runs")
    out: Path = option("folder of the report", Path("/tmp/synthetic_report"))


def measure(options: Options) -> None:
    if not options.runs.is_dir():
        raise ConfigError(f"runs={options.runs}: no such folder; experiments.timings.synthetic_runs writes one")
    # results=/nowhere: without the committed results.
    report = ["analysis.report", f"runs={options.runs}", "results=/nowhere", f"out={options.out}"]
    wall_s = seconds(lambda: subprocess.run([sys.executable, "-m", *report], check=True))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"report: {wall_s:.1f} s wall, {used.ru_utime + used.ru_stime:.1f} s processor, ", end="")
    print(f"largest process {used.ru_maxrss / 1024:.0f} MiB (there are three)")
    index = options.out / "index.html"
    print(f"index.html: {index.stat().st_size / 1000:.0f} kB, {stored_answers(options.out):,} answers behind it")


if __name__ == "__main__":
    sys.exit(command(Options, measure, __doc__))
