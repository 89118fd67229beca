"""Which examples a run trains on."""

import hashlib
import json
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import authors_data
import numpy as np
import pytest

from rlvr.cli import DataError
from rlvr.config.compose import compose
from rlvr.data import downloads, pools
from rlvr.data import protocols as benchmarks
from rlvr.planning.plan import plan


def test_ranks_are_by_variance_and_ties_keep_the_files_order(data_root):
    ranked = pools.ranking("dsr_sub", None, str(data_root))
    assert ranked[:16] == authors_data.FIRSTS and ranked[-1] == authors_data.LAST
    history = json.loads((data_root / "train" / "acc_step_500.json").read_text())
    deviations = np.array([np.std(values) for values in history.values()]).round(9)
    assert ranked == [int(list(history)[i]) for i in np.argsort(-deviations, kind="stable")]


def test_training_rows_have_the_authors_columns(data_root):
    pool, (first, second) = {"source": "dsr_sub", "ranking": None}, authors_data.FIRSTS[:2]
    rows = pools.training_rows(pools.ranked_rows(pool, str(data_root), [1, 2]), 128)
    assert [row["extra_info"]["index"] for row in rows] == [first] * 64 + [second] * 64
    assert rows[0] == {
        "data_source": "deepscaler",
        "prompt": [{
            "content": "A crate holds 400 pears, another 403. How many pears are there? "
            "Let's think step by step and output the final answer within \\boxed{}.",
            "role": "user",
        }],
        "ability": "math",
        "reward_model": {"ground_truth": "803", "style": "rule"},
        "extra_info": {"index": first, "split": "train"},
        "rank": 1, "subject": "", "true_answer": "803",
    }  # fmt: skip


def test_an_example_without_a_label_is_left_out_and_equal_examples_are_not(data_root):
    cfg = compose("+experiment=full_set", "pool=dsr_sub", f"data_root={data_root}")
    problems = plan(cfg).problems
    chosen, notes = problems.chosen, problems.notes
    assert len(chosen) == 1208 and authors_data.UNLABELLED not in [row["index"] for row in chosen]
    assert notes == ["pool dsr_sub: example 265 has no label and is left out"]
    same = [row for row in chosen if row["index"] in authors_data.REPEATED]
    assert len(same) == 3 and len({row["prompt"] for row in same}) == 1
    rank = pools.ranking("dsr_sub", None, str(data_root)).index(authors_data.UNLABELLED) + 1
    cfg = compose("+experiment=one_shot", "pool=dsr_sub", f"train_set.ranks=[{rank}]", f"data_root={data_root}")
    with pytest.raises(DataError, match=rf"pi{rank} \(pool dsr_sub\): its label is empty"):
        plan(cfg).problems  # noqa: B018


def test_a_training_set_by_ranks_and_one_in_own_words(data_root):
    cfg = compose("+experiment=one_shot", "pool=dsr_sub", "train_set=pi1_to_pi16", f"data_root={data_root}")
    assert [row["index"] for row in plan(cfg).problems.chosen] == authors_data.FIRSTS
    cfg = compose("+experiment=one_shot", "pool=dsr_sub", "train_set=pi1_simplified", f"data_root={data_root}")
    assert plan(cfg).problems.chosen[0]["prompt"] == "Calculate $\\sqrt[3]{2048}$." + pools.INSTRUCTION


def test_math_in_the_authors_format(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = {
        "data_source": "math",
        "prompt": [{"content": "What is 1+1?" + pools.INSTRUCTION, "role": "user"}],
        "reward_model": {"ground_truth": "2", "style": "rule"},
    }
    (tmp_path / "train").mkdir()
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "train" / "math.parquet")
    cfg = compose("+experiment=full_set", "pool=math", "pool.size=1", f"data_root={tmp_path}")
    chosen = plan(cfg).problems.chosen
    assert [(r["answer"], r["source"]) for r in chosen] == [("2", "math")]
    cfg.pool.size = 7500
    with pytest.raises(DataError, match="pool.size=7500: pool math has 1 examples"):
        plan(cfg).problems  # noqa: B018
    del row["reward_model"]
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "train" / "math.parquet")
    with pytest.raises(DataError, match=r"math.parquet, example 1: has no reward_model.ground_truth"):
        plan(cfg).problems  # noqa: B018


def test_a_hub_that_cannot_be_reached(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="MATH-lighteval: cannot be loaded .* give a local copy") as error:
        pools.load_pool("math", None)
    assert "\n" not in str(error.value)


def test_what_the_hubs_cache_holds_needs_no_download(tmp_path, monkeypatch):
    """A cache as huggingface_hub lays it out, made by hand: of the revision that is asked for, and of no other."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    about = pools.MATH_ON_THE_HUB
    place = tmp_path / "hub" / f"datasets--{about['repository'].replace('/', '--')}" / "snapshots" / about["revision"]
    with downloads.without_downloads(), pytest.raises(downloads.NotAtHand, match="MATH-lighteval is downloaded when"):
        pools.load_pool("math", None)
    (place / "data").mkdir(parents=True)
    (place / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - {split: train, path: data/train-*}\n---\n"
    )
    row = {"problem": "1 + 1?", "level": "Level 1", "type": "Algebra", "solution": "It is \\boxed{2}."}
    pq.write_table(pa.Table.from_pylist([row]), place / "data" / "train-00000-of-00001.parquet")
    with downloads.without_downloads():
        (found,) = pools.load_pool("math", None)
        assert (found["prompt"], found["answer"], found["subject"]) == ("1 + 1?" + pools.INSTRUCTION, "2", "Algebra")
        with pytest.raises(downloads.NotAtHand):
            downloads.hub_rows(**about | {"revision": "0" * 40})


def test_the_authors_files_are_downloaded_once_and_checked(tmp_path, monkeypatch):
    """Through a real HTTP server with this machine's own address in place of the authors'."""
    content = json.dumps({"0": [0.5]}).encode()
    (tmp_path / "served" / "data").mkdir(parents=True)
    (tmp_path / "served" / "data" / "acc_step_500.json").write_bytes(content)
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path / "served")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(downloads, "AUTHORS", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        with pytest.raises(DataError, match="not the published file"):
            downloads.data_file(None, "train/acc_step_500.json")
        digest = hashlib.sha256(content).hexdigest()
        monkeypatch.setitem(downloads.AUTHORS_FILES, "train/acc_step_500.json", ("data/acc_step_500.json", digest))
        path = downloads.data_file(None, "train/acc_step_500.json")
        assert path.read_bytes() == content
        with pytest.raises(DataError, match="cannot be downloaded .*data_root=<clone>$"):
            downloads.data_file(None, "train/dsr_sub.parquet")
        server.shutdown()
    assert downloads.data_file(None, "train/acc_step_500.json") == path  # no server any more


@pytest.mark.parametrize("folder", [".", "data"])
def test_data_root_may_be_a_clone_of_the_authors_repository(folder, tmp_path, data_root):
    for name, (place, _) in downloads.AUTHORS_FILES.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(data_root / name, tmp_path / place)
    root, (first, *_) = str(tmp_path / folder), authors_data.FIRSTS
    assert pools.ranking("dsr_sub", None, root)[0] == first
    assert pools.load_pool("dsr_sub", root)[first]["answer"] == "803"
    assert len(benchmarks.load(benchmarks.select("minerva_math")[0], root)[0]) == 272


def test_benchmarks_without_a_network_say_what_to_give(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(downloads, "AUTHORS", "http://127.0.0.1:9/")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name, message in [("math500", "cannot be downloaded"), ("arc_easy", "ai2_arc: cannot be loaded")]:
        with pytest.raises(DataError, match=f"{message}.*data_root="):
            benchmarks.load(benchmarks.select(name)[0], None)


def test_ranking_by_variance():
    history = {"a": [0.5, 0.5], "b": [0, 1], "c": [], "d": [1, 1], "e": [0.25, 0.75, 0.25, 0.75]}
    assert pools.rank_by_variance(history) == ["b", "e", "a", "d", "c"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("1,0\n,1", "not a whole number"),
        ("1,0\n5,1", "expected each rank from 1 to 2"),
        ("1,0\n2,99999", "index 99999 is not in"),
    ],
)
def test_a_ranking_that_is_no_ranking_of_the_pool_is_refused(lines, message, tmp_path):
    (tmp_path / "r.csv").write_text(f"rank,index\n{lines}\n")
    with pytest.raises(DataError, match=message):
        pools.ranked_rows({"source": "tiny", "ranking": str(tmp_path / "r.csv")}, None, [1, 2])


def test_a_batch_is_filled_in_blocks():
    chosen = [{"index": i, "prompt": f"q{i}", "answer": str(i), "rank": i + 1, "source": "train"} for i in range(3)]
    rows = pools.training_rows(chosen, 8)
    assert [row["rank"] for row in rows] == [1, 1, 1, 2, 2, 2, 3, 3]
    assert len(pools.training_rows(chosen, 2)) == 3
