"""Evaluates the base model and every kept checkpoint of a run with one engine start, and stores every answer.

    python -m rlvr.evaluate run=runs/tiny/tiny/one_shot/seed0                        # what the tables need, all checkpoints
    python -m rlvr.evaluate run=<folder> benchmarks=paper steps=best engine=vllm data_root=<folder>
    python -m rlvr.evaluate run=<folder> benchmarks=math500,aime24 steps=20,40
    python -m rlvr.evaluate model=Qwen/Qwen2.5-Math-1.5B template=qwen25-math-cot out=evals/base benchmarks=paper
    python -m rlvr.evaluate run=<folder> benchmarks.mine.file=my.jsonl benchmarks.mine.question=q benchmarks.mine.answer=a
    python -m rlvr.evaluate run=<folder> baselines=true                              # what prompting alone achieves
    python -m rlvr.evaluate run=<folder> contamination=true                          # does the base model know the questions?
    python -m rlvr.evaluate run=<folder> steps=best gate.min_gain=0.02               # exit code 2 if the gain is smaller
    python -m rlvr.evaluate run=<folder> regrade=true benchmarks.mine.grader=my.py:f # grade the stored answers again

Groups and protocols: rlvr/data/protocols.yaml. Answers go to <folder>/eval/<benchmark>/step<k>.parquet, metrics with
intervals to <folder>/eval/summary.csv. Stored answers are not generated again, nor are those that training stored with the
same protocol. An interrupted evaluation resumes. Answers are stored before they are graded: if a grader fails, repair it, and
the same command grades them.
The gate compares the last step with the base model on every benchmark: the lower end of the paired interval of the gain must
reach `gate.min_gain`.

Departures from the authors: the default grader is Math-Verify on the last box (theirs falls back to the last number of the
text), no code in a response is executed, and the base model and the checkpoints have the same dtype.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rlvr.cli import ConfigError, command, option


@dataclass
class Options:
    run: Path | None = option("the run folder", None)
    model: str | None = option("instead of a run: a Hugging Face id or folder", None)
    out: Path | None = option("where a model's results go", None)
    benchmarks: list[str] = option(
        "groups (tiny, paper, arc, r1_8k, r1_32k) or names; default: what the tables need", []
    )
    changes: dict = option("benchmarks.<name>.<key>: your own benchmark, or a change to one", {}, key="benchmarks")
    steps: str = option("all, last, best, or numbers such as 20,40; 0 is the base model", "all")
    engine: Literal["torch", "vllm"] = option("what generates", "torch")
    device: Literal["cpu", "cuda"] | None = option("of engine=torch; default: a GPU if there is one", None)
    dtype: Literal["float32", "bfloat16", "float16"] | None = option(
        "default: float32 on a CPU, bfloat16 on a GPU", None
    )
    rows: int | None = option(
        "answers decoded at once on each core (engine=torch); default: what fits into memory, 1024 at most",
        None,
        at_least=1,
    )
    template: str | None = option("prompt template; default: the run's own, for a model chat", None)
    base: str | None = option("the untrained model, if it has moved since the run", None)
    data_root: Path | None = option("folder with the benchmarks' files; default: the run's", None)
    seed: int | None = option("of sampled answers; default: the run's", None, at_least=0)
    reflection_words: list[str] = option("words that mark self-reflection; default: the paper's three", [])
    regrade: bool = option("grade all stored answers again with the present graders; generate nothing", False)
    min_gain: float | None = option("gain in accuracy required of the last step, in [-1, 1]", None, key="gate.min_gain")
    confidence: float = option("of the gate's interval", 0.95, key="gate.confidence")
    baselines: bool = option("evaluate the untrained model under other prompts instead (paper Table 16)", False)
    contamination: bool = option("let the untrained model continue the questions instead: does it know them?", False)
    examples: Path | None = option("baselines: a file of worked examples (question, answer) for the context", None)


def evaluate(options: Options) -> int:
    """Evaluate what is missing, write the summary, print the table; returns the exit code."""
    o = options
    if (o.run is None) == (o.model is None) or (o.model is None) != (o.out is None):
        raise ConfigError("give run=<run folder>, or model=<Hugging Face id or folder> with out=<folder>")
    if o.min_gain is not None and not (-1 <= o.min_gain <= 1 and 0.5 <= o.confidence < 1):
        raise ConfigError(
            f"gate.min_gain={o.min_gain} gate.confidence={o.confidence}: expected a gain in [-1, 1] and a "
            "confidence from 0.5 to below 1, such as 0.02 and 0.95"
        )
    from rich.console import Console

    from rlvr.evaluate import baselines, contamination, evaluated_models, summary
    from rlvr.evaluate.answer_store import evaluation_lock
    from rlvr.evaluate.answering import LazyEngine, regrade, run_all

    screen = Console()
    if o.run is not None:
        models = evaluated_models.of_run(o.run, o.steps, o.base, o.template)
    else:
        models = evaluated_models.of_model(str(o.model), Path(str(o.out)), o.template)
    data_root = str(o.data_root) if o.data_root else None
    engine = LazyEngine(o.engine, o.device, o.dtype, o.rows, o.seed or 0)

    def tasks_of(models: evaluated_models.EvaluatedModels):
        return evaluated_models.tasks_of(models, o.benchmarks, o.changes, data_root, o.seed, o.regrade)

    if o.baselines:
        baselines.evaluate(engine, models, tasks_of, o.examples, data_root, screen)
        return 0
    tasks, notes = tasks_of(models)
    for note in notes + [f"step {step} is left out: {problem}" for step, problem in models.left_out.items()]:
        screen.print(note, style="yellow", soft_wrap=True, highlight=False)
    if o.contamination:
        contamination.evaluate(engine, models, tasks, screen)
        return 0
    with evaluation_lock(models.folder):
        if o.regrade:
            for task in tasks:
                regrade(task, screen)
        else:
            run_all(engine, models.models, tasks, screen)
        rows = summary.write(models.folder, [task.protocol.name for task in tasks], o.reflection_words)
    screen.print(summary.table(rows, {task.protocol.name: task.protocol.metric for task in tasks}, screen))
    screen.print(f"metrics: {models.folder.eval_dir / 'summary.csv'}", soft_wrap=True, highlight=False)
    if o.min_gain is None:
        return 0
    return summary.gate([task.store for task in tasks], max(models.models), o.min_gain, o.confidence, screen)


def main(arguments: list[str] | None = None) -> int:
    return command(Options, evaluate, __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
