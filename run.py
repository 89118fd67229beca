"""Trains: composes the configuration, checks it, and hands it to `rlvr.launch`.

python run.py +experiment=one_shot                                        # a laptop, the tiny world
python run.py +experiment=one_shot scale=paper hardware=eight_gpus        # the paper
python run.py -m +experiment=one_shot,entropy_only seed=0,1,2             # six runs, one after the other
python run.py +experiment=one_shot check=true                             # check the configuration only
"""

import os
import sys

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from yaml import YAMLError

from rlvr.compose import explain, prepare
from rlvr.config import ConfigError, check


@hydra.main(config_path="conf", config_name="config", version_base="1.3")
def train(cfg: DictConfig) -> None:
    try:
        check(cfg)
        if cfg.check:
            print(f"{cfg.run_dir}: the configuration is sound")
            return
        from rlvr.launch import launch  # brings verl, ray and torch, which --help and check=true do without

        launch(cfg)
    except ConfigError as error:
        sys.exit(f"error: {error}")


def main() -> None:
    os.environ.setdefault(
        "HYDRA_FULL_ERROR", "1"
    )  # Hydra raises instead of printing, so that an error can be explained
    prepare()
    try:
        train()
    except (HydraException, YAMLError) as error:
        sys.exit(f"error: {explain(error)}")


if __name__ == "__main__":
    main()
