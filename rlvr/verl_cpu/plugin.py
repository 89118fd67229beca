"""Registers the CPU platform, engines and rollout with verl. Loaded by verl itself through its `verl.plugins` entry point.

The platform is registered in every process; everything else only where `VERL_PLATFORM=cpu` selects it, so that an
installation of this package changes nothing for a GPU run. verl swallows a plug-in's exception (it logs it at debug
level), therefore a failure here is kept and raised again when the platform is used.
"""

import os

from rlvr.verl_cpu import platform  # noqa: F401  (registers the platform)

if os.environ.get("VERL_PLATFORM", "").strip().lower() == "cpu":
    from rlvr.verl_cpu import patches

    patches.apply()

    from verl.workers.rollout.base import _ROLLOUT_REGISTRY
    from verl.workers.rollout.replica import RolloutReplicaRegistry

    from rlvr.verl_cpu import engine  # noqa: F401  (registers the engines)

    def _load_replica():
        from rlvr.verl_cpu.rollout import TorchReplica

        return TorchReplica

    RolloutReplicaRegistry.register("torch_cpu", _load_replica)
    _ROLLOUT_REGISTRY[("torch_cpu", "async")] = "rlvr.verl_cpu.rollout.TorchRolloutAdapter"
