"""The one function of torch that is replaced, because verl has no option for it on a CPU."""

import torch.distributed

from rlvr.verl_torch import private_names

private_names.check(__name__)


def apply() -> None:
    """Let verl ask torch for "cpu:gloo,<device>:<backend>", which on a CPU names the device twice."""
    original = torch.distributed.init_process_group

    def init_process_group(backend=None, *args, **kwargs):
        return original("cpu:gloo" if backend == "cpu:gloo,cpu:gloo" else backend, *args, **kwargs)

    torch.distributed.init_process_group = init_process_group
