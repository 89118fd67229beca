"""What W&B and TensorBoard are told: a resumed run goes on in the same W&B run, one begun anew is another."""

from rlvr.config.compose import compose
from rlvr.runs import provenance
from rlvr.runs.folder import RunFolder
from rlvr.training.ray_cluster import ray_environment


def test_a_resumed_run_keeps_its_wandb_run_and_a_new_one_gets_its_own(tmp_path, monkeypatch):
    cfg = compose("+experiment=no_kl", "seed=2", "tracking=online")
    folder = RunFolder(tmp_path / "tiny" / "tiny" / "no_kl" / "seed2")
    folder.path.mkdir(parents=True)
    folder.config_path.write_text("seed: 2\n")
    ids = []
    for begun, start in ((0, "2026-01-01T00:00:00"), (4, "2026-01-01T01:00:00"), (0, "2026-01-02T00:00:00")):
        monkeypatch.setattr(provenance, "now", lambda start=start: start)
        if not begun:
            folder.provenance_path.unlink(missing_ok=True)
        provenance.begin(folder, begun)
        told = ray_environment(cfg, folder, str(tmp_path))
        ids.append(told["WANDB_RUN_ID"])
        assert (told["WANDB_MODE"], told["WANDB_RESUME"]) == ("online", "allow")
        assert told["WANDB_TAGS"] == "no_kl,tiny,tiny,seed2"
    assert ids[0] == ids[1] != ids[2]


def test_tensorboard_writes_into_the_run_folder_and_wandb_is_off(tmp_path):
    cfg = compose("+experiment=one_shot", "tracking=tensorboard")
    folder = RunFolder(tmp_path)
    folder.config_path.write_text("seed: 0\n")
    provenance.begin(folder)
    told = ray_environment(cfg, folder, str(tmp_path))
    assert list(cfg.trainer.logger) == ["tensorboard"]
    assert (told["TENSORBOARD_DIR"], told["WANDB_MODE"]) == (str(tmp_path / "tensorboard"), "disabled")
