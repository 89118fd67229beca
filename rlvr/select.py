"""Ranks a pool by historical variance (paper, Eq. 1-2): pi1 is the example whose training accuracy varied most.

    python -m rlvr.select run=runs/tiny/tiny/full_set/seed0 out=ranking.csv   # from the rewards a full-pool run stored
    python -m rlvr.select history=acc_step_500.json out=ranking.csv           # from the authors' history file

Each visit of an example gives one accuracy, the mean outcome of its group; the score is their population variance over
all visits, ties keep the pool's order. An example that was never visited has no score and comes last.
"""

import csv
import json
import sys
from pathlib import Path
from statistics import fmean, pvariance

from rlvr.config import ConfigError
from rlvr.pools import rank_by_variance
from rlvr.run_folder import RunFolder


def history_of_run(folder: RunFolder) -> dict[str, list[float]]:
    """Pool index (as text, in the pool's order) -> accuracy at each visit, in the order of the steps; [] if never visited."""
    import pandas as pd
    import pyarrow.parquet as pq

    files = sorted(folder.rollouts_dir.glob("step*.parquet"))
    if not files:
        raise ConfigError(f"run={folder.path}: has no rollouts; give a run of +experiment=full_set")
    visits = pd.concat(pd.read_parquet(file, columns=["step", "uid", "index", "score"]) for file in files)
    accuracies = visits.groupby(["step", "uid", "index"], sort=False)["score"].mean().reset_index()
    accuracies = accuracies.sort_values(["index", "step"], kind="stable")
    pool = pq.read_table(folder.data_dir / "train.parquet", columns=["extra_info"]).to_pylist()
    history: dict[str, list[float]] = {str(row["extra_info"]["index"]): [] for row in pool}
    for index, score in zip(accuracies["index"], accuracies["score"], strict=True):
        history[str(index)].append(float(score))
    return history


def write_ranking(history: dict[str, list[float]], out: Path) -> None:
    """CSV with rank, index, variance, mean_accuracy and visits, best first."""
    with open(out, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["rank", "index", "variance", "mean_accuracy", "visits"])
        for rank, index in enumerate(rank_by_variance(history), start=1):
            values = history[index]
            score = [f"{pvariance(values):.6f}", f"{fmean(values):.4f}"] if values else ["", ""]
            writer.writerow([rank, index, *score, len(values)])


def main(arguments: list[str]) -> int:
    options = dict(argument.partition("=")[::2] for argument in arguments)
    if set(options) not in ({"run", "out"}, {"history", "out"}):
        print(
            "usage: python -m rlvr.select run=<run folder>|history=<file.json> out=<file.csv>",
            file=sys.stderr,
        )
        return 2
    try:
        if "run" in options:
            history = history_of_run(RunFolder(options["run"]))
        else:
            history = json.loads(Path(options["history"]).read_text())
    except (ConfigError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    write_ranking(history, Path(options["out"]))
    print(f"{len(history)} examples ranked: {options['out']}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
