"""The one place where verl leaves no seam for a CPU. The patch checks what it replaces and fails loudly."""

import inspect

import torch.distributed


def apply() -> None:
    """Let verl ask torch for "cpu:gloo,<device>:<backend>", which on a CPU names the device twice."""
    original = torch.distributed.init_process_group
    if "backend" not in inspect.signature(original).parameters:
        raise RuntimeError("rlvr.verl_torch: torch.distributed.init_process_group no longer takes `backend`")

    def init_process_group(backend=None, *args, **kwargs):
        return original("cpu:gloo" if backend == "cpu:gloo,cpu:gloo" else backend, *args, **kwargs)

    torch.distributed.init_process_group = init_process_group
