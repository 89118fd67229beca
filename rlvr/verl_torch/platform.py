"""The platform `cpu`: what verl asks of an accelerator, answered for a processor.

Departures from a real accelerator, each on purpose:
1. Ray sees logical device slots (`ray.init(num_gpus=N)`): verl asks Ray for accelerator ids, which only the resource
   named GPU has. No GPU is touched.
2. Memory figures are 0: there is no device memory to report.
"""

import types
from contextlib import nullcontext

import torch
from verl.plugin.platform import PlatformBase, PlatformRegistry

from rlvr.verl_torch import private_names

private_names.check(__name__)


def _nothing(*args, **kwargs) -> None: ...


def _cpu_device_module() -> types.ModuleType:
    """`torch.cpu` completed with the functions of `torch.cuda` that verl calls."""
    module = types.ModuleType("rlvr.verl_torch.device")
    functions = {name: value for name, value in vars(torch.cpu).items() if not name.startswith("__")}
    for name in ("memory_allocated", "memory_reserved", "max_memory_allocated", "max_memory_reserved"):
        functions[name] = lambda *args, **kwargs: 0
    for name in ("reset_peak_memory_stats", "empty_cache", "ipc_collect", "set_device", "synchronize"):
        functions[name] = _nothing
    vars(module).update(functions)
    vars(module).update(
        is_available=lambda: True,
        current_device=lambda: "cpu",
        device_count=lambda: 1,
        get_device_name=lambda *args: "cpu",
        get_device_properties=lambda *args: types.SimpleNamespace(name="cpu", total_memory=0),
        mem_get_info=lambda *args: (0, 0),
        manual_seed=torch.manual_seed,
        manual_seed_all=torch.manual_seed,
        get_rng_state=lambda *args: torch.get_rng_state(),
        set_rng_state=lambda state, *args: torch.set_rng_state(state),
    )
    return module


@PlatformRegistry.register(platform="cpu")
class PlatformCPU(PlatformBase):
    """verl's platform interface for a CPU. Selected by `VERL_PLATFORM=cpu`, never by auto-detection."""

    device_name = vendor_name = "cpu"
    device_module = _cpu_device_module()
    manual_seed = manual_seed_all = staticmethod(torch.manual_seed)
    set_device = synchronize = set_allocator_settings = empty_cache = _nothing
    profiler_start = profiler_stop = cudart = _nothing

    def is_available(self):
        return True

    def is_platform_available(self, use_smi_check=False):
        return False

    def current_device(self):
        return "cpu"

    def device_count(self):
        return 1

    def get_device_capability(self, device_index=0):
        return None, None

    def communication_backend_name(self):
        return "gloo"

    def visible_devices_envvar(self):
        return "CUDA_VISIBLE_DEVICES"

    def nvtx_range(self, msg):
        return nullcontext()

    def ray_resource_name(self):
        return "GPU"

    def ray_noset_envvars(self):
        return []

    def is_ipc_supported(self):
        return False
