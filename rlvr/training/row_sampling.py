"""verl's single-turn agent loop, with each evaluation row sampled as its benchmark requires. GPU runs use it.

verl samples all validation rows alike. Here MATH500 is greedy and AIME has eight samples at temperature 0.6 in one pass.
The number of samples of a row is its `__rollout_n__` (rlvr.training.trainer). On a CPU `rlvr.verl_torch.agent_loop` does both.
"""

import logging
from typing import Any

from verl.experimental.agent_loop.agent_loop import AgentLoopOutput
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop
from verl.utils.tokenizer import continuous_token_wiring

from rlvr.verl_torch import private_names, stop_texts

private_names.check(__name__)

continuous_token_wiring.logger.setLevel(logging.ERROR)  # it warns about its default builder at every response


class RowSamplingAgentLoop(SingleTurnAgentLoop):
    """`extra_info.sampling` = {temperature, top_p, top_k, max_tokens, stop} of a row replaces what the configuration says."""

    def __init__(self, *args, **kwargs):
        # verl assumes Qwen's turn tokens for every model of type qwen2, and fails for R1-Distill, which has DeepSeek's. For a
        # single turn its default builder works for all models.
        super().__init__(*args, **kwargs | {"hf_model_type": None})

    async def run(self, sampling_params: dict[str, Any], **kwargs) -> AgentLoopOutput:
        own = (kwargs.get("extra_info") or {}).get("sampling") or {}
        own = {name: own[name] for name in ("temperature", "top_p", "top_k", "max_tokens") if own.get(name) is not None}
        if texts := stop_texts.of_row(kwargs.get("extra_info") or {}):
            own["stop_token_ids"] = list(stop_texts.token_ids(self.tokenizer, texts))
        return await super().run({**sampling_params, **own}, **kwargs)
