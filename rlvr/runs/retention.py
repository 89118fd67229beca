"""Decides which checkpoints stay on disk: the newest resumable ones whole, of the others only the weights for evaluation.

    checkpoints/global_step_<k>/data.pt                 present as long as the checkpoint can be resumed from
    checkpoints/global_step_<k>/actor/*.pt  critic/     sharded weights, optimiser, random state: 12 bytes a parameter each
    checkpoints/global_step_<k>/actor/huggingface/      what `transformers` and vLLM load

The authors keep everything, about 2.5 TB for a run of 100 checkpoints. verl's own limit (`max_actor_ckpt_to_keep`) deletes
a checkpoint with its weights, so it is off. Checkpoints are deleted after a step's metrics are on disk: until then a run resumes
from the checkpoint before.
"""

import shutil
from pathlib import Path

from omegaconf import DictConfig

from rlvr.runs import adapters
from rlvr.runs.folder import RunFolder
from rlvr.runs.plain_files import read_json, write_json


def apply(folder: RunFolder, retention: DictConfig, save_every: int) -> None:
    """Delete what `retention` does not keep of the checkpoints of a run. Safe to call again, also after a crash at any point."""
    steps = folder.checkpoint_steps()
    resumable = [step for step in steps if folder.is_resumable(step)]
    kept = resumable if retention.states is None else resumable[-retention.states :]
    for step in steps:
        adapters.merge(folder.weights_path(step))
        checkpoint = folder.checkpoint_path(step)
        if step not in kept:
            strip_state(checkpoint)
            if step != steps[-1] and (step // save_every) % retention.weights_every:
                shutil.rmtree(checkpoint)
                continue
        convert_weights(folder.weights_path(step), retention.weights_dtype)


def strip_state(checkpoint: Path) -> None:
    """Delete a checkpoint except its Hugging Face folder; first `data.pt`, which marks it as resumable."""
    (checkpoint / "data.pt").unlink(missing_ok=True)
    for item in [*checkpoint.glob("*"), *checkpoint.glob("actor/*")]:
        if item.name in ("actor", "huggingface"):
            continue
        if item.is_dir():
            shutil.rmtree(item)
        else:
            item.unlink()


def convert_weights(weights: Path, dtype: str) -> None:
    """Convert the tensors of a Hugging Face folder to `dtype` (bfloat16 or float32), one file at a time."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    stored_as = {"bfloat16": "BF16", "float32": "F32"}[dtype]
    for file in sorted(weights.glob("*.safetensors")):
        with safe_open(file, framework="pt") as stored:
            names = list(stored.keys())
            if all(stored.get_slice(name).get_dtype() == stored_as for name in names):
                continue
            tensors = {name: stored.get_tensor(name).to(getattr(torch, dtype)) for name in names}
            metadata = stored.metadata()
        temporary = file.with_name(f".{file.name}.tmp")
        save_file(tensors, temporary, metadata)
        temporary.replace(file)
    config = weights / "config.json"
    described = read_json(config)
    if described.get("dtype") != dtype:
        write_json(config, described | {"dtype": dtype})
