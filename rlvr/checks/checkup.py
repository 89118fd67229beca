"""What `check=true` says before a run: is it the paper's, does it fit, how long does it take. Needs neither Ray nor torch."""

from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from rlvr.checks import estimate, fidelity, preflight
from rlvr.data import prepare as data

WIDTH = 132


def report(cfg: DictConfig) -> None:
    """Print the fidelity table and the estimate; ConfigError for examples that cannot be trained on, or what cannot fit this machine."""
    if cfg.data_root or cfg.pool.source.startswith("tiny") or data.own_examples(cfg) is not None:
        data.chosen_examples(cfg)  # what is at hand; nothing is downloaded to be checked
    machine = preflight.machine(cfg)
    needed = estimate.estimate(cfg, machine)
    screen = Console(width=WIDTH, highlight=False)
    screen.print(fidelity.table(fidelity.compare(cfg)))
    screen.print()
    if needed is None:
        screen.print(f"no estimate: base_model.architecture of {cfg.base_model.name} is not known here")
        return
    screen.print(estimate_table(cfg, needed))
    estimate.refuse(cfg, needed, machine)


def estimate_table(cfg: DictConfig, needed: estimate.Estimate) -> Table:
    """What the run needs, in words."""
    shown = Table(box=None, pad_edge=False, show_header=False)
    shown.add_row("parameters", f"{needed.parameters:,}")
    for name, value in _gpu_rows(cfg, needed):
        shown.add_row(name, value)
    shown.add_row("main memory", f"{needed.host_gib:.1f} GiB a node")
    shown.add_row("disk", f"{needed.disk_gib:.2f} GiB, {needed.disk_peak_gib:.2f} at its fullest (retention)")
    source = f"measured in {needed.measured}" if needed.measured else "by formula, +- a factor of 2"
    total = f"{needed.hours:.1f} h" if needed.hours >= 1 else f"{60 * needed.hours:.0f} min"
    gpu_hours = f", {needed.gpu_hours:.0f} GPU-hours" if needed.gpu_hours else ""
    shown.add_row("time", f"{total}{gpu_hours}: {needed.step_s:.1f} s a step ({source})")
    return shown


def _gpu_rows(cfg: DictConfig, needed: estimate.Estimate) -> list[tuple[str, Any]]:
    if not needed.parts:
        return []
    parts = ", ".join(f"{name} {gib:.1f}" for name, gib in needed.parts.items() if gib)
    return [
        ("GPU memory, update", f"{needed.update_gib:.1f} GiB a GPU"),
        (
            "GPU memory, rollout",
            f"{needed.rollout_gib:.1f} GiB a GPU; {needed.kv_sequences} full-length answers at once",
        ),
        ("of which", f"{parts} GiB"),
    ]
