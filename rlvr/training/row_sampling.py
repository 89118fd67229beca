"""verl's single-turn agent loop, where each evaluation row is sampled as its benchmark says. GPU runs use it.

verl samples all validation rows alike; here MATH500 is greedy and AIME is eight samples at temperature 0.6 in one pass.
How many samples a row gets, verl reads from its `__rollout_n__` (rlvr.training.trainer). On a CPU `rlvr.verl_torch.agent_loop` does both.
"""

import logging
from typing import Any

from verl.experimental.agent_loop.agent_loop import AgentLoopOutput
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop
from verl.utils.tokenizer import continuous_token_wiring

from rlvr.verl_torch import private_names, stop_texts

private_names.check(__name__)

continuous_token_wiring.logger.setLevel(logging.ERROR)  # it warns of its default builder at every response, a line each


class RowSamplingAgentLoop(SingleTurnAgentLoop):
    """`extra_info.sampling` = {temperature, top_p, top_k, max_tokens, stop} of a row replaces what the configuration says."""

    def __init__(self, *args, **kwargs):
        # verl takes every model of type qwen2 for one with Qwen's turn tokens, and R1-Distill, which has DeepSeek's, ends at
        # that. One turn needs no knowledge of turns: its default builder does for all.
        super().__init__(*args, **kwargs | {"hf_model_type": None})

    async def run(self, sampling_params: dict[str, Any], **kwargs) -> AgentLoopOutput:
        own = (kwargs.get("extra_info") or {}).get("sampling") or {}
        own = {name: own[name] for name in ("temperature", "top_p", "top_k", "max_tokens") if own.get(name) is not None}
        if texts := stop_texts.of_row(kwargs.get("extra_info") or {}):
            own["stop_token_ids"] = list(stop_texts.token_ids(self.tokenizer, texts))
        return await super().run({**sampling_params, **own}, **kwargs)
