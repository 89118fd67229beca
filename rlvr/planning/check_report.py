"""What `check=true` prints: the differences from the paper, the memory and disk needed, and the estimated time. Needs no Ray or torch."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from rlvr.planning import fidelity
from rlvr.planning.plan import Plan
from rlvr.planning.resources import Needs

WIDTH = 132


def report(plan: Plan, notes: Sequence[str]) -> None:
    """Print what differs from paper and authors' code (`all=true`: every setting), the estimate, and the notes of the checks."""
    screen = Console(width=WIDTH, highlight=False)
    rows = fidelity.compare(plan.config)
    shown = rows if plan.config.all else [row for row in rows if row["mark"]]
    screen.print(fidelity.table(shown))
    if len(shown) < len(rows):
        screen.print(
            f"{len(rows) - len(shown)} more settings equal the paper's and the authors' code's (all=true shows them)"
        )
    screen.print()
    if plan.needs is None:
        screen.print(
            f"no estimate: the architecture of base model {plan.model.name} is unknown; set base_model.architecture"
        )
    else:
        screen.print(estimate_table(plan.needs))
    for note in notes:
        screen.print(note, soft_wrap=True, markup=False)


def estimate_table(needed: Needs) -> Table:
    """What the run needs, in words."""
    shown = Table(box=None, pad_edge=False, show_header=False)
    shown.add_row("parameters", f"{needed.parameters:,}")
    for name, value in _gpu_rows(needed):
        shown.add_row(name, value)
    shown.add_row("main memory", f"{needed.host_gib:.1f} GiB a node")
    shown.add_row(
        "disk", f"{needed.disk_gib:.2f} GiB, {needed.disk_peak_gib:.2f} at the peak, before old checkpoints are deleted"
    )
    formula = "by formula, " + ("uncalibrated" if needed.gpu_hours else "+- a factor of 2")
    source = f"measured in {needed.measured}" if needed.measured else formula
    total = f"{needed.hours:.1f} h" if needed.hours >= 1 else f"{60 * needed.hours:.0f} min"
    gpu_hours = f", {needed.gpu_hours:.0f} GPU-hours" if needed.gpu_hours else ""
    shown.add_row("time", f"{total}{gpu_hours}: {needed.step_s:.1f} s a step ({source})")
    return shown


def _gpu_rows(needed: Needs) -> list[tuple[str, Any]]:
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
