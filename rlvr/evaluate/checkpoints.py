"""The base model and the kept checkpoints of a run, checked before an engine starts. Does not load torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open

from rlvr.cli import ConfigError
from rlvr.data import gguf
from rlvr.runs.config_changes import in_this_copy
from rlvr.runs.folder import RunFolder
from rlvr.runs.metrics_file import metrics_lines


def fault(path: Path) -> str | None:
    """Why a model folder cannot be loaded (missing or half-written); None if it can."""
    if not path.is_dir():
        return "no such folder"
    try:
        json.loads((path / "config.json").read_text())
    except OSError:
        return "has no config.json"
    except ValueError:
        return "config.json is cut off"
    files = set(path.glob("*.safetensors"))
    index = path / "model.safetensors.index.json"
    if index.exists():
        try:
            files |= {path / name for name in json.loads(index.read_text())["weight_map"].values()}
        except (ValueError, KeyError):
            return "model.safetensors.index.json is cut off"
    if not files:
        return "has no *.safetensors"
    for file in sorted(files):
        try:
            with safe_open(file, "np"):  # compares the length of the file with its header
                pass
        except FileNotFoundError:
            return f"{file.name} is missing"
        except (SafetensorError, OSError) as error:
            return f"{file.name} is cut off or cannot be read ({error})"
    return None


def base_path(folder: RunFolder, given: str | None) -> str:
    """The untrained model of a run: `given`, or the path in the run's config. ConfigError if it cannot be loaded."""
    path = given or in_this_copy(str(folder.config()["actor_rollout_ref"]["model"]["path"]))
    if gguf.is_gguf(path):
        return gguf.local_folder(path)
    if path.startswith(("/", ".")) and (problem := fault(Path(path))):
        raise ConfigError(f"base model {path}: {problem}; give base=<folder or Hugging Face id>")
    return path


def choose(folder: RunFolder, steps: str) -> tuple[list[int], dict[int, str]]:
    """Kept steps to evaluate, in order, and damaged ones that are left out, with the reason.

    `steps` is all, last, best, or numbers (`20,40`); 0 is the base model. ConfigError if a step given by number, or the last
    one, is missing or damaged.
    """
    kept = folder.checkpoint_steps()
    faults = {step: problem for step in kept if (problem := fault(folder.weights_path(step)))}
    whole = [step for step in kept if step not in faults]
    if steps == "all":
        return whole, faults
    if steps == "last":
        wanted = kept[-1:]
    elif steps == "best":
        wanted = [_best(folder, whole)]
    else:
        numbers = steps.strip("[]").split(",")
        if not all(number.strip().isdigit() for number in numbers):
            raise ConfigError(f"steps={steps}: expected all, last, best, or numbers such as 20,40")
        wanted = sorted(set(map(int, numbers)))
    for step in wanted:
        if step and step not in kept:
            raise ConfigError(f"steps={step}: {folder.checkpoints_dir} keeps {', '.join(map(str, kept)) or 'none'}")
        if step in faults:
            raise ConfigError(f"{folder.weights_path(step)}: {faults[step]}")
    return [step for step in wanted if step], {}


def selection(accuracies: Mapping[str, float]) -> float:
    """The number by which a model is chosen: its accuracy on `validation`, else the mean over its benchmarks.

    The paper chooses by the mean over the test sets themselves (B.5), so the accuracy of the chosen model is too high.
    """
    return accuracies.get("validation", sum(accuracies.values()) / len(accuracies))


def _best(folder: RunFolder, kept: list[int]) -> int:
    """The kept step with the best evaluation during training; of a tie the earlier."""
    scores: dict[int, float] = {}
    for line in metrics_lines(folder.metrics_path):
        accuracies = {k.split("/")[1]: v for k, v in line.items() if k.startswith("eval/") and k.endswith("/accuracy")}
        if accuracies and line["step"] in kept:
            scores[line["step"]] = selection(accuracies)
    if not scores:
        raise ConfigError(f"steps=best: training evaluated no kept step of {folder.path}; give numbers, steps=[...]")
    return max(scores, key=lambda step: (scores[step], -step))
