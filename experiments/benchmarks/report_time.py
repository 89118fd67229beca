"""How long the report takes and how fast its first page opens, over SYNTHETIC runs (experiments/benchmarks/synthetic_runs.py).

    python -m experiments.benchmarks.report_time runs=/tmp/synthetic [out=/tmp/synthetic_report]

Prints wall and processor time and peak memory of `python -m analysis.report`, the size of index.html, the answers behind it, and,
with playwright and a Chromium, the time until the page has loaded (and the renderer's processor time).
"""

import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def stored_answers(report: Path) -> int:
    total = 0
    for path in (report / "data").glob("*/*-*-*.js"):
        text = path.read_text()
        total += len(json.loads(text[text.index(",{") + 1 : text.rindex(")")])["rows"])
    return total


def opening(index: Path) -> str:
    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser_path is None:
        return "no Chromium found: the page was not opened"
    from playwright.sync_api import sync_playwright

    times = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        for _ in range(5):
            page = browser.new_page()
            session = page.context.new_cdp_session(page)
            session.send("Performance.enable")
            page.goto(index.as_uri())
            loaded = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
            metrics = {m["name"]: m["value"] for m in session.send("Performance.getMetrics")["metrics"]}
            times.append((loaded / 1000, metrics["ProcessTime"]))
            page.close()
        browser.close()
    return ", ".join(f"{wall:.2f} s ({cpu:.2f} s processor)" for wall, cpu in times)


def main(arguments: list[str]) -> int:
    given = {"runs": "", "out": "/tmp/synthetic_report"} | dict(a.split("=", 1) for a in arguments)
    if not Path(given["runs"]).is_dir() or not given["runs"]:
        print("usage: runs=<folder of synthetic runs> [out=<folder>]", file=sys.stderr)
        return 2
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "analysis.report", f"runs={given['runs']}", "results=/nowhere", f"out={given['out']}"],
        check=True,
    )
    wall = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    index = Path(given["out"]) / "index.html"
    print(f"report: {wall:.1f} s wall, {used.ru_utime + used.ru_stime:.1f} s processor, ", end="")
    print(f"largest process {used.ru_maxrss / 1024:.0f} MiB (there are two)")
    print(f"index.html: {index.stat().st_size / 1000:.0f} kB, {stored_answers(index.parent):,} answers behind it")
    print(f"opened five times: {opening(index)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
