"""Starts the runs that tables and figures of the paper need: skips finished runs, resumes unfinished ones.

    python -m experiments.launch table05_loss_ablation table08_main dry_run=true      # commands and hours; starts nothing
    python -m experiments.launch table05_loss_ablation seeds=0,1,2 jobs=2
    python -m experiments.launch table08_main scale=paper hardware=eight_gpus data_root=data launch=slurm launch.partition=gpu

With launch=slurm the runs are submitted to Slurm and this program ends (conf/launch/slurm.yaml, experiments/slurm.py).
Otherwise each run is a process on this machine. A failed run does not stop the others; the table at the end names the cause,
and the exit code is then 1. After Ctrl-C, or if this program was killed (its runs then continue without it), the same command
resumes the sweep. With `jobs` above 1, each run has its own share of the cores and GPUs. Before any run starts, each is
checked; a run that cannot work is listed with the reason and left out. Overrides that change what is studied (scale.steps=10)
give runs with another name, which no table counts.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from rich.console import Console
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from analysis.needed_runs import Planned, needed
from experiments import run_states, slurm
from experiments.launch_plan import Outcome, manifest, not_to_start, survey
from experiments.status import console
from rlvr.cli import ConfigError, command, option
from rlvr.data import scales
from rlvr.runs.naming import PLACE
from rlvr.training.progress import duration

RUN = Path(__file__).resolve().parents[1] / "run.py"
POLL_S = 0.2
SHOW_EVERY_S = 1.0
STOP_S = 12.0  # from Ctrl-C to SIGKILL
TODO = ("start", "resume")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class Options:
    tables: list[str] = option("files of experiments/, by name, or YAML files like them", positional=True)
    scale: str = option("of all runs", "tiny")
    seeds: list[int] = option("instead of the seeds of the tables", [])
    jobs: int = option("how many runs at the same time", 1, at_least=1)
    launch: Literal["local", "slurm"] = option("on this machine, or as a Slurm array (launch.<key>=<value>)", "local")
    dry_run: bool = option("list the commands with an estimate, start nothing", False)
    runs_dir: Path = option("where the runs are", Path("runs"))
    overrides: list[str] = option("any other key=value is passed to every run", [], others=True)


def launch(options: Options) -> int:
    """Start, resume or skip the runs. Returns the exit code; 1 if a run failed, or if every run is refused."""
    for_slurm = [override for override in options.overrides if override.startswith("launch.")]
    overrides = [override for override in options.overrides if override not in for_slurm]
    on_slurm = options.launch == "slurm"
    settings = slurm.settings(for_slurm)
    if for_slurm and not on_slurm:
        raise ConfigError(f"{for_slurm[0]}: needs launch=slurm")
    for override in overrides:
        if (key := override.partition("=")[0].lstrip("+")) in PLACE:
            raise ConfigError(f"{override}: the tables set {key}; run.py starts a single run")
    scales.check_scale(options.scale)
    screen = console()
    tables = [manifest(name) for name in options.tables]
    wanted, left_out = needed(tables, options.scale, options.seeds, overrides, options.runs_dir)
    queued = slurm.queued(options.runs_dir) if on_slurm and not options.dry_run else {}
    surveyed = survey(wanted, here=not options.dry_run and not on_slurm, queued=queued)
    todo = [out for out in surveyed if out.word in TODO]
    outcomes = [out for out in surveyed if out.word not in TODO]
    for line in left_out:
        _print(screen, line)
    if options.dry_run:
        for out in todo:
            _print(screen, f"{out.word:<8}{_time(out.hours):<16}python {shlex.join(['run.py', *out.run.arguments])}")
    words = Counter(f"to {out.word}" if out.word in TODO else out.word for out in surveyed)
    counts = ", ".join(f"{n} {word}" for word, n in words.items())
    known = [out.hours for out in todo if out.hours is not None]
    total = _time(sum(known) if len(known) == len(todo) else None)
    _print(screen, f"{len(wanted)} runs: {counts}" + (f"; one after the other {total}" if todo else ""))
    runs = [] if options.dry_run else [out.run for out in todo]
    if on_slurm and runs:
        job = slurm.submit(runs, options.runs_dir, settings)
        see_them = f"python -m experiments.status runs_dir={options.runs_dir}"
        _print(screen, f"job {job}: {len(runs)} runs submitted; {see_them}")
    sweep = Sweep([] if on_slurm else runs, options.jobs, screen)
    if sweep.waiting:
        outcomes += sweep.run()
    screen.print(_summary(outcomes))
    if sweep.stops:
        _print(screen, f"{len(sweep.waiting)} runs were not started")
        raise KeyboardInterrupt
    all_refused = not todo and all(out.word == "refused" for out in outcomes)
    return int(all_refused or any(out.word == "failed" for out in outcomes))


def _time(hours: float | None) -> str:
    if hours is None:
        return "time not known"
    return f"about {hours:.1f} h" if hours >= 1 else f"about {60 * hours:.0f} min"


def _print(screen: Console, line: str) -> None:
    screen.print(line, soft_wrap=True, markup=False)


def _summary(outcomes: Iterable[Outcome]) -> Table:
    """One line for each run and outcome, with all its seeds."""
    seeds: dict[tuple[str, str, str], list[int]] = {}
    for out in outcomes:
        name = "/".join(out.run.folder.path.parts[-4:-1])
        seeds.setdefault((name, out.word, out.why), []).append(out.run.seed)
    columns = [Column(title, overflow="fold") for title in ("run", "seeds", "outcome", "")]
    shown = Table(*columns, box=None, pad_edge=False)
    for (name, word, why), of in seeds.items():
        shown.add_row(Text(name), ",".join(map(str, of)), Text(word, run_states.COLORS.get(word, "")), Text(why))
    return shown


@dataclass
class Job:
    """A run and its process. slot: which share of the machine it uses."""

    run: Planned
    label: str
    slot: int
    process: subprocess.Popen
    output: IO[bytes]
    started: float


class Sweep:
    """Starts runs, at most `jobs` at the same time. A stop signal to this process stops them all."""

    def __init__(self, todo: Iterable[Planned], jobs: int, screen: Console):
        self.waiting = deque(todo)
        self.total = len(self.waiting)
        self.jobs = jobs
        self.screen = screen
        self.running: list[Job] = []
        self.outcomes: list[Outcome] = []
        self.stops = 0  # stop signals so far

    def run(self) -> list[Outcome]:
        """The outcomes of the runs, in the order in which they ended."""
        live = Live(console=self.screen, auto_refresh=False) if self.screen.is_terminal else nullcontext()
        shown = 0.0
        with self._signals(), live:
            try:
                while (self.waiting or self.running) and not self.stops:
                    while self.waiting and len(self.running) < self.jobs:
                        self._start(self.waiting.popleft())
                    if isinstance(live, Live) and time.monotonic() - shown > SHOW_EVERY_S:
                        live.update(self._progress(), refresh=True)
                        shown = time.monotonic()
                    time.sleep(POLL_S)
                    for job in [job for job in self.running if job.process.poll() is not None]:
                        self._end(job)
            finally:
                self._stop()
        return self.outcomes

    def _progress(self) -> Table:
        shown = run_states.table(run_states.read_state(job.run.folder, is_child=True) for job in self.running)
        failed = sum(out.word == "failed" for out in self.outcomes)
        shown.title = f"{len(self.outcomes)} of {self.total} runs ended, {failed} of them failed"
        return shown

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Counts stop signals instead of raising: an exception could come between starting a process and recording it."""

        def count(*_: object) -> None:
            self.stops += 1

        before = {number: signal.signal(number, count) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start(self, run: Planned) -> None:
        number = self.total - len(self.waiting)
        label = f"run {number} of {self.total}  {run_states.name(run.folder)}"
        if (out := not_to_start(run, run_states.read_state(run.folder))) is not None:  # another launch has started it
            self._record(label, out)
            return
        slot = min(set(range(self.jobs)) - {job.slot for job in self.running})
        output = tempfile.TemporaryFile()  # noqa: SIM115
        with _share_of_machine(slot, self.jobs) as environment:
            process = subprocess.Popen(
                [sys.executable, str(RUN), *run.arguments], stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, env=environment, start_new_session=True,
            )  # fmt: skip
        self.running.append(Job(run, label, slot, process, output, time.monotonic()))
        _print(self.screen, f"{label}: starts")

    def _end(self, job: Job) -> None:
        self.running.remove(job)
        with job.output:
            job.output.seek(0)
            printed = job.output.read().decode(errors="replace").split("\n")
        if job.process.returncode == 0:
            took = duration(time.monotonic() - job.started)
            out = Outcome(job.run, "finished", f"{took}  {run_states.read_state(job.run.folder).score}")
        elif self.stops:
            out = Outcome(job.run, "stopped")
        else:
            out = Outcome(job.run, "failed", _cause(job, printed))
        self._record(job.label, out)

    def _record(self, label: str, out: Outcome) -> None:
        self.outcomes.append(out)
        _print(self.screen, f"{label}: {out.word}  {out.why}")

    def _stop(self) -> None:
        """Stop the remaining runs: with SIGINT, so that a run records it; with SIGKILL at a second signal or after STOP_S."""
        for job in self.running:
            job.process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + STOP_S
        stopped = list(self.running)
        while any(job.process.poll() is None for job in stopped) and time.monotonic() < deadline and self.stops < 2:
            time.sleep(POLL_S)
        for job in stopped:
            with suppress(ProcessLookupError):  # the group holds Ray's processes too
                os.killpg(job.process.pid, signal.SIGKILL)
        for job in stopped:
            job.process.wait()
            self._end(job)


def _cause(job: Job, printed: Sequence[str]) -> str:
    """Why a run failed: the error that run.py printed, else the cause in the run folder, else how the process ended."""
    refusals = [line for line in printed if line.startswith("error: ")]
    if refusals:
        return refusals[-1].removeprefix("error: ")
    found = run_states.read_state(job.run.folder)
    if found.state in ("failed", "damaged"):
        return found.cause
    if job.process.returncode < 0:
        return f"killed by {signal.Signals(-job.process.returncode).name}"
    return next((line for line in reversed(printed) if line.strip()), f"exit code {job.process.returncode}")


@contextmanager
def _share_of_machine(slot: int, jobs: int) -> Iterator[dict[str, str]]:
    """The environment for a process that is started in the `with` block. With several jobs, each has its own cores and GPUs.

    A run starts as many threads as it may use cores; two runs with two threads each are many times slower on two cores.
    """
    environment = dict(os.environ)
    if jobs == 1 or not hasattr(os, "sched_setaffinity"):
        yield environment
        return
    from rlvr.planning.machine import count_gpus

    cores = os.sched_getaffinity(0)
    own = _share(sorted(cores), slot, jobs)
    environment["OMP_NUM_THREADS"] = str(len(own))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = visible.split(",") if visible else [str(i) for i in range(count_gpus())]
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(_share(gpus, slot, jobs))
    os.sched_setaffinity(0, own)
    try:
        yield environment
    finally:
        os.sched_setaffinity(0, cores)


def _share(things: Sequence, slot: int, jobs: int) -> list:
    """The part of one slot. All slots get the same number; if there are too few things, slots share one."""
    each = max(1, len(things) // jobs)
    return [things[(slot * each + i) % len(things)] for i in range(each)]


if __name__ == "__main__":
    sys.exit(command(Options, launch, __doc__))
