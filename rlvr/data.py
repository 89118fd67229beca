"""Writes the two Parquet files that verl reads: the training rows and the rows of all benchmarks."""

from omegaconf import DictConfig

from rlvr import benchmarks, pools
from rlvr.run_folder import RunFolder


def training_rows(cfg: DictConfig) -> list[dict]:
    """verl's rows of the chosen examples; DataError when they cannot be had."""
    chosen = pools.load_pool(cfg.pool.source, cfg.data_root)
    if cfg.train_set.ranks != "all":
        ranked = pools.ranking(cfg.pool.source, cfg.pool.ranking, cfg.data_root)
        chosen = pools.chosen_rows(chosen, ranked, list(cfg.train_set.ranks))
    label = None if cfg.label is None else str(cfg.label)
    return pools.training_rows(chosen, cfg.scale.prompts_per_step, label)


def evaluation_rows(cfg: DictConfig) -> list[dict]:
    """verl's rows of every benchmark, each with its own sampling."""
    rows = []
    for benchmark in cfg.scale.benchmarks:
        examples = benchmarks.load_benchmark(benchmark.dataset, cfg.data_root, benchmark.limit)
        sampling = {name: benchmark[name] for name in ("temperature", "top_p", "top_k", "n")}
        rows += pools.evaluation_rows(examples, benchmark.name, sampling)
    return rows


def write_rows(folder: RunFolder, train: list[dict], test: list[dict]) -> None:
    """Write data/train.parquet and data/val.parquet of a run."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.data_dir.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(train), folder.data_dir / "train.parquet")
    pq.write_table(pa.Table.from_pylist(test), folder.data_dir / "val.parquet")
