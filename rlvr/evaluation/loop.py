"""The loop of an evaluation: one engine start, every model of a subject, progress on the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rlvr.evaluation.ask import Asked, Judging, evaluate_step
from rlvr.evaluation.subject import Subject

if TYPE_CHECKING:
    from rlvr.evaluation.engines import Engine


class LazyEngine:
    """One engine, started when first needed; further models are loaded into it."""

    def __init__(self, name: str, device: str | None, dtype: str | None, rows: int, seed: int):
        self.how = (device, dtype, rows, seed)
        self.name, self.seed = name, seed
        self.engine: Engine | None = None
        self.path = ""

    def at(self, path: str) -> Engine:
        """The engine with the weights of this model."""
        if self.engine is None:
            from rlvr.evaluation.engines import start

            self.engine = start(self.name, path, *self.how)
        elif self.path != path:
            self.engine.load(path)
        self.path = path
        return self.engine


def run_all(engine: LazyEngine, subject: Subject, asked: list[Asked], screen: Console) -> None:
    """Evaluate what is missing, one engine start for all of it; nothing is started when nothing is missing."""
    missing = {step: [one for one in asked if not one.store.complete(step)] for step in subject.models}
    missing = {step: ones for step, ones in missing.items() if ones}
    for one in asked:
        one.store.note()
    if not missing:
        screen.print("all of it is there already")
        return
    with Judging() as judging:
        _evaluate(engine, subject, missing, judging, screen)


def _evaluate(
    engine: LazyEngine, subject: Subject, missing: dict[int, list[Asked]], judging: Judging, screen: Console
) -> None:
    running = engine.at(subject.models[next(iter(missing))])
    for one in {id(one): one for all_ in missing.values() for one in all_}.values():
        one.tokenize(running)
    total = sum(one.requests for all_ in missing.values() for one in all_)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=screen, disable=not screen.is_terminal) as progress:
        task = progress.add_task("", total=total, rate="")
        counted = 0

        def done(requests: int, tokens: int) -> None:
            nonlocal counted
            counted += tokens
            elapsed = progress.tasks[task].elapsed or 0
            progress.update(task, advance=requests, rate=f"{counted / elapsed:,.0f} tokens/s" if elapsed else "")

        for step, ones in missing.items():
            progress.update(task, description=f"step {step}")
            speed = evaluate_step(engine.at(subject.models[step]), step, ones, done, judging)
            if not screen.is_terminal:
                screen.print(
                    f"step {step}: {sum(one.requests for one in ones)} responses, {speed['tokens']} tokens in {speed['seconds']:.1f} s "
                    f"({speed['tokens'] / speed['seconds']:,.0f} tokens/s)",
                    soft_wrap=True,
                    highlight=False,
                )
