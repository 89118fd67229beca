"""Results, manifests, tables and dynamics on run folders whose numbers are known by hand."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml

from analysis import figures, table_files
from analysis.manifests import ManifestError, check_columns, load_manifest, load_manifests, paper_data
from analysis.response_style import TextModel, degenerate, is_foreign, is_repeated
from analysis.results import Options, collect, load, write_csv
from analysis.run_data import load_run, spread
from analysis.seed_estimates import Estimator, accuracies, chosen_step, gain_after_saturation, inflation
from analysis.tables import Table
from analysis.verdicts import FEW
from experiments.timings.synthetic_runs import sample_columns
from rlvr.cli import ConfigError
from rlvr.config.compose import compose
from rlvr.config.schema import experiments
from rlvr.data.scales import paper_columns
from rlvr.runs import samples
from rlvr.runs.folder import RunFolder
from rlvr.stats import Part, mean_interval

SETTINGS = {
    "experiment_name": "one_shot", "variant": None, "overrides": [], "label": {"name": "correct"}, "updates_per_step": 1,
    "loss": {"kl": 0.001}, "train_set": {"name": "pi1"}, "reward_rule": {"name": "outcome"}, "pool": {"name": "tiny"},
    "base_model": {"name": "tiny"},
    "scale": {"name": "tiny", "steps": 60, "prompts_per_step": 128, "samples_per_prompt": 8, "learning_rate": 1e-4,
              "temperature": 1.0, "max_response_tokens": 80},
}  # fmt: skip


def make_run(root, name, seed, right, train=(0.5, 1.0), n=100, **scale):
    """right: benchmark -> {step: problems of n answered right (all samples)}. scale: instead of SETTINGS["scale"]."""
    folder = RunFolder(root / "tiny" / "tiny" / name / f"seed{seed}")
    folder.path.mkdir(parents=True)
    folder.config_path.write_text(
        yaml.safe_dump(SETTINGS | {"seed": seed, "experiment_name": name, "scale": SETTINGS["scale"] | scale})
    )
    folder.provenance_path.write_text(
        json.dumps(
            {
                "status": "finished",
                "command": ["/a/place/run.py", "runs_dir=/somewhere"],
                "start": "2026-01-01T00:00:00+00:00",
                "end": "2026-01-01T01:30:00+00:00",
            }
        )
    )
    lines = [{"step": 0}, *({"step": 10 * (i + 1), "train/accuracy": a} for i, a in enumerate(train))]
    folder.metrics_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for benchmark, by_step in right.items():
        k = 2 if benchmark.endswith("hard") else 1
        for step, count in by_step.items():
            rows = [(f"p{i}", s, float(i < count)) for i in range(n) for s in range(k)]
            ids, sample, score = zip(*rows, strict=True)
            text = ["let me recheck" if step and i < 3 else "fine" for i in range(len(rows))]
            subjects = ["Algebra" if i[1:] < "5" else "Geometry" for i in ids]
            words = [t != "fine" for t in text]
            columns = sample_columns(
                id=ids, subject=subjects, sample=sample, response=text, score=score, reflection=words
            )
            samples.write(folder.eval_path(benchmark, step), columns | {"response_tokens": [10] * len(ids)})
    for step in (10, 20):
        columns = sample_columns(
            step=[step] * 2, rank=[1, 1], score=[0.0, 1.0], response=["It is 4."] * 2, subject="Algebra"
        )
        samples.write(folder.rollouts_path(step), columns)
    return folder


TESTS = {"tiny500": {0: 30, 10: 60, 20: 50}, "tiny_hard": {0: 20, 10: 30, 20: 60}}


@pytest.fixture
def runs_dir(tmp_path):
    root = tmp_path / "runs"
    make_run(root, "one_shot", 0, TESTS)
    make_run(root, "one_shot", 1, {"tiny500": {0: 30, 10: 50, 20: 40}, "tiny_hard": TESTS["tiny_hard"]})
    make_run(root, "full_set", 0, {"tiny500": {0: 30, 10: 90, 20: 95}, "tiny_hard": {0: 20, 10: 80, 20: 85}})
    return root


def test_a_run_reads_back_from_its_csv_files_as_it_was(runs_dir, tmp_path):
    original, _ = load(runs_dir, tmp_path / "none")
    write_csv(original, tmp_path / "results")
    again, _ = load(None, tmp_path / "results")
    assert [run.id for run in again] == [run.id for run in original]
    for a, b in zip(original, again, strict=True):
        assert (a.settings, a.hours, a.status) == (b.settings, b.hours, b.status)
        assert b.command == "run.py"  # paths of a machine are left out
        for name in a.scores:
            assert np.array_equal(a.scores[name].correct, b.scores[name].correct)
            assert a.scores[name].ids == b.scores[name].ids
            assert a.scores[name].samples == b.scores[name].samples
        both = pd.testing.assert_series_equal
        both(a.series("train/accuracy"), b.series("train/accuracy"), check_dtype=False)


def test_answers_are_counted_by_problem(runs_dir):
    run = load_run(RunFolder(runs_dir / "tiny/tiny/one_shot/seed0"))
    scores = run.scores["tiny_hard"]
    assert scores.samples == 2 and scores.correct.shape == (3, 100)
    assert scores.correct.sum(axis=1).tolist() == [40, 60, 120]
    assert run.series("eval/tiny500/reflections").tolist() == [0, 3, 3]
    assert run.hours == 1.5


def test_other_problems_at_a_later_step_are_refused(runs_dir):
    folder = RunFolder(runs_dir / "tiny/tiny/one_shot/seed0")
    samples.write(folder.eval_path("tiny500", 20), sample_columns(id=["p0", "p1"], score=[1.0, 0.0]))
    with pytest.raises(ValueError, match="step0*20.parquet: other problems than at the first step"):
        load_run(folder)


def test_selection_by_hand(runs_dir):
    run = load_run(RunFolder(runs_dir / "tiny/tiny/one_shot/seed0"))
    average = accuracies(run, ["tiny500", "tiny_hard"])
    assert average.index.tolist() == [0, 10, 20] and average.tolist() == pytest.approx([0.25, 0.45, 0.55])
    assert accuracies(run, ["tiny500", "elsewhere"]).empty
    assert chosen_step(run, "tiny500", "best_each", None, averaged=False) == 10
    assert chosen_step(run, "tiny500", "best_each", None, averaged=True) == 20
    assert chosen_step(run, "tiny500", "best_average", None, averaged=False) == 20
    assert chosen_step(run, "tiny500", "last", None, averaged=False) == 20


@pytest.mark.parametrize(
    "step, shown",
    # Of the paper's 2,000, which are 20 here: evaluated at 0, 10, 20, and half an interval is 5 steps.
    [
        (0, 0),
        (100, None),
        (499, None),
        (500, 10),
        (1000, 10),
        (1500, 10),
        (1501, 20),
        (2000, 20),
        (2500, 20),
        (2600, None),
    ],
)
def test_a_step_shows_an_evaluation_close_to_it_and_the_untrained_model_only_by_name(tmp_path, step, shown):
    run = load_run(make_run(tmp_path, "one_shot", 0, TESTS, steps=20))
    assert chosen_step(run, "tiny500", "step", step, averaged=False) == shown


def test_the_interval_is_the_runs_own(tmp_path):
    tests = {"tiny500": {0: 30, 10: 60, 20: 50}, "tiny_hard": {0: 3, 20: 5}}
    run = load_run(make_run(tmp_path, "one_shot", 0, tests, steps=20))
    assert chosen_step(run, "tiny_hard", "step", 1000, averaged=False) is None  # step 10: not evaluated there
    assert chosen_step(run, "tiny_hard", "step", 1800, averaged=False) == 20


@pytest.mark.parametrize("selection", ["best_each", "best_average", "last"])
def test_a_run_that_only_gets_worse_does_not_show_the_untrained_model(tmp_path, selection):
    worse = {0: 30, 10: 20, 20: 10}
    run = load_run(make_run(tmp_path, "one_shot", 0, {"tiny500": worse, "tiny_hard": worse, "tiny_arc": {0: 9}}))
    assert chosen_step(run, "tiny500", selection, None, averaged=False) == (20 if selection == "last" else 10)
    assert chosen_step(run, "tiny_arc", selection, None, averaged=False) is None
    manifest = load_manifest(written(tmp_path, TABLE.replace("best_average", selection)))
    base, _, one, _ = Table(manifest, "tiny", Estimator([run])).cells
    assert base[0].ours == 30 and one[0].ours == (10 if selection == "last" else 20) and one[0].gain.value < 0


TABLE = """
kind: table
paper: table08
title: A test
seeds: [0]
selection: best_average
columns: [MATH500, Avg, Minerva]
reference: one
rows:
  - {label: Base, paper: 1, base: true}
  - {label: all, paper: 3, experiment: full_set}
  - {label: one, paper: 5, experiment: one_shot}
  - {label: not run, paper: 6, experiment: one_shot_pi13}
"""


def written(folder, text, name="mine.yaml"):
    (folder / name).write_text(text)
    return folder / name


def test_cells_of_a_table_by_hand(runs_dir, tmp_path):
    runs, _ = load(runs_dir, tmp_path / "none")
    table = Table(load_manifest(written(tmp_path, TABLE)), "tiny", Estimator(runs))
    base, full, one, absent = table.cells
    # Best average is step 20 for all: 50 and 40 of 100 on tiny500, mean 45; the paper prints 72.8 from 36.0.
    assert (one[0].ours, one[0].seeds, one[0].paper, one[0].steps) == (45.0, 2, 72.8, "20")
    assert one[0].gain.value == pytest.approx(15.0) and one[0].paper_gain == pytest.approx(36.8)
    assert one[0].difference == pytest.approx(15.0 - 36.8)
    assert one[1].ours == pytest.approx((45 + 60) / 2)
    assert base[0].ours == 30.0 and base[0].verdicts == [] and base[0].seeds == 1
    assert one[0].interval.low < 45.0 < one[0].interval.high
    assert [(v.question, v.word) for v in full[0].verdicts] == [("above base", FEW), ("against one", FEW)]
    assert all(np.isnan(cell.ours) and cell.verdicts == [] for cell in absent)
    # Nothing stands for Minerva at this scale.
    assert np.isnan(one[2].ours) and one[2].paper == 29.8
    table_files.write([table], tmp_path)
    markdown = (tmp_path / "mine.md").read_text()
    assert "| one | MATH500 | 45.0 |" in markdown
    assert "| not run | MATH500 |  |  |  |  | 73.6 |  |  |" in markdown
    assert r"\begin{longtable}" in (tmp_path / "mine.tex").read_text()


def test_above_base_and_against_the_reference_are_two_verdicts_from_three_seeds(tmp_path):
    root = tmp_path / "runs"
    for seed in range(3):
        make_run(root, "one_shot", seed, {"tiny500": {0: 30, 20: 50 + seed}, "tiny_hard": {0: 30, 20: 50 + seed}})
        make_run(root, "full_set", seed, {"tiny500": {0: 30, 20: 90 - seed}, "tiny_hard": {0: 30, 20: 90 - seed}})
    runs, _ = load(root, tmp_path / "none")
    table = Table(load_manifest(written(tmp_path, TABLE)), "tiny", Estimator(runs))
    full, one = table.cell("all", "MATH500"), table.cell("one", "MATH500")
    # The paper has the whole set level with one example (74.4 and 72.8); here it is 38 points above.
    words = {verdict.question: verdict.word for verdict in full.verdicts}
    assert words == {"above base": "direction reproduced", "against one": "not reproduced"}
    assert full.by_seed == pytest.approx([90, 89, 88]) and [v.question for v in one.verdicts] == ["above base"]
    own = Table(
        load_manifest(written(tmp_path, TABLE.replace("paper: table08", "").replace("Minerva", "Avg"))),
        "tiny",
        Estimator(runs),
    )
    # Without a paper, in plain words.
    assert [verdict.word for verdict in own.cell("all", "MATH500").verdicts] == ["above", "above"]
    lines = table_files.lines_of(own)
    assert any("against one: above" in line[-1] for line in lines)


@pytest.mark.parametrize(
    "stem, row, facts",
    [
        # Chosen at step 10 with seed 0 and step 20 with seed 1; the paper's facts are those of its table.
        (
            "table03_examples",
            "{pi1}",
            [("best MATH500 at step", "10, 20 of 60", "1860"), ("type of example", "Algebra", "Alg.")],
        ),
        ("table05_loss_ablation", "PG + WD + KL + Ent (all)", [("training converges", "1 of 2, from step 20", "YES")]),
        ("table09_best_each", "{pi1}", [("best average at step", "20 of 60", "1540")]),
    ],
)
def test_what_a_table_says_of_its_rows_in_words(tmp_path, stem, row, facts):
    for seed, right in enumerate(({0: 30, 10: 60, 20: 50}, {0: 30, 10: 40, 20: 50})):
        tests = {"tiny500": right, "tiny_hard": {0: 20, 10: 20, 20: 60}}
        make_run(tmp_path / "runs", "one_shot", seed, tests, train=(0.5, 1.0 - seed / 2))
    runs, _ = load(tmp_path / "runs", tmp_path / "none")
    table = Table(next(m for m in load_manifests() if m.stem == stem), "tiny", Estimator(runs))
    rows = {one.label: one for one in table.manifest.rows}
    assert table.facts(rows[row]) == facts
    assert {ours for name in ("Base", "no loss") if name in rows for _, ours, _ in table.facts(rows[name])} == {""}
    table_files.write([table], tmp_path)
    for name, ours, paper in facts:
        assert f"|  | {name} | {ours} |  |  |  | {paper} |  |  |" in (tmp_path / f"{stem}.md").read_text()
        assert f"ours {ours}; paper {paper}" in (tmp_path / f"{stem}.csv").read_text()


def test_validation_chooses_beside_the_papers_rule(tmp_path):
    tests = {
        "tiny500": {0: 30, 10: 60, 20: 50},
        "tiny_hard": {0: 30, 10: 60, 20: 50},
        "validation": {0: 30, 10: 40, 20: 45},
    }
    run = load_run(make_run(tmp_path, "one_shot", 0, tests))
    assert chosen_step(run, "tiny500", "validation", None, averaged=False) == 20
    paper, ours = (
        Table(load_manifest(written(tmp_path, TABLE.replace("best_average", rule))), "tiny", Estimator([run])).cell(
            "one", "MATH500"
        )
        for rule in ("best_average", "validation")
    )
    assert (paper.ours, paper.on_validation.value, ours.ours) == (60, 50, 50)
    assert np.isnan(ours.on_validation.value)


def words_of(left_out, name):
    return [line for line in left_out if name in line]


def test_seeds_of_folders_and_of_committed_results_are_one_set(tmp_path):
    committed, folders = tmp_path / "committed", tmp_path / "runs"
    for seed, right in ((0, 40), (1, 50)):
        make_run(committed, "one_shot", seed, {"tiny500": {0: 30, 20: right}, "tiny_hard": {0: 30, 20: right}})
    write_csv(load(committed, tmp_path / "none")[0], tmp_path / "results")
    make_run(folders, "one_shot", 1, {"tiny500": {0: 30, 20: 70}})
    make_run(folders, "one_shot", 2, {"tiny500": {0: 30, 20: 60}, "tiny_hard": {0: 30, 20: 60}})
    runs, left_out = load(folders, tmp_path / "results")
    table = Table(load_manifest(written(tmp_path, TABLE.replace("best_average", "last"))), "tiny", Estimator(runs))
    assert left_out == [] and table.cell("one", "MATH500").by_seed == pytest.approx([40, 70, 60])
    # The committed results add what the folder lacks.
    assert table.cell("one", "Avg").by_seed == pytest.approx([40, 60, 60])
    path = RunFolder(folders / "tiny/tiny/one_shot/seed1").provenance_path
    path.write_text(path.read_text().replace("finished", "failed"))
    runs, left_out = load(folders, tmp_path / "results")
    assert [run.scores["tiny500"].correct[-1].sum() for run in runs] == [40, 50, 60]
    assert "the folder is failed" in left_out[0]


def test_one_odd_run_leaves_out_itself(runs_dir, tmp_path):
    make_run(runs_dir, "a_trial", 0, {"tiny500": {0: 3, 20: 5}}, n=8)  # first in the alphabet
    make_run(runs_dir, "one_shot", 2, TESTS, temperature=1.5)
    runs, left_out = load(runs_dir, tmp_path / "none")
    assert sorted(run.id for run in runs if "tiny500" in run.scores) == [
        "tiny/tiny/full_set/seed0", "tiny/tiny/one_shot/seed0", "tiny/tiny/one_shot/seed1"
    ]  # fmt: skip
    assert len(left_out) == 2
    assert "8 problems, other than the 100 of most runs" in words_of(left_out, "a_trial")[0]
    assert "scale.temperature 1.5, not 1.0" in words_of(left_out, "one_shot/seed2")[0]


DAMAGE = {
    "config.yaml": "", "provenance.json": '{"status": ', "metrics.jsonl": '{"step": 0}\nnonsense\n',
    "eval/tiny500/step10.parquet": "PAR1", "rollouts/step10.parquet": "",
    "config.yaml ": "experiment_name: [",
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_folder_is_left_out_by_name(runs_dir, tmp_path, name):
    (runs_dir / "tiny/tiny/one_shot/seed0" / name.strip()).write_text(DAMAGE[name])
    runs, left_out = load(runs_dir, tmp_path / "none")
    assert [run.id for run in runs] == ["tiny/tiny/full_set/seed0", "tiny/tiny/one_shot/seed1"]
    assert len(left_out) == 1 and left_out[0].startswith("tiny/tiny/one_shot/seed0: cannot be read (")


def test_what_else_lies_in_a_run_folder_is_passed_over(runs_dir, tmp_path):
    folder = RunFolder(runs_dir / "tiny/tiny/one_shot/seed0")
    before = load_run(folder)
    shutil.copy(folder.eval_path("tiny500", 20), folder.eval_path("tiny500", 20).with_name("step000020 (copy).parquet"))
    (folder.eval_dir / "tiny500" / "stepx.parquet").write_text("")
    for name in ("global_step_20", "global_step_20_backup"):
        (folder.checkpoints_dir / name).mkdir(parents=True)
    assert folder.checkpoint_steps() == [20]
    runs, left_out = load(runs_dir, tmp_path / "none")
    assert left_out == [] and runs[1].scores["tiny500"].steps.tolist() == before.scores["tiny500"].steps.tolist()
    folder.rewind(10)
    assert folder.checkpoint_steps() == [] and len(list((folder.eval_dir / "tiny500").iterdir())) == 4


def test_a_copy_of_a_run_is_no_other_seed(runs_dir, tmp_path):
    of_experiment = runs_dir / "tiny/tiny/one_shot"
    shutil.copytree(of_experiment / "seed0", of_experiment / "seed0_old")
    runs, left_out = load(runs_dir, tmp_path / "none")
    assert [run.folder.path.name for run in runs] == ["seed0", "seed0", "seed1"]
    assert left_out == ["tiny/tiny/one_shot/seed0_old: a copy of tiny/tiny/one_shot/seed0"]


def test_variants_of_a_seed_are_one_seed_of_a_row(runs_dir, tmp_path):
    runs, _ = load(runs_dir, tmp_path / "none")
    (one,) = (run for run in runs if run.id.endswith("one_shot/seed1"))
    again = replace(one, name="one_shot-again", settings=one.settings | {"variant": "again"})
    third = replace(again, seed=2)
    row = load_manifest(written(tmp_path, TABLE))
    found = row.runs_of(next(r for r in row.rows if r.label == "one"), "tiny", [again, third, *runs])
    assert [(run.name, run.seed) for run in found] == [("one_shot", 0), ("one_shot", 1), ("one_shot-again", 2)]


def test_the_untrained_model_is_read_where_most_benchmarks_are(runs_dir, tmp_path):
    runs, _ = load(runs_dir, tmp_path / "none")
    few = replace(runs[0], name="a_first", scores={"tiny500": runs[0].scores["tiny500"]})
    table = load_manifest(written(tmp_path, TABLE))
    assert table.runs_of(table.rows[0], "tiny", [few, *runs]) == [runs[0]]


def test_a_failed_run_decides_nothing_and_no_committed_run_is_lost(tmp_path):
    committed, folders, out = tmp_path / "committed", tmp_path / "runs", tmp_path / "results"
    for seed in (0, 1):
        make_run(committed, "one_shot", seed, TESTS)
    write_csv(load(committed, tmp_path / "none")[0], out)
    failed = make_run(folders, "one_shot", 7, TESTS, learning_rate=5e-4)
    failed.provenance_path.write_text(failed.provenance_path.read_text().replace("finished", "failed"))
    runs, left_out = load(folders, out)
    assert [run.seed for run in runs] == [0, 1] and "scale.learning_rate 0.0005, not 0.0001" in left_out[0]
    failed.provenance_path.write_text(failed.provenance_path.read_text().replace("failed", "finished"))
    before = (out / "runs.csv").read_text()
    with pytest.raises(ConfigError, match=r"2 of its runs would be lost, tiny/tiny/one_shot/seed0 the first"):
        collect(Options(folders, out))
    assert (out / "runs.csv").read_text() == before


def test_what_looks_like_a_number_reads_back_as_text(tmp_path):
    make_run(tmp_path / "runs", "one_shot", 0, TESTS)
    (run,), _ = load(tmp_path / "runs", tmp_path / "none")
    scores = run.scores["tiny500"]
    one = replace(scores, correct=np.array([[1], [40]]), steps=np.array([0, 10]), samples=40, ids=["001"])
    one.subjects = np.array(["7"], dtype=object)
    write_csv([replace(run, commit="12e4567890", scores={"tiny500": scores, "mine": one})], tmp_path / "results")
    (again,), _ = load(None, tmp_path / "results")
    assert again.commit == "12e4567890" and again.scores["mine"].ids == ["001"]
    assert again.scores["mine"].correct.tolist() == [[1], [40]]


def test_a_run_that_has_only_begun_is_left_out_with_that_reason(runs_dir, tmp_path):
    (runs_dir / "tiny/tiny/one_shot/seed0/metrics.jsonl").write_text("")
    _, left_out = load(runs_dir, tmp_path / "none")
    assert left_out == ["tiny/tiny/one_shot/seed0: no step is done yet"]


def test_a_benchmark_of_one_problem_is_drawn(tmp_path):
    make_run(tmp_path, "one_shot", 0, TESTS | {"mine": {0: 0, 10: 1, 20: 1}})
    folder = make_run(tmp_path, "full_set", 0, {"mine": {0: 0, 10: 1, 20: 1}}, n=1)
    run = load_run(folder)
    assert inflation([run]).empty
    text = (
        TABLE.replace("[MATH500, Avg, Minerva]", "[mine]")
        .replace("paper: table08", "")
        .replace("reference: one", "")
        .replace("best_average", "last")
    )
    cell = Table(load_manifest(written(tmp_path, text)), "tiny", Estimator([run])).cell("all", "mine")
    assert cell.ours == 100 and cell.interval.low < 50


def test_a_column_that_nothing_measures_is_refused(runs_dir, tmp_path):
    runs, _ = load(runs_dir, tmp_path / "none")
    own = TABLE.replace("paper: table08", "").replace("Minerva", "tiny50")
    manifest = load_manifest(written(tmp_path, own))
    with pytest.raises(ManifestError, match="column tiny50: benchmark tiny50: did you mean tiny500?"):
        check_columns([manifest], runs)
    check_columns([load_manifest(written(tmp_path, own.replace("tiny50]", "tiny500]")))], runs)


def test_a_rows_protocol_stands_for_its_own_benchmarks(tmp_path):
    tests = {"math500": {0: 20, 10: 40}, "math500_r1_8k": {0: 30, 10: 60}, "math500_r1_32k": {0: 35, 10: 70}}
    run = load_run(make_run(tmp_path, "one_shot", 0, tests, train=(0.5, 1.0)))
    run.scale, run.base_model = "paper", "deepseek_r1_distill_qwen_1_5b"
    manifest = next(m for m in load_manifests() if m.stem == "table12_r1_distill")
    table = Table(replace(manifest, selection="last"), "paper", Estimator([run]))
    ours = {row.label: cells[0].ours for row, cells in zip(manifest.rows, table.cells, strict=True)}
    assert (ours["8k: Base"], ours["8k: {pi1}"], ours["32k: Base"], ours["32k: {pi1}"]) == (30, 60, 35, 70)


@pytest.mark.parametrize("stem", ["table05_loss_ablation", "table08_main"])
def test_a_finished_run_at_scale_small_fills_the_papers_tables(stem, tmp_path):
    cfg = compose("+experiment=one_shot", "scale=small", "hardware=one_gpu")
    assert list(cfg.scale.benchmarks) == list(paper_columns("small")["Avg"])
    folder = make_run(tmp_path, "one_shot", 0, {name: {0: 20, 10: 40} for name in cfg.scale.benchmarks})
    run = load_run(folder)
    run.scale, run.base_model = "small", cfg.base_model.name
    manifest = next(m for m in load_manifests() if m.stem == stem)
    table = Table(manifest, "small", Estimator([run]))
    row = next(cells for cells in table.cells if cells[0].row in ("{pi1}", "PG + WD + KL + Ent (all)"))
    assert [cell.ours for cell in row] == [40.0] * len(manifest.columns)


@pytest.mark.parametrize(
    "change, message",
    [
        (("columns:", "colums:"), "key colums: did you mean columns?"),
        (("best_average", "best_averge"), "selection best_averge: did you mean best_average?"),
        (("experiment: one_shot}", "experimnt: one_shot}"), "did you mean experiment?"),
        (("paper: 5", "paper: 55"), "table08.csv has 1..7"),
        (("reference:", "facts: [{name: a, paper: size, ours: step}]\nreference:"), "ours step: did you mean steps?"),
        (("Minerva", "Minrva"), "column Minrva: did you mean Minerva?"),
        (("reference: one", "reference: two"), "reference two"),
        (("label: not run", "label: all"), "label occurs twice: all"),
        (("selection: best_average", "selection: step"), "all: selection step needs a step"),
        (("rows:", "rows: ["), "is no YAML"),
        (("seeds: [0]", "seeds: 3"), "seeds: 3: expected a list, in YAML [3]"),
        (
            ("experiment: one_shot}", "experiment: one_shot, overrides: scale.steps=10}"),
            "overrides: scale.steps=10: expected",
        ),
        (("  - {label: not run,", "  - not run\n  - {label: not run,"), "not run: expected keys and values"),
    ],
)
def test_a_wrong_manifest_says_what_is_wrong(tmp_path, change, message):
    with pytest.raises(ManifestError, match="mine.yaml") as error:
        load_manifest(written(tmp_path, TABLE.replace(*change)))
    assert message in str(error.value)


def test_every_artefact_of_the_paper_has_its_manifest():
    stems = {m.paper for m in load_manifests() if m.paper}
    tables = {f"table{n:02d}" for n in (1, *range(3, 21))}
    assert stems == tables | {f"figure{n:02d}" for n in (1, 2, *range(4, 17))}


def test_experiments_of_the_manifests_exist():
    named = {one.experiment for m in load_manifests() for one in (*m.rows, *m.panels) if one.experiment}
    assert named - set(experiments()) == set() and "one_shot" in named


def test_the_papers_numbers():
    assert paper_data("table08").at[6, "MATH500"] == 73.6
    assert paper_data("table05").at[12, "AIME24"] == 9.2
    # In the tables of single checkpoints the six benchmarks average to the printed one.
    six = ["MATH500", "AIME24", "AMC23", "Minerva", "OlympiadBench", "AIME25"]
    for stem in ("table04", "table07", "table08", "table10", "table12", "table13", "table17", "table18"):
        table = paper_data(stem)
        assert (table[six].mean(axis=1) - table["Avg"]).abs().max() <= 0.1, stem
    curve = paper_data("figure12")
    best = curve[(curve["panel"] == "MATH500") & (curve["series"] == "+PG")]["value"].max()
    assert best == pytest.approx(paper_data("table05").at[2, "MATH500"], abs=0.05)
    marked = paper_data("table11")["discrepancy"].dropna()
    assert marked.index.tolist() == [2, 4, 9]


def test_the_gain_counts_from_after_saturation(tmp_path):
    tests = {"tiny500": {0: 20, 10: 40, 20: 50, 30: 65}, "tiny_hard": {0: 0, 10: 10, 20: 20, 30: 35}}
    run = load_run(make_run(tmp_path, "one_shot", 0, tests, train=(0.5, 0.99, 1.0)))
    alone = gain_after_saturation([run])
    assert run.saturation == 20 and alone.spans == [(20, 30)] and alone.points.value == pytest.approx(15.0)
    late = load_run(make_run(tmp_path, "late", 0, tests, train=(0.5, 0.9, 1.0)))
    # Saturated at the last evaluation: nothing comes after it, nor before it and not at it.
    assert gain_after_saturation([late]) is None
    assert gain_after_saturation([run, late]) is None
    never = load_run(make_run(tmp_path, "never", 0, tests, train=(0.5, 0.9)))
    gain = gain_after_saturation([run, never])
    assert never.saturation is None and gain.points.value == pytest.approx(15.0) and gain.spans == [(20, 30)]


GOOD = [
    r"We have $x^2 = 16$, so $x = 4$ and the answer is \boxed{4}.",
    r"First, 12+5=17; 17*7=119. The answer is \boxed{119}.",
]


def test_degenerate_answers():
    assert not is_repeated(GOOD[0]) and is_repeated("and so on and on " * 20)
    assert not is_repeated("ha" * 10)  # too short to tell
    assert is_foreign("so 3 × 4 然后 получаем жфы 答案") and not is_foreign("angle α and β, café, ℝ")
    base = TextModel(GOOD * 20)
    assert base.is_unlike("zq#k}}vv~xJw%%qZ;;@@kX<<") and not base.is_unlike(GOOD[1].replace("119", "96"))
    assert degenerate([*GOOD, "so so " * 50], base).tolist() == [False, False, True]
    assert not degenerate(["", "4"], base).any()


def test_steps_are_spread_with_both_ends():
    assert spread(range(0, 101), 5) == [0, 25, 50, 75, 100]
    assert spread([1, 2], 5) == [1, 2]


def test_curves_have_bands_over_seeds_and_problems(runs_dir, tmp_path):
    runs = [run for run in load(runs_dir, tmp_path / "none")[0] if run.name == "one_shot"]
    curve = figures.curve(runs, "accuracy/MATH500")
    assert curve.steps.tolist() == [0, 10, 20] and curve.mean == pytest.approx([30, 55, 45])
    # At step 10 the seeds answer 60 and 50 of 100 problems.
    interval = mean_interval(Part([[i < right for i in range(100)] for right in (60, 50)])) * 100
    assert (curve.low[1], curve.high[1]) == pytest.approx((interval.low, interval.high))
    assert figures.curve(runs, "subject/MATH500/Algebra").mean[0] != curve.mean[0]
    assert figures.curve(runs, "accuracy/Minerva") is None


def test_names_at_curves_ends_stay_near_them_in_order_and_do_not_touch():
    assert figures.apart([0.2, 0.8], [0.1, 0.1]) == pytest.approx([0.2, 0.8])
    # Two that would touch share the difference; a heap at the bottom or the top is moved inside.
    assert figures.apart([0.5, 0.5, 0.9], [0.1, 0.1, 0.1]) == pytest.approx([0.45, 0.55, 0.9])
    assert figures.apart([0.0, 0.01, 0.12], [0.1] * 3) == pytest.approx([0.05, 0.15, 0.25])
    assert figures.apart([1.0, 1.0], [0.2, 0.1]) == pytest.approx([0.85, 1.0])


def test_an_experiment_looks_the_same_in_every_figure_and_grey_print_tells_curves_apart():
    drawn = [m for m in load_manifests() if m.panels]
    seen = {}
    for manifest in drawn:
        lines = figures.lines_of(manifest, manifest.panels[0], None, [])
        for row, line in zip(manifest.rows, lines, strict=True):
            if row.experiment in ("one_shot", "full_set", "two_shot") and row.quantity is None:
                assert seen.setdefault(row.experiment, line.look) == line.look, manifest.stem
        without_colour = {str((line.look["ls"], line.look["marker"])) for line in lines}
        assert len(without_colour) == len(lines), manifest.stem
    assert len(seen) == 3


def test_a_small_change_does_not_fill_a_panel_and_the_papers_curves_have_their_names(tmp_path):
    run = load_run(make_run(tmp_path, "one_shot", 0, {"tiny500": {0: 30, 20: 31}, "tiny_hard": {0: 0, 20: 1}}))
    manifest = next(m for m in load_manifests() if m.stem == "figure14_format_reward_one_shot")
    fig = figures.draw(manifest, "tiny", figures.shown_panels(manifest, "tiny", [run]))
    of_paper, of_ours = fig.axes[:2]
    names = [sorted(text.get_text().split("\n")[0][2:] for text in ax.texts) for ax in (of_paper, of_ours)]
    assert names == [["format", "format, no", "outcome"], ["outcome"]]
    assert np.ptp(of_ours.get_ylim()) == pytest.approx(figures.LEAST_SPAN)
    assert fig.axes[3].get_ylim() == (0, figures.LEAST_SPAN)
