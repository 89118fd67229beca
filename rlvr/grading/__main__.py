"""Where the two graders differ on the stored responses of a run.

python -m rlvr.grading run=runs/tiny/tiny/one_shot/seed0          # rollouts and evaluations, as CSV on stdout
"""

import csv
import sys
from pathlib import Path

from rlvr.grading import GRADERS, disagreement


def main(arguments: list[str]) -> None:
    import pandas as pd

    options = dict(argument.partition("=")[::2] for argument in arguments)
    if set(options) != {"run"}:
        raise SystemExit(f"{' '.join(arguments) or 'no arguments'}: expected run=<run folder>")
    run = Path(options["run"])
    files = [*sorted(run.glob("rollouts/*.parquet")), *sorted(run.glob("eval/*/*.parquet"))]
    if not files:
        raise SystemExit(f"run={run}: no rollouts/*.parquet and no eval/*/*.parquet there; name a run folder")
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
    main(sys.argv[1:])
