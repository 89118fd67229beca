"""From a checked config to a finished run folder: data, Ray, verl's trainer, final table and figure.

The driver process loads neither torch nor verl: it starts Ray, hands the resolved config to `rlvr.task.TaskRunner` and
follows the run folder until the trainer has ended or failed.
"""

import os
import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from rlvr import benchmarks, pools
from rlvr.run_folder import RunFolder


def write_data(cfg: DictConfig, folder: RunFolder) -> None:
    """Write the training and evaluation rows that verl reads; DataError when they cannot be had."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pool = pools.load_pool(cfg.pool.name, cfg.data_root)
    ranks = cfg.train_set.ranks if cfg.train_set.ranks == "all" else list(cfg.train_set.ranks)
    ranked = [] if ranks == "all" else pools.ranking(cfg.pool.name, cfg.pool.ranking, cfg.data_root)
    label = None if cfg.label is None else str(cfg.label)
    train = pools.training_rows(pool, ranked, ranks, cfg.scale.prompts_per_step, label)
    test = []
    for benchmark in cfg.scale.benchmarks:
        examples = benchmarks.load_benchmark(benchmark.dataset, cfg.data_root, benchmark.limit)
        sampling = {name: benchmark[name] for name in ("temperature", "top_p", "top_k", "n")}
        test += pools.evaluation_rows(examples, benchmark.name, sampling)
    folder.data_dir.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(train), folder.data_dir / "train.parquet")
    pq.write_table(pa.Table.from_pylist(test), folder.data_dir / "val.parquet")


def ray_environment(cfg: DictConfig, folder: RunFolder) -> dict[str, str]:
    """Environment of every Ray process of the run."""
    variables = {
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]),
        "WANDB_MODE": {"online": "online", "offline": "offline", "off": "disabled"}[cfg.tracking],
        "WANDB_DIR": str(folder.path),
        "WANDB_SILENT": "true",
    }
    if cfg.hardware.device == "cpu":
        # The phases of a step follow one another, so each process may use all cores of its share; a thread that waits
        # must sleep, or the waiting processes take the cores from the working one.
        threads = max(1, (os.cpu_count() or 1) // cfg.hardware.devices_per_node)
        variables |= {
            "VERL_PLATFORM": "cpu",
            "VERL_USE_EXTERNAL_MODULES": "rlvr.verl_cpu.plugin",
            "OMP_NUM_THREADS": str(threads),
            "OMP_WAIT_POLICY": "PASSIVE",
            "CUDA_VISIBLE_DEVICES": "",
        }
    return variables


def train(cfg: DictConfig, folder: RunFolder) -> None:
    """Run verl's trainer to its end. Raises what the trainer raised."""
    import ray

    from rlvr.task import TaskRunner

    arguments = OmegaConf.to_container(cfg.ray_kwargs.ray_init, resolve=True)
    runtime_env = arguments.pop("runtime_env", None) or {}
    runtime_env["env_vars"] = ray_environment(cfg, folder) | (runtime_env.get("env_vars") or {})
    ray.init(**arguments, runtime_env=runtime_env)
    try:
        ray.get(ray.remote(TaskRunner).options(num_cpus=0).remote().run.remote(cfg))
    finally:
        ray.shutdown()
