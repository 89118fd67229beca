"""From a checked plan to a finished run folder: write the data, start or resume verl's trainer, record how it ended.

The driver process loads neither torch nor verl: `ray_cluster.train` runs the trainer, and this follows the run folder until
the trainer has ended or failed.
"""

import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from omegaconf import DictConfig
from rich.console import Console

from rlvr.cli import ConfigError
from rlvr.data import pools, prepare, scales
from rlvr.evaluate.answer_store import Store
from rlvr.planning import fidelity, machine
from rlvr.planning.plan import Plan
from rlvr.runs import provenance
from rlvr.runs.folder import RunFolder, open_run
from rlvr.runs.plain_files import DamagedFile, RunFolderError, write_atomically
from rlvr.training import console, ray_cluster, weights
from rlvr.training.progress import Follower

Outcome = Literal["finished", "finished before", "interrupted", "failed"]


def train(plan: Plan, notes: list[str]) -> Outcome:
    """Run or resume; a finished run is not touched. notes: of start_checks, printed first.

    Raises RunFolderError if the folder cannot be made or locked. Later failures are printed and recorded.
    """
    cfg = plan.config.copy()
    folder = open_run(cfg.run_dir, plan.stored_config)
    with folder:
        if folder.state == "finished":
            print(f"{folder.path}: finished already; seed=<n> or variant=<name> starts another run")
            return "finished before"
        begun = False
        with console.capture_output(folder.log_path) as screen:
            try:
                screen.print(f"run folder: {folder.path}", soft_wrap=True, highlight=False)
                for note in notes:
                    screen.print(note, soft_wrap=True, highlight=False, markup=False)
                prepare.write_rows(folder, plan.problems.training_rows, plan.problems.test_rows)
                for protocol in plan.benchmarks:
                    examples = pools.examples_of(plan.problems.test_rows, protocol)
                    Store(folder, protocol, protocol.record(cfg.seed, examples)).note()
                step = folder.resume_step()
                changed = _keep_reward(cfg, folder, step)
                write_atomically(folder.fidelity_path, json.dumps(fidelity.compare(cfg), indent=1) + "\n")
                cfg.actor_rollout_ref.model.path = cfg.critic.model.path = weights.local_path(cfg, folder)
                folder.check_checkpoint(step)
                folder.rewind(step)
                if step:
                    screen.print(f"resuming at step {step}")
                elif plan.problems.to_probe:
                    _probe(plan, cfg.actor_rollout_ref.model.path, screen)
                known = len(provenance.changes(folder))
                provenance.begin(folder, step, changed)
                begun = True
                for change in provenance.changes(folder)[known:]:
                    screen.print("from here on {key}: {old} → {new}".format_map(change), highlight=False)
                benchmark = scales.shown(cfg.scale.name, [row.name for row in plan.benchmarks])
                with Follower(screen, folder, cfg.scale, benchmark):
                    ray_cluster.train(_from_step(cfg, folder, step), folder, plan.devices)
            except BaseException as error:
                return _ended_early(folder, screen, error, begun)
            provenance.end(folder, "finished")
    return "finished"


def _ended_early(folder: RunFolder, screen: Console, error: BaseException, begun: bool) -> Outcome:
    """Print why a run ended, and record it unless it was refused before it had begun."""
    if (problem := folder.cannot_write()) is not None:  # the cause, whichever error was raised
        error = RunFolderError(problem)
    ending: provenance.Ending = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
    if begun:
        with suppress(OSError, DamagedFile):  # its state then stays "running", and it is shown as died
            provenance.end(folder, ending, console.root_cause(error))
    console.report_failure(screen, error, folder.log_path)
    return ending


def _probe(plan: Plan, model_path: str, screen: Console) -> None:
    """Show and store (data/probe.json) the base model's answers to the examples, with warnings.

    Left out if it would take hours: a GPU run on a machine without a GPU, or a processor that is too slow.
    """
    from rlvr.planning import base_model_probe

    if plan.devices.device == "cuda" and not machine.count_gpus():
        return _not_probed(screen, "this machine has no GPU; start the run where one is, or example.probe_samples=0")
    plan.folder.phase_path.write_text("asking the base model")
    scale = plan.config.scale
    sampling = {name: scale[name] for name in ("temperature", "top_p", "top_k")} | {
        "max_tokens": scale.max_response_tokens
    }
    chosen, samples = plan.problems.chosen, plan.problems.to_probe
    try:
        found = base_model_probe.probe(chosen, model_path, plan.model.template, samples, sampling, plan.config.seed)
    except TimeoutError as error:
        return _not_probed(screen, f"{error}; lower example.probe_samples")
    for one in found:
        screen.print(base_model_probe.table(one))
        if (warning := one.warning()) is not None:
            screen.print(f"warning: {warning}", soft_wrap=True, highlight=False)
    (plan.folder.data_dir / "probe.json").write_text(json.dumps([asdict(one) for one in found], indent=1))


def _not_probed(screen: Console, why: str) -> None:
    screen.print(f"the base model's answers to the examples are not sampled: {why}", soft_wrap=True)


def _keep_reward(cfg: DictConfig, folder: RunFolder, step: int) -> list[provenance.Change]:
    """A copy of the user's reward file in the run folder; every process of the run reads this copy.

    A reward that made the run fail may be corrected: the run goes on with the new file after `step`, and the old one is kept
    as reward.<n>.py. Returns that change.
    """
    if cfg.reward_rule.file is None:
        return []
    changed: list[provenance.Change] = []
    copy, text = folder.data_dir / "reward.py", Path(cfg.reward_rule.file).read_text()
    if copy.exists() and copy.read_text() != text:
        if folder.ending() != "failed":
            raise ConfigError(
                f"reward_rule.file={cfg.reward_rule.file}: differs from the one this run began with, and the run did not "
                "fail: give variant=<name>"
            )
        kept = copy.with_name(f"reward.{len(list(folder.data_dir.glob('reward.*.py'))) + 1}.py")
        write_atomically(kept, copy.read_text())
        changed.append(provenance.Change(step=step, key="reward_rule.file", old=kept.name, new=copy.name))
    write_atomically(copy, text)
    cfg.reward.custom_reward_function.reward_kwargs.file = str(copy)
    return changed


def _from_step(cfg: DictConfig, folder: RunFolder, step: int) -> DictConfig:
    """The config with verl's resume settings for that step; verl itself would take its newest checkpoint."""
    cfg = cfg.copy()
    cfg.trainer.resume_mode = "resume_path" if step else "disable"
    cfg.trainer.resume_from_path = str(folder.checkpoint_path(step)) if step else None
    return cfg
