"""A user's own reward: its time limit, and one that failed and was mended."""

import json

import pytest

from rlvr.cli import ConfigError
from rlvr.config.compose import compose
from rlvr.planning.plan import plan
from rlvr.runs.folder import RunFolder
from rlvr.training import start_checks, train_run


def own_reward(tmp_path, text):
    reward = tmp_path / "mine.py"
    reward.write_text(text)
    return compose(
        "+experiment=one_shot", f"reward_rule.file={reward}", "reward_rule.seconds=0.3", f"runs_dir={tmp_path}"
    )


def test_an_endless_reward_is_named_before_ray_starts(tmp_path):
    endless = "def reward(response, label, info):\n    while True: pass\n"
    with pytest.raises(ConfigError, match="mine.py:reward took more than 0.3 s") as refusal:
        start_checks.check(plan(own_reward(tmp_path, endless)), here=True)
    assert "\n" not in str(refusal.value)


def test_a_reward_that_failed_may_be_mended_and_both_versions_stay(tmp_path):
    cfg = own_reward(tmp_path, "broken")
    folder = RunFolder(tmp_path / "run")
    folder.data_dir.mkdir(parents=True)
    folder.config_path.write_text("seed: 0\n")
    assert train_run._keep_reward(cfg, folder, 0) == []
    (tmp_path / "mine.py").write_text("mended")
    for status in ("running", "interrupted", "failed"):
        folder.provenance_path.write_text(json.dumps({"status": status}))
        if status != "failed":
            with pytest.raises(ConfigError, match="differs from the one this run began with"):
                train_run._keep_reward(cfg, folder, 18)
    change = {"step": 18, "key": "reward_rule.file", "old": "reward.1.py", "new": "reward.py"}
    assert train_run._keep_reward(cfg, folder, 18) == [change]
    assert (folder.data_dir / "reward.py").read_text() == "mended"
    assert (folder.data_dir / "reward.1.py").read_text() == "broken"
