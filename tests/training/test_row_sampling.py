"""The agent loop of GPU runs takes every tokenizer."""

import asyncio
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

import rlvr.tiny

TOKENIZER = Path(rlvr.tiny.__file__).with_name("model") / "tokenizer.json"


def test_a_model_of_type_qwen2_without_qwens_turn_tokens_is_sampled():
    """As DeepSeek-R1-Distill-Qwen: neither <|im_end|> nor an unknown token."""
    from verl.experimental.agent_loop.agent_loop import DictConfigWrap
    from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop

    from rlvr.training.row_sampling import RowSamplingAgentLoop

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_file(str(TOKENIZER)), eos_token="<|endoftext|>", pad_token="<|pad|>"
    )
    rollout = {"actor_rollout_ref": {"rollout": {"prompt_length": 64, "response_length": 96}}}

    async def made(loop):
        config = DictConfigWrap(OmegaConf.create(rollout))
        return loop(config, None, tokenizer, None, None, DictConfigWrap(OmegaConf.create({})), hf_model_type="qwen2")

    assert asyncio.run(made(RowSamplingAgentLoop)).continuous_token_builder is not None
    with pytest.raises(Exception, match="im_end"):
        asyncio.run(made(SingleTurnAgentLoop))
