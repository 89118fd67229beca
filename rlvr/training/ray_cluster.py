"""Ray for a run: its environment and scratch folder, a cluster to join or a new local Ray, and verl's trainer inside it."""

import hashlib
import os
import platform
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from omegaconf import DictConfig, OmegaConf

from rlvr.cli import ConfigError, usable_cores
from rlvr.config.schema import CONF
from rlvr.planning import machine
from rlvr.planning.machine import Devices
from rlvr.runs.folder import RunFolder
from rlvr.runs.plain_files import read_json
from rlvr.training import signals
from rlvr.training.guardian import guarded

SCRATCH, OWNER = "rlvr-", "owner"
# The longest path of Ray's sockets below its folder (a process id has up to seven digits), and the most bytes of such a path.
SOCKET = "ray/session_2026-01-31_23-59-59_999999_1234567/sockets/plasma_store"
LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107

# By default glibc returns blocks of 32 MiB and more to the system when they are freed, and each micro-batch then takes page faults
# for them again: 1.7 million, and two thirds of the time, in a loop that only fills such blocks. With these settings it keeps them.
# Other C libraries ignore the variable.
KEPT_MEMORY = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=1099511627776:glibc.malloc.trim_threshold=1099511627776"
}


def train(cfg: DictConfig, folder: RunFolder, asked: Devices) -> None:
    """Run verl's trainer to its end. asked: what the run asks of the machine. Raises what the trainer raised."""
    import ray

    from rlvr.training import watchdog
    from rlvr.training.task_runner import TaskRunner

    address = asked.cluster
    folder.phase_path.write_text(f"joining Ray at {address}" if address else "starting Ray")
    arguments = OmegaConf.to_container(cfg.ray_kwargs.ray_init)
    runtime_env = arguments.pop("runtime_env", None) or {}
    with scratch_folder() as scratch:
        if address:  # the cluster knows its own resources
            arguments = {k: v for k, v in arguments.items() if k not in ("num_cpus", "num_gpus", "include_dashboard")}
            arguments["address"] = address
            _use_token()
        else:
            arguments.setdefault("_temp_dir", f"{scratch}/ray")
            # Ray's spare processes have another environment, so a run cannot use them.
            arguments.setdefault("_system_config", {"prestart_worker_first_driver": False})
        runtime_env["env_vars"] = ray_environment(cfg, folder, scratch) | (runtime_env.get("env_vars") or {})
        over = threading.Event()
        try:
            _start_ray(arguments | {"runtime_env": runtime_env}, over)
            signals.listen()  # Ray's C++ has taken SIGTERM meanwhile
            if (
                address
            ):  # not for a local Ray, whose resources are known: Ray ends the process if this answer takes too long
                machine.check_cluster(asked, ray.cluster_resources())
            runner = ray.remote(TaskRunner).options(num_cpus=0).remote()
            watchdog.wait_for(runner.run.remote(cfg), folder, cfg.watchdog)
        finally:
            ray.shutdown()
            over.set()


def _use_token() -> None:
    """Send a cluster the token that Ray keeps in the home folder.

    `ray start` requires it once it exists, and `ray.init` sends it only to a cluster that it finds without an address.
    """
    with suppress(ImportError):  # a Ray without tokens
        from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available

        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


def _start_ray(arguments: Mapping[str, Any], over: threading.Event) -> None:
    """Start Ray or join a cluster, in a thread of its own.

    Why a thread: Ray waits in C++, where Python handles no signal, and in the main thread it replaces the handler of SIGTERM. The
    thread lives until `over` is set, because Ray's processes end with the thread that started them.

    ConfigError if no cluster answers. A failed start is not repeated: Ray's clients end the process when they lose the control
    store.
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
            "Ray did not start within its own limit of 30 s, the machine may be too busy; run the same command again"
        ) from None
    started.result()


@contextmanager
def scratch_folder() -> Iterator[str]:
    """A temporary folder for Ray's session and for files of verl and W&B, removed at the end of the `with` block.

    Folders whose driver was killed are removed too: an empty file in each names the driver.
    """
    base, owner = Path(tempfile.gettempdir()), f"{OWNER}-{_process_table()}-"
    if len(os.fsencode(base / f"{SCRATCH}12345678" / SOCKET)) > LONGEST_SOCKET:
        base = Path("/tmp")
    for left in base.glob(f"{SCRATCH}*/{owner}*"):
        if not psutil.pid_exists(int(left.name.removeprefix(owner))):
            shutil.rmtree(left.parent, ignore_errors=True)
    folder = tempfile.mkdtemp(prefix=SCRATCH, dir=base)
    Path(folder, f"{owner}{os.getpid()}").touch()
    with guarded(folder):
        yield folder


def _process_table() -> str:
    """An id of this machine's (or container's) process table: several of them may share the temporary folder."""
    try:
        seen_by = Path("/proc/sys/kernel/random/boot_id").read_text() + os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux
        seen_by = f"{platform.node()} {psutil.boot_time()}"
    return hashlib.sha256(seen_by.encode()).hexdigest()[:16]


def wandb_id(folder: RunFolder) -> str:
    """Equal for every start of a run; different for a new run in the same folder."""
    begun = f"{folder.path.parts[-4:]} {read_json(folder.provenance_path)['start']}"
    return hashlib.sha256(begun.encode()).hexdigest()[:12]


def ray_environment(cfg: DictConfig, folder: RunFolder, scratch: str) -> dict[str, str]:
    """Environment of every Ray process of the run."""
    here = str(CONF.parent)
    variables = {
        # Ray's processes import this checkout, also if another one is installed.
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
        # The phases of a step follow one another, so each process may use all cores of its share. A waiting thread spins for
        # 0.3 ms, then sleeps. Sleeping at once costs a third of the speed. Spinning without end (the default) takes the cores from
        # the process that works: one run was 25 times slower.
        threads = max(1, usable_cores() // cfg.hardware.devices_per_node)
        variables |= {
            "VERL_PLATFORM": "cpu",
            "VERL_USE_EXTERNAL_MODULES": "rlvr.verl_torch.plugin",
            "OMP_NUM_THREADS": str(threads),
            "GOMP_SPINCOUNT": "100000",
            **KEPT_MEMORY,
            "TQ_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }
    else:  # as verl's own launcher
        variables |= {"VLLM_DISABLE_COMPILE_CACHE": "1", "VLLM_LOGGING_LEVEL": "WARN", "NCCL_DEBUG": "WARN"}
        if cfg.actor_rollout_ref.rollout.name == "torch":
            variables["VERL_USE_EXTERNAL_MODULES"] = "rlvr.verl_torch.rollout"
    return variables
