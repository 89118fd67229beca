"""The agent loop of GPU runs takes every tokenizer, and asks each row as its benchmark says."""

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


def test_an_evaluation_row_ends_at_its_stop_texts_and_a_training_row_at_the_end_token():
    """What reaches verl's server; the text that is no single token is cut when the answer is judged."""
    from transformers import AutoTokenizer
    from verl.experimental.agent_loop.agent_loop import DictConfigWrap
    from verl.workers.rollout.replica import TokenOutput

    from rlvr.training.row_sampling import RowSamplingAgentLoop

    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER.parent)
    rollout = {"actor_rollout_ref": {"rollout": {"prompt_length": 64, "response_length": 96}}}
    asked = []

    class Server:
        async def generate(self, sampling_params, **kwargs):
            asked.append(sampling_params)
            return TokenOutput(token_ids=[5, 6], log_probs=[-1.0, -1.0])

    async def run(extra_info):
        config = DictConfigWrap(OmegaConf.create(rollout))
        data = DictConfigWrap(OmegaConf.create({}))
        loop = RowSamplingAgentLoop(config, Server(), tokenizer, None, None, data, hf_model_type="qwen2")
        await loop.run({"temperature": 1.0}, raw_prompt=[{"role": "user", "content": "1 + 1?"}], extra_info=extra_info)

    stop = ["</s>", "<|im_end|>", "<|endoftext|>"]
    asyncio.run(run({"split": "test", "sampling": {"temperature": 0.0, "stop": stop}}))
    asyncio.run(run({"split": "train", "index": 0}))
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert asked == [{"temperature": 0.0, "stop_token_ids": [end]}, {"temperature": 1.0}]


def test_a_cpu_runs_agent_loop_asks_the_same():
    from rlvr.config.compose import compose
    from rlvr.verl_torch.agent_loop import BatchedAgentLoopManager

    loop = BatchedAgentLoopManager(compose("+experiment=one_shot", "trainer.nnodes=0"), None)  # no servers: no Ray
    row = {"raw_prompt": [{"role": "user", "content": "1 + 1?"}]}
    sampling = {"max_tokens": 9, "n": 1, "stop": ["</s>", "<|endoftext|>"]}
    end = loop.tokenizer.convert_tokens_to_ids("<|endoftext|>")
    (test,) = loop._requests(row | {"extra_info": {"sampling": sampling}}, 0, 0, validate=True)
    training = loop._requests(row | {"extra_info": {"index": 0}}, 0, 1, validate=False)
    assert test.sampling["stop_token_ids"] == (end,)
    assert len(training) == 8 and all("stop_token_ids" not in request.sampling for request in training)
