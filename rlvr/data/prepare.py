"""The problems of a run: examples from the pool or the user's own, their labels, and the two Parquet files that verl reads."""

from omegaconf import DictConfig, OmegaConf

from rlvr.cli import DataError
from rlvr.data import labels, pools
from rlvr.data import own_examples as examples
from rlvr.data.labels import matched
from rlvr.runs.folder import RunFolder
from rlvr.runs.free_text import as_written


def own_examples(cfg: DictConfig) -> list[dict[str, str]] | None:
    """{question, answer} of `example.*`, else of `train_set.examples`; None when the pool's ranks decide."""
    one, several = (as_written(OmegaConf.to_container(group, resolve=True)) for group in (cfg.example, cfg.train_set))
    if one["file"] is not None:
        return examples.read_examples(one["file"])
    if one["question"] is not None:
        return [examples.checked(one, "example")]
    rows = enumerate(several["examples"] or [], start=1)
    return [examples.checked(row, f"train_set.examples, example {i}") for i, row in rows] or None


def chosen_examples(cfg: DictConfig, own: list[dict[str, str]] | None) -> tuple[list[dict], list[str]]:
    """Pool rows with the labels to train on, and notes. own: of `own_examples`. DataError for a label that cannot reward anything."""
    notes: list[str] = []
    if own is not None:
        chosen = pools.own_pool(own, cfg.pool.source)
    else:
        pool = pools.load_pool(cfg.pool.source, cfg.data_root)
        if len(pool) != cfg.pool.size:
            raise DataError(f"pool.size={cfg.pool.size}: pool {cfg.pool.name} has {len(pool)} examples")
        if cfg.train_set.ranks == "all":
            chosen = [row for row in pool if row["answer"].strip()]
            for row in pool:
                if not row["answer"].strip():
                    notes.append(f"pool {cfg.pool.name}: example {row['index']} has no label and is left out")
        else:
            chosen = pools.ranked_rows(cfg.pool, cfg.data_root, list(cfg.train_set.ranks), pool)
    text = None if cfg.label.text is None else as_written(str(cfg.label.text))
    chosen = labels.with_labels(chosen, text, cfg.label.wrong_share, cfg.label.seed)
    if cfg.label.replaces is not None:
        _check_replaced(chosen, cfg.label.name, text, str(cfg.label.replaces))
    few = own is not None or text is not None or len(chosen) < cfg.scale.prompts_per_step
    if few and cfg.reward_rule.file is None:  # which labels fit the user's own reward is not known
        chosen, more = with_checked_labels(chosen, cfg.pool.name, shipped=own is None and text is None)
        notes += more
    return chosen, notes


def _check_replaced(chosen: list[dict], label: str, text: str | None, replaces: str) -> None:
    """DataError for a label that makes sense for one example only (12.7 for 12.8) and is used with another."""
    for row in chosen:
        if row["true_answer"] != replaces:
            raise DataError(
                f"label={label}: {text} stands in for {replaces}, the label of the paper's pi1, and example {row['index']} has "
                f"{row['true_answer']!r}: give the paper's pool (scale=paper), or label.text and label.replaces=null"
            )


def with_checked_labels(chosen: list[dict], pool: str, shipped: bool) -> tuple[list[dict], list[str]]:
    """The rows with labels that a natural answer can match, and a note on each that was rewritten for it.

    shipped: the labels are a published pool's, and are not rewritten. DataError for an empty label, or one that nothing matches.
    """
    named = [f"pi{row['rank']} (pool {pool})" if row.get("rank") else f"example {row['index'] + 1}" for row in chosen]
    for row, name in zip(chosen, named, strict=True):
        if not row["answer"].strip():
            raise DataError(
                f"{name}: its label is empty, so nothing can be rewarded: choose another, or give label.text"
            )
    labels, notes = matched([row["answer"] for row in chosen], named, shipped)
    return [{**row, "answer": label} for row, label in zip(chosen, labels, strict=True)], notes


def refuse_other_rows(folder: RunFolder, training_rows: list[dict], test_rows: list[dict]) -> None:
    """DataError if a resumed run would continue with other problems or labels than those it began with."""
    import pyarrow.parquet as pq

    for rows, name in ((training_rows, "train"), (test_rows, "val")):
        path = folder.data_dir / f"{name}.parquet"
        if folder.last_step() < 0 or not path.exists():
            continue
        stored = pq.read_table(path, columns=["data_source", "prompt", "reward_model"]).to_pylist()
        then, now = (
            {(row["data_source"], row["prompt"][0]["content"], row["reward_model"]["ground_truth"]) for row in some}
            for some in (stored, rows)
        )
        if then != now:
            source, question, label = min(now - then or then - now)
            raise DataError(
                f"{path}: this run began with other problems or labels (of {source}: {question[:60]!r}, label {label!r}): "
                "give back the file they came from, or variant=<name>"
            )


def write_rows(folder: RunFolder, training_rows: list[dict], test_rows: list[dict]) -> None:
    """Write data/train.parquet and data/val.parquet of a run."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.data_dir.mkdir(parents=True, exist_ok=True)
    for rows, name in ((training_rows, "train"), (test_rows, "val")):
        pq.write_table(pa.Table.from_pylist(rows), folder.data_dir / f"{name}.parquet")
