"""What vLLM's CPU build needs to take new weights as a GPU's does. vLLM loads it in its own processes, through an entry point.

That build packs the weight of every linear layer for oneDNN and throws the original away, so that verl's weight sync, which
loads into the original, finds nothing there. Here the original stays and is multiplied as it is.
"""

import torch


def register() -> None:
    from vllm.model_executor.layers import utils

    def dispatch_cpu_unquantized_gemm(layer, remove_weight):
        layer.cpu_linear = torch.nn.functional.linear

    if not callable(utils.dispatch_cpu_unquantized_gemm):
        raise RuntimeError("vLLM no longer packs weights in dispatch_cpu_unquantized_gemm")
    utils.dispatch_cpu_unquantized_gemm = dispatch_cpu_unquantized_gemm
