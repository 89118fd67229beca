"""The model card beside the weights: how the model was made and what it does. model_card.md is filled in from `card.json`.

python -m rlvr.tiny.model_card model=my_base      # measure the model again and redraw its README.md
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlvr.cli import ConfigError, command, option
from rlvr.tiny.calibration import POOL_EXAMPLES, POOL_SAMPLES, measure
from rlvr.tiny.habits import MAX_RESPONSE_TOKENS

TEMPLATE = Path(__file__).with_name("model_card.md")  # the paper's tables and figures are those of arXiv 2504.20571v3
NOT_SHARES = ("entropy", "tokens")  # of the statistics; the rest is shown in percent


def draw(card: dict[str, Any]) -> str:
    """The text of README.md for what `write` stored."""
    shown = {key: value if key in NOT_SHARES else 100 * value for key, value in card["statistics"].items()}
    phases = "\n".join(
        f"| {name} | {p['tokens']:,} | {p['steps']:,} | {p['wall_s'] / 60:.1f} | {p['loss']:.4f} |"
        for name, p in card["phases"].items()
    )
    limits = {"limit": MAX_RESPONSE_TOKENS, "pool_examples": POOL_EXAMPLES, "pool_samples": POOL_SAMPLES}
    return TEMPLATE.read_text(encoding="utf-8").format(phases=phases, **limits, **shown, **card["made"])


def write(folder: Path, made: dict[str, Any], phases: dict[str, Any]) -> None:
    """Measure the model in `folder`; write card.json and README.md there. `made` and `phases` come from pretraining."""
    measured = {key: round(value, 4) for key, value in measure(str(folder)).items()}
    card = {"made": made, "phases": phases, "statistics": measured}
    (folder / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(draw(card), encoding="utf-8")


@dataclass
class Options:
    model: Path = option("a folder that rlvr.tiny.pretrain wrote")


def again(options: Options) -> None:
    """Measure and draw a model that has its card. ConfigError for another folder."""
    card = options.model / "card.json"
    if not card.exists():
        raise ConfigError(f"model={options.model}: has no card.json; give a folder that rlvr.tiny.pretrain wrote")
    known = json.loads(card.read_text(encoding="utf-8"))
    write(options.model, known["made"], known["phases"])


if __name__ == "__main__":
    sys.exit(command(Options, again, __doc__))
