"""Whether a score orders gains: the correlation by hand, and from committed results to the table."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from analysis.results import Run, Scores, write_csv
from experiments import which_example
from rlvr.cli import command


def test_the_correlation_is_spearmans_with_ties_and_its_interval_covers_it():
    rng = np.random.default_rng(0)
    score = rng.integers(0, 6, size=15)
    gain = score + rng.normal(0, 3, size=15)
    rho = which_example.correlation(score, gain)
    assert rho.value == pytest.approx(spearmanr(score, gain).statistic)
    assert -1 <= rho.low < rho.value < rho.high <= 1
    falls = which_example.correlation([1, 2, 3, 4, 5], [9, 7, 5, 3, 1])
    assert (falls.value, falls.low, falls.high) == pytest.approx((-1, -1, -1))
    assert all(np.isnan(which_example.correlation(*pair).value) for pair in (([1, 2], [1, 2]), ([1] * 5, range(5))))


def run_of(rank, seed, right):
    settings = {"experiment_name": "one_shot", "train_set.name": f"pi{rank}", "scale.steps": 60}
    settings |= {"overrides": [] if rank == 1 else [f"train_set.ranks=[{rank}]"]}
    settings |= {"scale.prompts_per_step": 8, "scale.samples_per_prompt": 8}
    correct = np.array([[1] * 30 + [0] * 70, [1] * right + [0] * (100 - right)])
    scores = Scores(np.array([0, 60]), correct, 1, [f"p{i:03}" for i in range(100)], np.array(["Algebra"] * 100))
    metrics = pd.DataFrame({"train/accuracy": [0.5, 1.0]}, index=pd.Index([0, 60], name="step"))
    about = ("finished", 0.1, "a CPU", "", "run.py")
    return Run("tiny", "tiny", f"one_shot-ranks{rank}", seed, settings, *about, metrics, {"validation": scores})


def test_from_committed_results_to_the_table(tmp_path, capsys):
    ranks = (1, 43, 84, 126, 168, 209)  # the first rows of which_example.yaml: odd, even, odd, ...
    # Solve rates rise with the gain on the odd rows and fall with it on the even ones.
    rates, right = (0.1, 0.9, 0.2, 0.8, 0.3, 0.7), (40, 50, 60, 65, 70, 80)
    runs = [run_of(rank, seed, n - seed) for rank, n in zip(ranks, right, strict=True) for seed in (0, 1)]
    write_csv(runs, tmp_path / "results")
    indices = range(10, 16)
    ranking = pd.DataFrame({"rank": ranks, "index": indices, "variance": (0.2, 0.1, 0.05, 0.04, 0.02, 0.01)})
    base = pd.DataFrame({"index": indices, "rate": rates})
    ranking.to_csv(tmp_path / "ranking.csv")
    base.to_csv(tmp_path / "base.csv")
    given = [f"runs={tmp_path}/none", f"results={tmp_path}/results", f"ranking={tmp_path}/ranking.csv"]
    given += [f"base={tmp_path}/base.csv", f"out={tmp_path}/out"]
    call = lambda *more: command(which_example.Options, which_example.judge, None, [*given, *more])  # noqa: E731
    assert call() == 0
    table = pd.read_csv(tmp_path / "out.csv").set_index(["score", "half"])
    assert table["examples"].tolist() == [3] * 6
    values = {key: round(value, 3) for key, value in table["spearman"].items()}
    assert (values["rate", "odd"], values["rate", "even"], values["variance", "even"]) == (1, -1, -1)
    assert (tmp_path / "out.png").stat().st_size > 5000
    base.assign(right_reasons=[1 - rate for rate in rates]).to_csv(tmp_path / "base.csv")
    assert call("scores=only_good") == 0
    assert pd.read_csv(tmp_path / "out.csv")["spearman"].round(3).tolist() == [-1, 1]
    assert call("scores=luck") == 1 and "expected some of variance, rate" in capsys.readouterr().err
    assert call("of=table88") == 1 and call("of=table06_entropy_only") == 1  # the second has no run
    lines = which_example.gains(
        which_example.load_manifest(which_example.MANIFESTS / "which_example.yaml"), "tiny", runs
    )
    assert lines["gain"].tolist() == pytest.approx([9.5, 19.5, 29.5, 34.5, 39.5, 49.5]) and set(lines["seeds"]) == {2}
