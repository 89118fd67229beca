"""The pass/fail gate of an evaluation: is the gain in accuracy large enough, with the given confidence?"""

from __future__ import annotations

from rich.console import Console

from rlvr.cli import ConfigError
from rlvr.evaluate import metrics
from rlvr.evaluate.answer_store import Store
from rlvr.evaluate.evaluated_models import EvaluatedModels


def check(models: EvaluatedModels, stores: list[Store], min_gain: float, confidence: float, screen: Console) -> int:
    """Print each benchmark's gain from the base model to the last step with its paired interval.

    Returns the exit code: 0 if the low end of every interval reaches `min_gain`, else 2 (errors have 1).
    """
    last = max(models.models)
    if not last:
        raise ConfigError("gate.min_gain: nothing to compare with the base model; give a run with a checkpoint")
    passed = True
    for store in stores:
        for step in (0, last):
            if not store.complete(step):
                raise ConfigError(f"gate.min_gain: {store.protocol.name} is not evaluated at step {step}")
        before, after = (metrics.read_columns(store.path(step)) for step in (0, last))
        gain = metrics.paired_gain(before, after, confidence)
        enough = gain.low >= min_gain
        passed &= enough
        text = f"gate: {store.protocol.name}, step 0 to {last}: {gain * 100:+.1f}, at least {100 * min_gain:+.1f} wanted with "
        text += f"{100 * confidence:g} % confidence: {'passed' if enough else 'not passed'}"
        screen.print(text, soft_wrap=True, highlight=False)
    return 0 if passed else 2
