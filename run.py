"""Trains: composes the configuration, checks it, and hands it to `rlvr.training.train_run`.

python run.py +experiment=one_shot                                        # a laptop, the tiny world
python run.py +experiment=one_shot scale=paper hardware=eight_gpus        # the paper
python run.py -m +experiment=one_shot,entropy_only seed=0,1,2             # six runs, one after the other
python run.py +experiment=one_shot example.question="What is 17*3?" example.answer=51
python run.py +experiment=one_shot base_model=<folder, GGUF file or id>   # any causal language model; id: of Hugging Face
python run.py +experiment=one_shot check=true                             # beside the paper; memory, disk, hours; no run
"""

import os
import sys
import time
from typing import TYPE_CHECKING

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from rlvr.cli import ConfigError
from rlvr.config.compose import check_restated, explain, prepare, protect_examples, quoted, runs_asked
from rlvr.config.schema import CONF, check
from rlvr.planning import check_report
from rlvr.training.signals import INTERRUPTED, listen

if TYPE_CHECKING:
    from rlvr.planning.plan import Plan

EXIT_CODES = {"finished": 0, "finished before": 0, "interrupted": INTERRUPTED, "failed": 1}
exit_codes: list[int] = []  # of every run of this process: a sweep goes on after a failed run
ended: list[tuple[str, str]] = []  # run folder, and how it ended
asked = 1


@hydra.main(config_path="conf", config_name="config", version_base="1.3")
def train(cfg: DictConfig) -> None:
    if asked > 1:
        print(f"run {len(ended) + 1} of {asked}", flush=True)
    how = "failed"
    try:
        protect_examples(cfg)
        check(cfg)
        if cfg.run_dir in dict(ended):
            raise ConfigError(
                f"{cfg.run_dir}: two runs of this sweep would share the folder: leave variant out, or vary it too"
            )
        from rlvr.planning.plan import plan
        from rlvr.training import start_checks, train_run

        if cfg.check:
            check_restated(cfg)
            planned = plan(cfg, download=False)
            check_report.report(planned, start_checks.check(planned, here=False))
            print(f"{cfg.run_dir}: the configuration is sound")
            how = "sound"
            return
        started = time.monotonic()
        planned = plan(cfg)
        how = train_run.train(planned, start_checks.check(planned, here=True))
        exit_codes.append(EXIT_CODES[how])
        if how == "interrupted":  # nor does the rest of a sweep start
            raise KeyboardInterrupt
        if how == "finished":
            summarise(planned, time.monotonic() - started)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        exit_codes.append(1)
        how = f"refused: {error}"
    finally:
        if asked > 1:
            ended.append((cfg.run_dir if cfg.experiment_name else "no experiment", how))


def summarise(planned: "Plan", wall_s: float) -> None:
    """Print the table of a finished run, and draw its post-saturation figure into the run folder."""
    from rich.console import Console

    from analysis.post_saturation import report
    from analysis.run_data import load_run
    from rlvr.runs.evaluations import evaluations
    from rlvr.training.console import summary_table

    screen, folder = Console(), planned.folder
    benchmarks = {b.name: evaluations(folder, b.name) for b in planned.benchmarks}
    run = load_run(folder)
    screen.print(summary_table(benchmarks, run.saturation, int(run.metrics.index.max()), wall_s))
    screen.print("\n".join([*report(run), f"figure: {folder.figure_path}"]), highlight=False, soft_wrap=True)


def main() -> None:
    # Hydra then raises instead of printing, so that its errors can be explained in one line.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    prepare()
    if {"-h", "--help"} & set(sys.argv[1:]):  # Hydra would compose the whole configuration first
        print(OmegaConf.load(CONF / "hydra" / "help" / "rlvr.yaml").template)
        return
    listen()
    global asked
    try:
        sys.argv[1:] = map(quoted, sys.argv[1:])
        if {"-m", "--multirun"} & set(sys.argv[1:]):
            asked = runs_asked(sys.argv[1:])
        train()
    except ConfigError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        if INTERRUPTED not in exit_codes:  # before there was a run that could say it
            print("interrupted; nothing was started", file=sys.stderr)
        exit_codes.append(INTERRUPTED)
    except (HydraException, YAMLError) as error:
        sys.exit(f"error: {explain(error)}")
    if asked > 1:
        for place, how in ended:
            print(f"{place}  {how}")
        if len(ended) < asked:
            print(f"{asked - len(ended)} of {asked} runs were not started")
    sys.exit(max(exit_codes, default=0))


if __name__ == "__main__":
    main()
