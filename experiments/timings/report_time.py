"""How long the report takes and how fast its first page opens, over SYNTHETIC runs (experiments/timings/synthetic_runs.py).

    python -m experiments.timings.report_time runs=/tmp/synthetic [out=/tmp/synthetic_report]

Prints wall and processor time and peak memory of `python -m analysis.report`, the size of index.html, the answers
behind it, and, with playwright and a Chromium, the time until the page has loaded (and the renderer's processor time).
"""

import json
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from experiments.timings import seconds
from rlvr.cli import ConfigError, command, option

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def stored_answers(report: Path) -> int:
    """Rows of the scripts that the pages load on demand."""
    texts = (path.read_text() for path in (report / "data").glob("*/*-*-*.js"))
    return sum(len(json.loads(text[text.index(",{") + 1 : text.rindex(")")])["rows"]) for text in texts)


def opening(index: Path) -> str:
    """Wall and processor time of five openings, as text."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        return "no Chromium found: the page was not opened"
    from playwright.sync_api import sync_playwright

    times = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        for _ in range(5):
            page = browser.new_page()
            session = page.context.new_cdp_session(page)
            session.send("Performance.enable")
            page.goto(index.as_uri())
            loaded = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
            metrics = {m["name"]: m["value"] for m in session.send("Performance.getMetrics")["metrics"]}
            times.append(f"{loaded / 1000:.2f} s ({metrics['ProcessTime']:.2f} s processor)")
            page.close()
        browser.close()
    return ", ".join(times)


@dataclass
class Options:
    runs: Path = option("a folder of synthetic runs")
    out: Path = option("where the report goes", Path("/tmp/synthetic_report"))


def measure(options: Options) -> None:
    if not options.runs.is_dir():
        raise ConfigError(f"runs={options.runs}: no such folder; experiments.timings.synthetic_runs writes one")
    # Results that are committed would be drawn beside the runs.
    report = ["analysis.report", f"runs={options.runs}", "results=/nowhere", f"out={options.out}"]
    (wall_s,) = seconds(lambda: subprocess.run([sys.executable, "-m", *report], check=True))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"report: {wall_s:.1f} s wall, {used.ru_utime + used.ru_stime:.1f} s processor, ", end="")
    print(f"largest process {used.ru_maxrss / 1024:.0f} MiB (there are three)")
    index = options.out / "index.html"
    print(f"index.html: {index.stat().st_size / 1000:.0f} kB, {stored_answers(options.out):,} answers behind it")
    print(f"opened five times: {opening(index.absolute())}")


if __name__ == "__main__":
    sys.exit(command(Options, measure, __doc__))
