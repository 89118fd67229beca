"""From a checked config to a finished run folder: data, Ray, verl's trainer, final table.

The driver process loads neither torch nor verl: it starts Ray, hands the resolved config to `rlvr.training.task_runner.TaskRunner` and
follows the run folder until the trainer has ended or failed.
"""

import hashlib
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from rlvr.cli import ConfigError
from rlvr.config.schema import CONF
from rlvr.data import downloads, protocols
from rlvr.data import prepare as data
from rlvr.evaluate.answer_store import Store
from rlvr.planning import fidelity, machine, prompt_lengths
from rlvr.runs import provenance
from rlvr.runs.folder import RunFolder, open_run
from rlvr.runs.plain_files import DamagedFile, RunFolderError, read_json, write_atomically
from rlvr.training import console, rewards, signals
from rlvr.training.guardian import guarded

SCRATCH = "rlvr-"
LONGEST_TEMPORARY = 24


def launch(cfg: DictConfig, summarise: Callable[[DictConfig, RunFolder, Console, float], None]) -> int:
    """Run, resume, or report a finished run; returns the process's exit code.

    `summarise(cfg, folder, screen, wall_s)` is called after the last step.
    Raises ConfigError or RunFolderError for what can be known before anything heavy starts.
    """
    machine.check_machine(cfg)
    cfg, prepared = ready(cfg)
    folder = open_run(cfg.run_dir, OmegaConf.to_container(cfg))
    with folder:
        if folder.state == "finished":
            print(f"{folder.path}: finished already; seed=<n> or variant=<name> starts another run")
            return 0
        started, begun = time.monotonic(), False
        with console.capture_output(folder.log_path) as screen:
            try:
                screen.print(f"run folder: {folder.path}", soft_wrap=True, highlight=False)
                for note in prepared.notes:
                    screen.print(note, soft_wrap=True, highlight=False)
                data.write_rows(folder, prepared)
                for protocol in protocols.of_run(cfg):
                    Store(folder, protocol, protocol.record(cfg.seed)).note()
                step = folder.resume_step()
                changed = _keep_reward(cfg, folder, step)
                write_atomically(folder.fidelity_path, json.dumps(fidelity.compare(cfg), indent=1) + "\n")
                if cfg.base_model.gguf_file:
                    cfg.actor_rollout_ref.model.path = cfg.critic.model.path = _converted(cfg, folder)
                elif cfg.base_model.revision is not None:
                    cfg.actor_rollout_ref.model.path = cfg.critic.model.path = _pinned(cfg, folder)
                folder.check_checkpoint(step)
                folder.rewind(step)
                if step:
                    screen.print(f"resuming at step {step}")
                elif own_labels(cfg):
                    _probe(cfg, prepared, folder, screen)
                known = len(provenance.changes(folder))
                provenance.begin(folder, step, changed)
                begun = True
                for change in provenance.changes(folder)[known:]:
                    screen.print("from here on {key}: {old} → {new}".format_map(change), highlight=False)
                benchmark = protocols.shown(cfg.scale.name, [row.name for row in protocols.of_run(cfg)])
                with console.Follower(screen, folder, cfg.scale, benchmark):
                    train(_from_step(cfg, folder, step), folder)
            except BaseException as error:
                return _ended_early(folder, screen, error, begun)
            provenance.end(folder, "finished")
            summarise(cfg, folder, screen, time.monotonic() - started)
    return 0


def _ended_early(folder: RunFolder, screen: Console, error: BaseException, begun: bool) -> int:
    """Print why a run ended, and record it unless it was refused before it had begun; returns the exit code."""
    if (problem := folder.cannot_write()) is not None:  # whatever was raised where, this is the cause
        error = RunFolderError(problem)
    if begun:
        ending: provenance.Ending = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        with suppress(OSError, DamagedFile):  # it then stays "running", and reads as died
            provenance.end(folder, ending, console.root_cause(error))
    return console.report_failure(screen, error, folder.log_path)


def plan(cfg: DictConfig) -> list[str]:
    """What `ready` says of a run that is only planned, perhaps for another machine: nothing is downloaded to be checked."""
    with downloads.without_downloads():
        try:
            return ready(cfg.copy())[1].notes
        except downloads.NotAtHand as error:
            return [f"not checked: {error}"]


def ready(cfg: DictConfig) -> tuple[DictConfig, data.Data]:
    """The resolved config and the data of a run, after everything that can be known to fail has been asked.

    Raises ConfigError or RunFolderError; what may go wrong is in the data's notes. Loads neither Ray nor torch.
    """
    cfg = _resolved(cfg)
    if not cfg.base_model.gguf_file:
        machine.check_weights(cfg.actor_rollout_ref.model.path)
    machine.check_place(cfg)
    prepared = data.prepare(cfg)
    _check_reward(cfg, prepared)
    prepared.notes += prompt_lengths.check(cfg, prepared.train, prepared.test)
    prepared.notes += machine.check_fits(cfg)
    return cfg, prepared


def _resolved(cfg: DictConfig) -> DictConfig:
    """Plain data with absolute paths: the processes of a run have other working folders, and none of our resolvers."""
    OmegaConf.set_struct(cfg, False)
    cfg.run_dir = str(Path(cfg.run_dir).resolve())
    for group, key in ((cfg, "data_root"), (cfg.reward_rule, "file")):
        if group[key] is not None:
            group[key] = str(Path(group[key]).resolve())
    if (own := data.own_examples(cfg)) is not None:
        # With their text in the config, a file edited between two starts is another run, not a silent change of this one.
        cfg.train_set.examples, cfg.train_set.ranks, cfg.train_set.name = own, None, "own"
    return OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))


def own_labels(cfg: DictConfig) -> bool:
    """Whether the examples or their label are the user's own, so that nobody knows yet what the model makes of them."""
    own = any(cfg.example[key] is not None for key in ("question", "file")) or cfg.label.text is not None
    return own and cfg.example.probe_samples > 0


def _probe(cfg: DictConfig, prepared: data.Data, folder: RunFolder, screen: Console) -> None:
    """Show, warn about and store (data/probe.json) what the base model answers to the examples.

    Left out where that would take hours: a GPU run that is started on a machine without one, or too slow a processor.
    """
    from rlvr.planning import base_model_probe

    if cfg.hardware.device == "cuda" and not machine.count_gpus():
        return _not_probed(screen, "this machine has no GPU; start the run where one is, or example.probe_samples=0")
    folder.phase_path.write_text("asking the base model")
    sampling = {name: cfg.scale[name] for name in ("temperature", "top_p", "top_k")}
    sampling["max_tokens"] = cfg.scale.max_response_tokens
    path, template, samples = cfg.actor_rollout_ref.model.path, cfg.base_model.template, cfg.example.probe_samples
    try:
        found = base_model_probe.probe(prepared.chosen, path, template, samples, sampling, cfg.seed)
    except TimeoutError as error:
        return _not_probed(screen, f"{error}; lower example.probe_samples")
    for one in found:
        screen.print(base_model_probe.table(one))
        if (warning := one.warning()) is not None:
            screen.print(f"warning: {warning}", soft_wrap=True, highlight=False)
    (folder.data_dir / "probe.json").write_text(json.dumps([asdict(one) for one in found], indent=1))


def _not_probed(screen: Console, why: str) -> None:
    screen.print(f"the base model is not asked what it answers to the examples: {why}", soft_wrap=True)


def _check_reward(cfg: DictConfig, prepared: data.Data) -> None:
    """ConfigError when the user's own reward cannot be loaded, or fails on the first example's own label."""
    if cfg.reward_rule.file is None:
        return
    row = prepared.train[0]
    label = row["reward_model"]["ground_truth"]
    arguments = {key: cfg.reward_rule[key] for key in ("file", "function", "seconds")}
    rewards.compute_score("train", f"\\boxed{{{label}}}", label, row["extra_info"], **arguments)


def _keep_reward(cfg: DictConfig, folder: RunFolder, step: int) -> list[provenance.Change]:
    """The user's reward as it was, beside the run's data; every process of the run reads this copy.

    One that made the run fail may be mended: the run goes on with the new one after `step`, and the old one is kept as
    reward.<n>.py. Returns that change.
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


def _converted(cfg: DictConfig, folder: RunFolder) -> str:
    """The Hugging Face folder made from a packaged GGUF file."""
    from rlvr.training.gguf import converted

    folder.phase_path.write_text("converting the GGUF weights")
    return str(converted(cfg.base_model, Path(cfg.runs_dir).resolve()))


def _pinned(cfg: DictConfig, folder: RunFolder) -> str:
    """The folder of the model at `base_model.revision`, downloaded once; verl itself takes the newest of an id."""
    from huggingface_hub import snapshot_download

    folder.phase_path.write_text("fetching the base model")
    path, revision = cfg.base_model.path, cfg.base_model.revision
    try:
        return snapshot_download(path, revision=revision)
    except Exception as error:  # huggingface_hub raises its own and its HTTP library's errors
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"base_model.revision={revision}: {path} cannot be had at it ({reason}); "
            "give a network, or base_model.path=<folder> base_model.revision=null"
        ) from None


def _from_step(cfg: DictConfig, folder: RunFolder, step: int) -> DictConfig:
    """The config with verl's resume settings for that step; verl itself would take its newest checkpoint."""
    cfg = cfg.copy()
    cfg.trainer.resume_mode = "resume_path" if step else "disable"
    cfg.trainer.resume_from_path = str(folder.checkpoint_path(step)) if step else None
    return cfg


def train(cfg: DictConfig, folder: RunFolder) -> None:
    """Run verl's trainer to its end. Raises what the trainer raised."""
    import ray

    from rlvr.training import watchdog
    from rlvr.training.task_runner import TaskRunner

    address = machine.ray_address(cfg)
    folder.phase_path.write_text(f"joining Ray at {address}" if address else "starting Ray")
    arguments = OmegaConf.to_container(cfg.ray_kwargs.ray_init)
    runtime_env = arguments.pop("runtime_env", None) or {}
    with scratch_folder() as scratch:
        if address:  # what there is, the cluster says
            arguments = {k: v for k, v in arguments.items() if k not in ("num_cpus", "num_gpus", "include_dashboard")}
            arguments["address"] = address
            _use_token()
        else:
            arguments.setdefault("_temp_dir", f"{scratch}/ray")
            # Ray's spare processes have another environment than a run's, and so serve it nothing.
            arguments.setdefault("_system_config", {"prestart_worker_first_driver": False})
        runtime_env["env_vars"] = ray_environment(cfg, folder, scratch) | (runtime_env.get("env_vars") or {})
        over = threading.Event()
        try:
            _start_ray(arguments | {"runtime_env": runtime_env}, over)
            signals.listen()  # Ray's C++ has taken SIGTERM meanwhile
            if address:  # asked only where it is not known: Ray ends the process when the answer takes too long
                check_cluster(cfg, ray.cluster_resources(), address)
            runner = ray.remote(TaskRunner).options(num_cpus=0).remote()
            watchdog.wait_for(runner.run.remote(cfg), folder, cfg.watchdog)
        finally:
            ray.shutdown()
            over.set()


def _use_token() -> None:
    """Show a cluster the token that Ray has made in this home: `ray start` asks for it as soon as one is there, and `ray.init`
    shows it only to a cluster that it finds by itself.
    """
    with suppress(ImportError):  # a Ray without tokens
        from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available

        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


def _start_ray(arguments: Mapping[str, Any], over: threading.Event) -> None:
    """Start Ray or join its cluster, in a thread: Ray waits in C++, where no signal is heard, and takes SIGTERM for itself in
    the main one. The thread stays until `over`: Ray's processes end with the thread that started them.

    ConfigError where no cluster answers. A start that failed is not tried again here: its clients end the process when their
    control store stays away.
    """
    import ray

    def start() -> None:
        try:
            started.set_result(ray.init(**arguments))
            over.wait()
        except BaseException as error:
            started.set_exception(error)

    started: Future = Future()
    threading.Thread(target=start, name="ray.init", daemon=True).start()
    while not wait([started], timeout=1).done:
        pass
    error = started.exception()
    if isinstance(error, ConnectionError):
        reason = str(error).splitlines()[0][:200]
        raise ConfigError(f"ray.address={arguments.get('address')}: no Ray cluster answers there ({reason})") from None
    if "timed out during startup" in str(error):
        raise TimeoutError(
            "Ray did not start within its own limit of 30 s, as on a machine that is too busy: the same command tries again"
        ) from None
    started.result()


def check_cluster(cfg: DictConfig, resources: Mapping[str, float], address: str) -> None:
    """ConfigError when a Ray cluster has fewer devices or CPU slots in all than the run takes."""
    where = f"the cluster at {address}"
    devices, there = cfg.hardware.nodes * cfg.hardware.devices_per_node, resources.get("GPU", 0)
    if devices > there:
        raise ConfigError(
            f"hardware={cfg.hardware.name}: needs {devices} devices on {cfg.hardware.nodes} node(s), {where} has {there:g} in "
            "all: start Ray on more nodes, with --num-gpus where they have none, or lower hardware.nodes"
        )
    machine.check_slots(cfg, resources.get("CPU", 0), where)


@contextmanager
def scratch_folder() -> Iterator[str]:
    """A temporary folder for Ray's session and for what verl and W&B leave behind, removed at the end of a `with` block.

    Those that killed drivers left are removed too: the name says whose it is.
    """
    # Ray's sockets lie deep below it, and the path of a socket has at most 107 characters.
    base = Path(tempfile.gettempdir() if len(tempfile.gettempdir()) <= LONGEST_TEMPORARY else "/tmp")
    for left in base.glob(f"{SCRATCH}*"):
        owner = left.name.removeprefix(SCRATCH).partition("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists() and Path("/proc/self").exists():
            shutil.rmtree(left, ignore_errors=True)
    folder = tempfile.mkdtemp(prefix=f"{SCRATCH}{os.getpid()}-", dir=base)
    with guarded(folder):
        yield folder


def wandb_id(folder: RunFolder) -> str:
    """The same for every start of a run, another for a run begun anew in the same place."""
    begun = f"{folder.path.parts[-4:]} {read_json(folder.provenance_path)['start']}"
    return hashlib.sha256(begun.encode()).hexdigest()[:12]


def ray_environment(cfg: DictConfig, folder: RunFolder, scratch: str) -> dict[str, str]:
    """Environment of every Ray process of the run."""
    here = str(CONF.parent)
    variables = {
        # The code of this checkout, whichever one is installed: only the driver has it on its path by itself.
        "PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")])),
        "TOKENIZERS_PARALLELISM": "false",
        "WANDB_MODE": cfg.tracking if cfg.tracking in ("online", "offline") else "disabled",
        # A resumed run goes on in the same run of W&B: its id is that of the folder.
        "WANDB_RUN_ID": wandb_id(folder),
        "WANDB_RESUME": "allow",
        "WANDB_TAGS": ",".join([cfg.experiment_name, cfg.scale.name, cfg.base_model.name, f"seed{cfg.seed}"]),
        "WANDB_DIR": str(folder.path),
        "TENSORBOARD_DIR": str(folder.path / "tensorboard"),
        "WANDB_CACHE_DIR": scratch,
        "WANDB_DATA_DIR": scratch,
        "TMPDIR": scratch,
        "WANDB_SILENT": "true",
    }
    if cfg.hardware.device == "cpu":
        # The phases of a step follow one another, so each process may use all cores of its share. A thread that waits
        # spins for 0.3 ms and then sleeps: sleeping at once costs a third of the speed, spinning on (the default) takes
        # the cores from the process that works, and one run was 25 times slower for it.
        threads = max(1, len(os.sched_getaffinity(0)) // cfg.hardware.devices_per_node)
        variables |= {
            "VERL_PLATFORM": "cpu",
            "VERL_USE_EXTERNAL_MODULES": "rlvr.verl_torch.plugin",
            "OMP_NUM_THREADS": str(threads),
            "GOMP_SPINCOUNT": "100000",
            "TQ_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }
    else:  # as verl's own launcher
        variables |= {"VLLM_DISABLE_COMPILE_CACHE": "1", "VLLM_LOGGING_LEVEL": "WARN", "NCCL_DEBUG": "WARN"}
        if cfg.actor_rollout_ref.rollout.name == "torch":
            variables["VERL_USE_EXTERNAL_MODULES"] = "rlvr.verl_torch.rollout"
    return variables
