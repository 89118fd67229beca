"""A base model without a file in conf/base_model: a folder of one's own."""

from pathlib import Path

import rlvr.tiny
from rlvr.config.compose import compose, quoted

MODEL = Path(rlvr.tiny.__file__).with_name("model")


def test_a_folder_is_a_base_model():
    cfg = compose("+experiment=one_shot", quoted(f"base_model={MODEL}"))
    assert (cfg.base_model.name, cfg.base_model.path) == ("model", str(MODEL))
    assert (cfg.base_model.template, cfg.base_model.context_tokens) == ("chat", 512)
    assert cfg.actor_rollout_ref.model.path == str(MODEL)
