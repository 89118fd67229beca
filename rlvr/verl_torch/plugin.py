"""Registers the CPU platform, engines and rollout with verl. Loaded by verl itself through its `verl.plugins` entry point.

The platform is registered in every process. Everything else is registered only where `VERL_PLATFORM=cpu` selects it, so that
installing this package changes nothing for a GPU run. verl hides exceptions of a plug-in found through its entry point (it logs them
at debug level). So runs also name this module in `VERL_USE_EXTERNAL_MODULES`, and its exceptions end the process.
"""

import os
from functools import cache

from rlvr.verl_torch import platform  # noqa: F401  (registers the platform)


@cache
def register() -> None:
    """Make this process a verl process on a CPU; once."""
    from rlvr.verl_torch import patches

    patches.apply()

    from rlvr.verl_torch import rollout, trainer_engine  # noqa: F401  (register the engines and the rollout)


if os.environ.get("VERL_PLATFORM", "").strip().lower() == "cpu":
    register()
