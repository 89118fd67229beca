"""verl's FSDP2 engines for device "cpu": the language model (actor, reference) and the value model (critic).

Departures from verl's CUDA engines:
1. A forward-only engine (the reference) asks FSDP2 to offload parameters to pinned host memory; on a CPU they are
   there already and pinning fails, so no offload policy is used.
2. FSDP1 is not registered: it refuses a CPU (`sync_module_states`).
"""

from torch.distributed.fsdp import OffloadPolicy
from verl.workers.engine import EngineRegistry
from verl.workers.engine.fsdp import transformer_impl
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead, FSDPEngineWithValueHead


class _WithoutOffload:
    """Builds the FSDP2 module with every parameter where it is."""

    def _build_fsdp_module(self, module):
        original = transformer_impl.CPUOffloadPolicy
        transformer_impl.CPUOffloadPolicy = lambda pin_memory=True: OffloadPolicy()
        try:
            return super()._build_fsdp_module(module)
        finally:
            transformer_impl.CPUOffloadPolicy = original


@EngineRegistry.register(model_type="language_model", backend="fsdp2", device="cpu")
class CPUEngineWithLMHead(_WithoutOffload, FSDPEngineWithLMHead):
    """Actor and reference on a CPU."""


@EngineRegistry.register(model_type="value_model", backend="fsdp2", device="cpu")
class CPUEngineWithValueHead(_WithoutOffload, FSDPEngineWithValueHead):
    """Critic on a CPU."""
