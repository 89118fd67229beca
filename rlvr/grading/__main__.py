"""Where the two graders differ on the stored responses of a run: CSV on stdout, the share on stderr.

python -m rlvr.grading run=runs/tiny/tiny/one_shot/seed0
"""

import csv
import sys
from dataclasses import dataclass
from pathlib import Path

from rlvr.cli import ConfigError, command, option


@dataclass
class Options:
    run: Path = option("the run folder, whose rollouts and evaluations are judged again")


def compare(options: Options) -> None:
    """Judge every response by both graders and print those that they score differently."""
    import pandas as pd

    from rlvr.grading import GRADERS, disagreement

    run = options.run
    files = [*sorted(run.glob("rollouts/*.parquet")), *sorted(run.glob("eval/*/*.parquet"))]
    if not files:
        raise ConfigError(f"run={run}: no rollouts/*.parquet and no eval/*/*.parquet there; name a run folder")
    out = csv.writer(sys.stdout)
    out.writerow(["file", "row", "gold", "answer", *GRADERS])
    responses = differing = 0
    for file in files:
        columns = pd.read_parquet(file, columns=["response", "gold"])
        _, rows = disagreement(columns["response"].tolist(), columns["gold"].tolist())
        responses, differing = responses + len(columns), differing + len(rows)
        for row in rows:
            out.writerow([file.relative_to(run), *row.values()])
    print(
        f"{differing} of {responses} responses ({differing / max(responses, 1):.4%}) in {len(files)} files",
        file=sys.stderr,
    )


if __name__ == "__main__":
    sys.exit(command(Options, compare, __doc__))
