"""Evaluates the base model and every kept checkpoint of a run in one engine start, and keeps every answer.

    python -m rlvr.evaluate run=runs/tiny/tiny/one_shot/seed0                        # tiny benchmarks, all checkpoints
    python -m rlvr.evaluate run=<folder> benchmarks=paper steps=best engine=vllm data_root=<folder>
    python -m rlvr.evaluate run=<folder> benchmarks=math500,aime24 steps=[20,40]
    python -m rlvr.evaluate model=Qwen/Qwen2.5-Math-1.5B template=qwen25-math-cot out=evals/base benchmarks=paper
    python -m rlvr.evaluate run=<folder> benchmarks.mine.file=my.jsonl benchmarks.mine.question=q benchmarks.mine.answer=a
    python -m rlvr.evaluate run=<folder> ladder=true                                 # what prompting alone gives the base model

Groups and protocols: rlvr/data/protocols.yaml. Samples go to <folder>/eval/<benchmark>/step<k>.parquet (rlvr/evaluation/samples.py),
metrics with intervals to <folder>/eval/summary.csv. What is there is not asked again, also what training evaluated
with the same protocol; an interrupted evaluation goes on where it stopped.

Departures from the authors: the default grader is Math-Verify on the last box (theirs falls back to the last number of the text; their
training grader's verdict stands beside it), no code in a response is executed, and base and checkpoints share one dtype.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rlvr.cli import ConfigError
from rlvr.data import prompts
from rlvr.data import protocols as benchmarks
from rlvr.evaluation import checkpoints
from rlvr.evaluation.ask import Asked, Judging, evaluate_step
from rlvr.evaluation.samples import Lock, Store, own_grader
from rlvr.evaluation.summary import table, write
from rlvr.runs.folder import RunFolder, RunFolderError

if TYPE_CHECKING:
    from rlvr.evaluation.engines import Engine


@dataclass
class Options:
    """The command line; `benchmarks.<name>.<key>` are collected in `overrides`."""

    run: str | None = None
    model: str | None = None
    out: str | None = None
    benchmarks: Any = None  # group or names; tiny for a run at scale=tiny, else paper
    steps: Any = "all"
    engine: str = "torch"
    device: str | None = None
    dtype: str | None = None
    rows: int = 256  # decoded at once (engine=torch)
    template: str | None = None  # the run's own; for model=, chat
    base: str | None = None  # the untrained model, where it has moved since the run
    data_root: str | None = None
    seed: int = 0
    reflection_words: list[str] | None = None  # benchmarks.yaml's
    ladder: bool = False
    examples: str | None = None  # ladder: JSONL with question and answer (a worked solution), the four MATH examples
    overrides: dict[str, dict[str, Any]] = field(default_factory=dict)


def parse(arguments: list[str]) -> Options:
    """ConfigError for anything that is no `key=value` of ours."""
    options, known = Options(), [f.name for f in fields(Options) if f.name != "overrides"]
    for argument in arguments:
        key, equals, text = argument.partition("=")
        parts = key.split(".")
        if equals and len(parts) == 3 and parts[0] == "benchmarks":
            options.overrides.setdefault(parts[1], {})[parts[2]] = yaml.safe_load(text)
        elif equals and key in known:
            setattr(options, key, yaml.safe_load(text))
        else:
            close = get_close_matches(key, known, n=1)
            raise ConfigError(
                f"{argument}: expected key=value"
                + (f"; did you mean {close[0]}?" if close else f", key one of {', '.join(known)}")
            )
    if (options.run is None) == (options.model is None) or (options.model is None) != (options.out is None):
        raise ConfigError("give run=<run folder>, or model=<Hugging Face id or folder> with out=<folder>")
    return options


@dataclass
class Subject:
    """What is evaluated: a folder for the results and the models by step (0: untrained)."""

    folder: RunFolder
    models: dict[int, str]
    config: dict[str, Any]
    template: str
    left_out: dict[int, str]


def subject_of(options: Options) -> Subject:
    """The run or the model that the options name, its checkpoints checked."""
    if options.model is not None:
        path = Path(options.model)
        if path.is_dir() and (problem := checkpoints.fault(path)):
            raise ConfigError(f"model={options.model}: {problem}")
        return Subject(RunFolder(str(options.out)), {0: options.model}, {}, options.template or "chat", {})
    folder = RunFolder(str(options.run))
    if folder.state == "new":
        raise ConfigError(f"run={options.run}: no config.yaml there; give the folder of a run")
    config = folder.config()
    steps, left_out = checkpoints.choose(folder, options.steps)
    models = {0: checkpoints.base_path(folder, options.base)}
    models |= {step: str(checkpoints.model_folder(folder, step)) for step in steps}
    return Subject(folder, models, config, options.template or config["base_model"]["template"], left_out)


def trained_protocol(
    config: Mapping[str, Any], benchmark: benchmarks.Benchmark, protocol: Mapping[str, Any]
) -> dict | None:
    """The protocol that training evaluated this name with, None if it did not."""
    for b in config.get("scale", {}).get("benchmarks", []):
        if b["name"] == benchmark.name:
            drawn = {key: b[key] for key in ("dataset", "limit", "temperature", "top_p", "top_k")}
            fixed = {
                "k": b["n"],
                "max_tokens": config["scale"]["max_response_tokens"],
                "scoring": "generate",
                "grader": config.get("reward_rule", {}).get("grader", "math_verify"),  # older runs name none
            }
            same = {key: protocol[key] for key in ("source", "revision")}
            # Greedy answers do not depend on a seed; training seeds its samples in its own way.
            return {**drawn, **fixed, **same, "template": config["base_model"]["template"], "seed": protocol["seed"]}
    return None


def ask(options: Options, subject: Subject) -> tuple[list[Asked], list[str]]:
    """Every benchmark as it will be put to the models, and what to tell the user about its data."""
    tiny = subject.config.get("scale", {}).get("name") == "tiny"
    chosen = options.benchmarks or ([] if options.overrides else "tiny" if tiny else "paper")
    chosen = chosen.split(",") if isinstance(chosen, str) else chosen
    data_root = options.data_root or subject.config.get("data_root")
    asked, notes = [], []
    for benchmark in benchmarks.select(chosen, options.overrides):
        if ":" in benchmark.grader:
            own_grader(benchmark.grader)
        elif benchmark.grader not in ("math_verify", "authors"):
            raise ConfigError(
                f"benchmarks.{benchmark.name}.grader={benchmark.grader}: expected math_verify, authors or file.py:function"
            )
        examples, without_gold = benchmarks.load(benchmark, data_root)
        template = benchmark.template or subject.template
        if template not in prompts.TEMPLATES:
            raise ConfigError(f"template={template}: expected one of {', '.join(prompts.TEMPLATES)}")
        protocol = benchmark.protocol() | {"template": template, "seed": options.seed if benchmark.temperature else 0}
        store = Store(
            subject.folder,
            benchmark,
            protocol,
            trained_protocol(subject.config, benchmark, protocol),
            options.reflection_words,
        )
        if without_gold:
            notes.append(
                f"{benchmark.name}: {without_gold} of {without_gold + len(examples)} rows have no gold and are left out"
            )
            store.note(None, {"left_out_without_gold": without_gold})
        asked.append(Asked(benchmark, store, examples, partial(_render, subject, template)))
    return asked, notes


def _render(subject: Subject, template: str, question: str) -> str:
    return prompts.render(template, question, _tokenizer(subject.models[0]) if template == "chat" else None)


@lru_cache
def _tokenizer(path: str):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(path)


class LazyEngine:
    """One engine, started when first needed; further models are loaded into it."""

    def __init__(self, options: Options):
        self.options = options
        self.engine: Engine | None = None
        self.path = ""

    def at(self, path: str) -> Engine:
        """The engine with the weights of this model."""
        if self.engine is None:
            from rlvr.evaluation.engines import start

            o = self.options
            self.engine = start(o.engine, path, o.device, o.dtype, o.rows, o.seed)
        elif self.path != path:
            self.engine.load(path)
        self.path = path
        return self.engine


def run_all(engine: LazyEngine, subject: Subject, asked: list[Asked], screen: Console) -> None:
    """Evaluate what is missing, one engine start for all of it; nothing is started when nothing is missing."""
    missing: dict[int, list[Asked]] = {}
    with Judging() as judging:
        for step in subject.models:
            for one in asked:
                if one.store.complete(step):
                    judging.later(one.store.adopt, step)  # while the engine starts
                else:
                    missing.setdefault(step, []).append(one)
        if missing:
            _evaluate(engine, subject, missing, judging, screen)
        else:
            screen.print("all of it is there already")


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


def main(arguments: list[str]) -> int:
    screen = Console()
    try:
        options = parse(arguments)
        subject = subject_of(options)
        if options.ladder:
            from rlvr.evaluation.baselines import climb

            return climb(options, subject, screen)
        asked, notes = ask(options, subject)
        notes += [f"step {step} is left out: {problem}" for step, problem in subject.left_out.items()]
        for note in notes:
            screen.print(note, style="yellow", soft_wrap=True, highlight=False)
        with Lock(subject.folder):
            run_all(LazyEngine(options), subject, asked, screen)
            rows = write(subject.folder, [one.benchmark.name for one in asked])
    except (ConfigError, RunFolderError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    screen.print(table(rows, {one.benchmark.name: one.benchmark.metric for one in asked}))
    screen.print(f"metrics: {subject.folder.eval_dir / 'summary.csv'}", soft_wrap=True, highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
