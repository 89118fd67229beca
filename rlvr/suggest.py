"""Finds the examples of a pool that are worth training on: without a training run, or from the history of one.

    python -m rlvr.suggest pool=my_pool.jsonl out=best.jsonl                            # by the base model's own solve rate
    python -m rlvr.suggest pool=my_pool.csv base_model=qwen2_5_math_1_5b scale=paper samples=64 top=4 out=best.jsonl
    python -m rlvr.suggest pool=my_pool.jsonl base_model=<folder or Hugging Face id> template=chat out=best.jsonl
    python run.py +experiment=one_shot example.file=best.jsonl
    python -m rlvr.suggest run=runs/tiny/tiny/full_set/seed0 out=ranking.csv            # historical variance, paper §2
    python -m rlvr.suggest history=acc_step_500.json out=ranking.csv                    # the same, of the authors' history file

`pool=`: a question and an answer in each row (YAML, JSON, JSONL, CSV or Parquet). The base model answers each `samples` times,
as it would in training; examples are ranked by the variance p (1 - p) of one answer's outcome. That is largest where the
model is right half of the time: GRPO learns nothing from groups of equal rewards. `out` takes the best `top`, in the form
of `example.file`; the whole ranking, with 95 % intervals of the ranks, lies beside it (_ranking.csv), and the answers
(.answers), which are not asked for twice.

`run=` or `history=`: each visit of an example gives one accuracy, the mean outcome of its group. `method=` one of

    variance        population variance over all visits, largest first (paper Eq. 1-2; the default)
    mean_near_half  mean accuracy nearest to 0.5, as difficulty filters choose
    limr            alignment with the pool's mean learning curve (LIMR, arXiv 2502.11886):
                    1 - sum_k (s_k - m_k)^2 / sum_k (1 - m_k)^2, over the visits k of the example
    random          a random order, of `seed=`

`out` is then the whole ranking, a CSV that `pool.ranking=` takes, with a plot beside it. Departure from the paper, which gives
no uncertainty: `rank_low` and `rank_high`, a 95 % interval from resampled visits.
"""

import csv
import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rlvr.cli import ConfigError, command, option


@dataclass
class Options:
    out: Path = option("the file to write")
    pool: Path | None = option("a file of your own examples, question and answer", None)
    run: Path | None = option("instead: a full-pool run, whose rollouts are the visits", None)
    history: Path | None = option("instead: a JSON file {index: [accuracy at each visit]}", None)
    base_model: str = option("of pool=: a name in conf/base_model, a folder, a GGUF file or a Hugging Face id", "tiny")
    scale: str = option("of pool=: whose temperature, length of answers and instruction hold", "tiny")
    template: str | None = option("of pool=: the prompt template; default: the base model's", None)
    samples: int = option("of pool=: answers to each example", 32, at_least=2)
    max_tokens: int | None = option("of pool=: the most tokens in an answer; default: the scale's", None, at_least=1)
    top: int = option("of pool=: how many examples go into out", 1, at_least=1)
    engine: Literal["torch", "vllm"] = option("of pool=: what generates", "torch")
    device: Literal["cpu", "cuda"] | None = option("of engine=torch; default: a GPU where there is one", None)
    rows: int | None = option(
        "answers decoded at once on each core (engine=torch); default: what the memory holds, 1024 at most",
        None,
        at_least=1,
    )
    method: Literal["variance", "mean_near_half", "limr", "random"] = option(
        "of run= or history=: what ranks", "variance"
    )
    seed: int = option("of answers, of resamples and of a random order", 0, at_least=0)
    bootstrap: int = option("resamples for the intervals; 0 (run=, history=): none", 1000, at_least=0)


def suggest(options: Options) -> None:
    """Rank, write, and say what is worth knowing. ConfigError for what cannot be ranked."""
    if sum(given is not None for given in (options.pool, options.run, options.history)) != 1:
        raise ConfigError("give pool=<your examples>, or run=<full_set run>, or history=<file.json>")
    given = options.pool or options.history
    if given is not None and given.resolve() in {path.resolve() for path in (options.out, _whole(options.out))}:
        raise ConfigError(f"out={options.out}: would overwrite {given}: give another file")
    if options.pool is not None:
        of_pool(options)
    else:
        of_history(options)


def of_history(options: Options) -> None:
    """The ranking of visits, as CSV and plot."""
    from rlvr.evaluate import ranking
    from rlvr.runs.folder import RunFolder

    if options.out.suffix.lower() != ".csv":
        raise ConfigError(f"out={options.out}: expected .csv for a ranking of visits")
    if options.run is not None:
        history = ranking.history_of_run(RunFolder(options.run))
    else:
        history = ranking.read_history(Path(str(options.history)))
    ranked = ranking.rank(history, options.method, options.seed, options.bootstrap)
    picture = options.out.with_suffix(".png")
    _write(options.out, [ranking.as_text(row) for row in ranked])
    ranking.plot(ranked, options.method, picture)
    print(f"{len(history)} examples ranked by {options.method}: {options.out}, {picture}")


def of_pool(options: Options) -> None:
    """Ask the base model, rank, write the best and the whole ranking."""
    import numpy as np
    from rich.console import Console

    from rlvr.evaluate import ranking

    if options.out.suffix.lower() not in (".jsonl", ".csv"):
        raise ConfigError(f"out={options.out}: expected .jsonl or .csv")
    screen = Console(soft_wrap=True, highlight=False, markup=False)  # a question may contain brackets
    examples, right = solved(options, screen)
    order, low, high = ranking.solve_rates(right, options.samples, max(options.bootstrap, 100), options.seed)
    rows = []
    for rank, i in enumerate(order, start=1):
        rate = float(right[i]) / options.samples
        rows.append({**examples[i], "rank": rank, "index": int(i), "solve_rate": round(rate, 6),
                     "variance": round(rate * (1 - rate), 6), "rank_low": round(float(low[i]), 1),
                     "rank_high": round(float(high[i]), 1)})  # fmt: skip
    _write(options.out, rows[: options.top])
    whole = _whole(options.out)
    _write(whole, rows)
    for words, hopeless in (("never", right == 0), ("always", right == options.samples)):
        if (found := np.flatnonzero(hopeless)).size:
            named = ", ".join(str(i + 1) for i in found[:8]) + (", ..." if len(found) > 8 else "")
            screen.print(
                f"warning: {len(found)} of {len(rows)} labels are {words} reached in {options.samples} samples "
                f"(examples {named}): {'is the label right?' if words == 'never' else 'there is nothing to learn'}"
            )
    best = f"solved {rows[0]['solve_rate']:.0%}, rank {low[order[0]]:.0f} to {high[order[0]]:.0f}"
    screen.print(f"best: {best}: {rows[0]['question'][:100]}")
    if len(rows) > 1:
        enough = ranking.samples_to_tell(rows[0]["solve_rate"], rows[1]["solve_rate"])
        if enough is None:
            said = "as good as equal: no number of samples settles which is better"
        elif enough <= options.samples:
            said = f"told apart by {options.samples} samples"
        else:
            said = f"told apart by about {enough - options.samples} samples more of each (samples={enough})"
        screen.print(f"ranks 1 and 2: {said}")
    screen.print(f"{options.out} (the best {min(options.top, len(rows))}), {whole}")


def _whole(out: Path) -> Path:
    """The file of a pool's whole ranking."""
    return out.with_name(f"{out.stem}_ranking.csv")


def solved(options: Options, screen: Any) -> tuple[list[dict[str, str]], Any]:
    """The pool's examples {question, answer}, and how many answers to each the base model has right ("examples")."""
    import numpy as np
    from hydra.errors import HydraException

    from rlvr.config.compose import compose, explain
    from rlvr.data import gguf, own_examples, pools, prepare, prompts, protocols
    from rlvr.evaluate.answer_store import Store, evaluation_lock
    from rlvr.evaluate.answering import BenchmarkTask, LazyEngine, run_all
    from rlvr.evaluate.evaluated_models import tokenizer_of
    from rlvr.runs import samples
    from rlvr.runs.evaluations import rows_of_problems
    from rlvr.runs.folder import RunFolder

    pool = Path(str(options.pool))
    try:
        cfg = compose(f"scale={options.scale}", f"base_model={options.base_model}")
    except HydraException as error:
        raise ConfigError(explain(error)) from None
    template = options.template or cfg.base_model.template
    examples = own_examples.read_examples(pool, f"pool={pool}")
    rows = pools.own_pool(examples, cfg.pool.source)
    rows, notes = prepare.with_checked_labels(rows, pool.name, shipped=False)
    for note in notes:
        screen.print(note)
    asked_for = {"k": options.samples, "template": template, "max_tokens": options.max_tokens or cfg.scale.max_response_tokens,
                 **{name: cfg.scale[name] for name in ("temperature", "top_p", "top_k")}}  # fmt: skip
    path = gguf.local_folder(str(cfg.base_model.path))
    told = json.dumps([path, options.seed, asked_for, [[row["prompt"], row["answer"]] for row in rows]])
    name = f"pool_{hashlib.sha256(told.encode()).hexdigest()[:8]}"  # another pool, model or sampling: other answers
    (protocol,) = protocols.select(name, {name: {"file": str(pool), **asked_for}})
    folder = RunFolder(options.out.with_suffix(".answers"))
    store = Store(folder, protocol, protocol.record(options.seed))

    def render(question: str) -> str:
        return prompts.render(template, question, tokenizer_of(path) if template == "chat" else None)

    problems = [
        {"id": str(row["index"]), "question": row["prompt"], "answer": row["answer"], "subject": ""} for row in rows
    ]
    engine = LazyEngine(options.engine, options.device, None, options.rows, options.seed)
    with evaluation_lock(folder):
        run_all(engine, {0: path}, [BenchmarkTask(protocol, store, problems, render)], screen)
    stored = samples.read(store.path(0), ["id", "score"])
    of_problem = rows_of_problems(stored["id"])
    right = np.zeros(len(rows))
    right[[int(stored["id"][first]) for first in of_problem[:, 0]]] = (stored["score"][of_problem] == 1).sum(axis=1)
    return examples, right


def _write(out: Path, rows: list[dict[str, Any]]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(out, "w", newline="", encoding="utf-8") as file:
        if out.suffix.lower() == ".csv":
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


if __name__ == "__main__":
    sys.exit(command(Options, suggest, __doc__))
