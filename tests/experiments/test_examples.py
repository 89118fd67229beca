"""Does a score of an example predict its gain, or its habit what training cures? By hand, and from results to the tables."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from analysis.results import write_csv
from analysis.run_data import Run
from experiments import example_habits, which_example
from experiments.example_habits import GROUPS, own_gain
from experiments.mechanism import write_over
from rlvr.cli import command
from rlvr.runs.evaluations import Evaluations


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
    scores = Evaluations(np.array([0, 60]), correct, 1, [f"p{i:03}" for i in range(100)], np.array(["Algebra"] * 100))
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
    given += [f"base={tmp_path}/base.csv", f"out={tmp_path}/out.csv"]
    call = lambda *more: command(which_example.Options, which_example.judge, None, [*given, *more])  # noqa: E731
    assert call() == 0
    table = pd.read_csv(tmp_path / "out.csv").set_index(["score", "half"])
    assert table["examples"].tolist() == [3] * 6
    values = {key: round(value, 3) for key, value in table["spearman"].items()}
    assert (values["rate", "odd"], values["rate", "even"], values["variance", "even"]) == (1, -1, -1)
    base.assign(right_reasons=[1 - rate for rate in rates]).to_csv(tmp_path / "base.csv")
    assert call("scores=only_good") == 0
    assert pd.read_csv(tmp_path / "out.csv")["spearman"].round(3).tolist() == [-1, 1]
    assert call("scores=luck") == 1 and "expected some of variance, rate" in capsys.readouterr().err
    base.rename(columns={"rate": "share"}).to_csv(tmp_path / "base.csv", index=False)
    assert call() == 1 and "no column rate; expected index, rate (of index, share)" in capsys.readouterr().err
    ranking[ranking["rank"] != 84].to_csv(tmp_path / "ranking.csv")
    assert call() == 1 and "no rank 84, which a row" in capsys.readouterr().err
    assert call("of=table88") == 1 and call("of=table06_entropy_only") == 1  # the second has no run
    lines = which_example.gains(which_example.manifest("which_example"), "tiny", runs)
    assert lines["gain"].tolist() == pytest.approx([9.5, 19.5, 29.5, 34.5, 39.5, 49.5]) and set(lines["seeds"]) == {2}


RANKS = {"stall": (129, 104, 338), "terse": (148, 163, 168), "code": (89, 29, 63), "mastered": (815, 791, 928)}


def gains_of(run, at_last, groups=GROUPS):
    """Lines as experiments.mechanism writes them for a run: no gain at step 0; at step 60 `at_last` points in each group."""
    lines = [(run.id, "tiny500", 0, group, 0.2, 0.2) for group in groups]
    for benchmark, times in (("tiny500", 1), ("tiny_hard", 2)):  # the table does not use the second
        for group, points in zip(groups, at_last, strict=True):
            lines.append((run.id, benchmark, 60, group, 0.2, 0.2 + times * points / 100))
    return lines


def test_a_table_keeps_the_lines_of_other_runs_and_replaces_its_own(tmp_path):
    path = tmp_path / "folder" / "table.csv"
    write_over(
        path,
        pd.DataFrame({"benchmark": ["a", "a", "b"], "run": ["2", "1", "1"], "value": [2, 1, 3]}),
        ["benchmark", "run"],
    )
    table = write_over(path, pd.DataFrame({"benchmark": ["a"], "run": [1], "value": [9]}), ["benchmark", "run"])
    assert table["value"].tolist() == pd.read_csv(path)["value"].tolist() == [9, 2, 3]


def test_the_own_gain_is_above_the_mean_of_the_example_and_of_the_habit():
    rows = [("stall", 40, 10, 10), ("terse", 20, 50, 20), ("code", 5, 5, 35), ("mastered", 1, 1, 1)]
    names = ["habit", "base stall", "base terse", "base code"]
    lines = pd.DataFrame(rows * 3, columns=names)
    own, p = own_gain(lines, permutations=2000)
    # Means of the examples 20, 30, 15, 1; of each habit 16.5; of all 16.5. So a residual is the cell minus its example's mean.
    assert own == pytest.approx(20)
    assert p < 0.01
    swapped = lines.assign(habit=lines["habit"].replace({"stall": "terse", "terse": "stall"}))
    assert own_gain(swapped, permutations=2000)[0] == pytest.approx((-10 - 10 + 20) / 3)
    assert own_gain(swapped, permutations=2000)[1] > 0.2
    even = lines.assign(**dict.fromkeys(names[1:], 7.0))
    assert own_gain(even, permutations=200) == (0, 1)


def test_from_gains_by_habit_to_the_table(tmp_path, capsys):
    own_of = {"stall": (30, 0, 60, 20, 20), "terse": (20, -5, 30, 50, 30), "code": (25, 2, 10, 10, 40)}
    lines, runs = [], []
    for habit, ranks in RANKS.items():
        for rank in ranks:
            for seed in (0, 1):
                runs.append(run_of(rank, seed, 50))
                at_last = own_of.get(habit, (3, 1, 5, 5, 5))
                lines += gains_of(runs[-1], [points + seed for points in at_last])
    write_csv(runs, tmp_path / "results")
    columns = ["run", "benchmark", "step", "group", "base", "accuracy"]
    pd.DataFrame(lines, columns=columns).to_csv(tmp_path / "gains.csv")
    given = [
        f"runs={tmp_path}/none",
        f"results={tmp_path}/results",
        f"gains={tmp_path}/gains.csv",
        f"out={tmp_path}/out.csv",
    ]
    call = lambda *more: command(example_habits.Options, example_habits.judge, None, [*given, *more])  # noqa: E731
    assert call() == 0
    printed = capsys.readouterr().out
    table = pd.read_csv(tmp_path / "out.csv").set_index("example")
    assert len(table) == 12 and set(table["seeds"]) == {2}
    assert table.loc["pi163", ["all", "base stall", "base code"]].tolist() == pytest.approx([20.5, 30.5, 30.5])
    assert "rest - mastered +22.0 points" in printed and "p = 0.0" in printed
    assert call("of=table06_entropy_only") == 1  # whose rows name no habit
    assert "no run of its rows has gains" in capsys.readouterr().err
    assert call("gains=nowhere.csv") == 1 and "experiments.mechanism" in capsys.readouterr().err
    assert call("of=habits") == 1
