"""Merges the LoRA adapters of a checkpoint into its weights, so that transformers and vLLM can load them.

verl saves base weights and adapters side by side in the Hugging Face folder (`...q_proj.base_layer.weight`,
`...lora_A.default.weight`), a format that nothing loads. It stores the adapters' scale in lora_train_meta.json.
"""

import shutil
from pathlib import Path

from rlvr.runs.plain_files import read_json, write_json

PREFIX, BASE = "base_model.model.", ".base_layer.weight"
A, B = ".lora_A.default.weight", ".lora_B.default.weight"
INDEX = "model.safetensors.index.json"


def merge(weights: Path) -> None:
    """Replace `weights`, a checkpoint's Hugging Face folder, by one of a plain model: W + alpha / r B A, computed in float32.

    A folder without adapters stays as it is. Safe to call again, also after a crash at any point.
    """
    from safetensors import safe_open
    from safetensors.torch import save_file

    merged = weights.with_name(f"{weights.name}.merged")
    if not weights.exists() and merged.exists():
        merged.rename(weights)
    shutil.rmtree(merged, ignore_errors=True)
    about = weights.parent / "lora_train_meta.json"
    files = sorted(weights.glob("*.safetensors"))
    place: dict[str, Path] = {}
    for file in files:
        with safe_open(file, framework="pt") as stored:
            place |= dict.fromkeys(stored.keys(), file)
    if not about.exists() or not any(name.endswith(A) for name in place):
        return

    def tensor(name: str):
        with safe_open(place[name], framework="pt") as stored:
            return stored.get_tensor(name)

    scale = read_json(about)["lora_alpha"] / read_json(about)["r"]
    tied = read_json(weights / "config.json").get("tie_word_embeddings", False)
    shutil.copytree(weights, merged, ignore=shutil.ignore_patterns("*.safetensors", INDEX))
    index: dict[str, str] = {}
    for file in files:
        tensors = {}
        for name in (name for name, where in place.items() if where == file and not name.endswith((A, B))):
            weight, layer = tensor(name), name.removesuffix(BASE)
            if name.endswith(BASE) and layer + A in place:
                weight = (weight.float() + scale * tensor(layer + B).float() @ tensor(layer + A).float()).to(weight.dtype)
            plain = name.removeprefix(PREFIX).replace(".base_layer.", ".")
            if not (tied and plain == "lm_head.weight"):
                tensors[plain] = weight.contiguous()
        save_file(tensors, merged / file.name, {"format": "pt"})
        index |= dict.fromkeys(tensors, file.name)
    if len(files) > 1:
        write_json(merged / INDEX, {"metadata": {}, "weight_map": index})
    shutil.rmtree(weights)
    merged.rename(weights)
