"""The options of `python -m rlvr.serve`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rlvr.cli import option

Dtype = Literal["float32", "bfloat16", "float16"]


@dataclass
class Options:
    run: Path | None = option("the run folder", None)
    model: str | None = option("instead of a run: a Hugging Face id or folder", None)
    step: str = option("which checkpoint: best, last, or its number; 0 is the base model", "best")
    name: str | None = option("what the model is called; default: the run's and the step", None)
    base_too: bool = option("serve the untrained model as `base` beside it", True)
    base: str | None = option("the untrained model, where it has moved since the run", None)
    template: str | None = option("prompt template; default: the run's own, for a model chat", None)
    host: str = option("address to listen at", "127.0.0.1")
    port: int = option("0: any that is free", 8000, at_least=0)
    key_file: Path | None = option("a file with the key that requests must give; default: $RLVR_API_KEY", None)
    gate: Literal["on", "off"] = option("compare the model with its reported score before serving it", "on")
    gate_problems: int = option("how many problems that takes", 64, at_least=1)
    engine: Literal["torch", "vllm"] = option("what answers", "torch")
    python: Path | None = option("of engine=vllm: the interpreter of an environment that has it", None)
    device: Literal["cpu", "cuda"] | None = option("of engine=torch; default: a GPU where there is one", None)
    dtype: Dtype | None = option("default: float32 on a CPU, bfloat16 on a GPU", None)
    rows: int = option("answers decoded at once, on each core (engine=torch)", 128, at_least=1)
    queue: int = option("answers that may be waiting or under way", 1024, at_least=1)
    seconds: float = option("that a request may take, waiting included", 300.0, at_least=0.1)
    body_bytes: int = option("that a request may have", 1_000_000, at_least=1)
    data_root: Path | None = option("folder with the benchmarks' files, for the gate; default: the run's", None)
