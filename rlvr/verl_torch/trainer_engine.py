"""verl's FSDP2 engines for device "cpu": the language model (actor, reference) and the value model (critic).

Departures from verl's CUDA engines:
1. A forward-only engine (the reference) asks FSDP2 to offload parameters to pinned host memory; on a CPU they are
   there already and pinning fails, so no offload policy is used.
2. Sequences are padded on the right, where a causal model never looks: no attention mask is given, which lets torch
   take its fast path. Outputs of real tokens are the same.
3. Micro-batches hold sequences of like length, up to `max_token_len` tokens with their padding. The loss is a sum over
   tokens divided by the tokens of the whole mini-batch, so how it is cut does not change it.
4. Log-probabilities are computed for all tokens at once; verl's fallback without flash-attention loops over tokens.
5. FSDP1 is not registered: it refuses a CPU (`sync_module_states`).
6. The language model computes a prompt once for the responses in a micro-batch that share it, and log-probabilities and
   entropy of response tokens only (`shared_prompt`). Outputs at prompt tokens, which no PPO loss reads, are 0.
   Micro-batches then hold sequences with equal prompts. Where the model or the batch does not allow it, 2 and 3 hold.
7. LoRA's weights are merged in fp32, one matrix at a time, as they are sent to the rollout; verl merges all in place, beside
   a copy of the base, and rounds them to bf16. Frozen weights are kept in the dtype they are computed in, and the backward
   pass ends at the lowest layer with an adapter: verl lets it run to the embeddings.
8. The critic is loaded without flash-attention, which verl asks for by name, and its new value head comes from the
   engine's seed, so that a run repeats itself.
9. Of a large vocabulary the logits of a micro-batch never exist at once (`chunked_head`).
"""

import ctypes
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import torch
import torch.distributed
import verl.utils.model
from tensordict import NonTensorData, TensorDict
from torch.distributed.fsdp import OffloadPolicy
from torch.distributed.tensor import DTensor
from transformers import AutoModelForTokenClassification
from verl.utils import tensordict_utils as tu
from verl.utils.fsdp_utils import normalize_peft_param_name
from verl.utils.torch_dtypes import PrecisionType
from verl.workers.engine import EngineRegistry
from verl.workers.engine.fsdp import transformer_impl
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead, FSDPEngineWithValueHead

from rlvr.verl_torch import private_names, shared_prompt
from rlvr.verl_torch.chunked_head import Head, Wanted, all_at_once

private_names.check(__name__)
LARGE = 10**8  # weights of a model whose activations are gigabytes


def pack_by_length(lengths: list[int], max_tokens: int) -> list[list[int]]:
    """Indices of sequences of like length, grouped so that rows x longest <= max_tokens (a longer one stands alone)."""
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if groups and lengths[groups[-1][0]] * (len(groups[-1]) + 1) <= max_tokens:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def prepare_micro_batches(data, dp_group=None, same_micro_num_in_dp=True, *, share_prompts=False, **kwargs):
    """verl's function of this name, by length or, with `share_prompts`, by prompt.

    Every worker gets the same number of micro-batches (FSDP needs it).
    """
    if not tu.get_non_tensor_data(data=data, key="use_dynamic_bsz", default=True):
        raise ValueError(
            "on a CPU set use_dynamic_bsz=true (and log_prob_use_dynamic_bsz=true): the budget is in tokens"
        )
    lengths, budget = data["input_ids"].offsets().diff().tolist(), data["max_token_len_per_gpu"]
    if share_prompts and allows_sharing(data):
        groups = shared_prompt.pack_by_prompt(data["prompts"], lengths, budget)
    else:
        groups = pack_by_length(lengths, budget)
    if same_micro_num_in_dp and dp_group is not None and torch.distributed.get_world_size(dp_group) > 1:
        count = torch.tensor(len(groups))
        torch.distributed.all_reduce(count, op=torch.distributed.ReduceOp.MAX, group=dp_group)
        while len(groups) < count:
            largest = max(groups, key=len)
            groups.append([largest.pop() for _ in range(len(largest) // 2)])
    return [select_rows(data, group) for group in groups], groups


def allows_sharing(data: TensorDict) -> bool:
    """Whether this (micro-)batch tells prompts apart and asks for nothing but log-probabilities and entropy."""
    prompts, options = data.get("prompts", None), ("calculate_sum_pi_squared", "distillation_use_topk")
    return (
        isinstance(prompts, torch.Tensor)
        and prompts.is_nested
        and data["position_ids"].dim() == 2
        and "responses" in data
        and "multi_modal_inputs" not in data
        and not any(tu.get_non_tensor_data(data=data, key=option, default=False) for option in options)
    )


def select_rows(data: TensorDict, rows: list[int]) -> TensorDict:
    """The tensor columns of some rows, and the batch's options; columns of Python objects are of no use to a model.

    verl's own selection takes every jagged column apart for every micro-batch, which costs as much as the forward pass.
    """
    index = torch.tensor(rows)
    selected: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, torch.Tensor):
            selected[key] = _select_jagged(value, index) if value.is_nested else value[index]
        elif isinstance(value, NonTensorData):
            selected[key] = value
    return TensorDict(selected, batch_size=[len(rows)])


def _select_jagged(column: Any, index: torch.Tensor) -> torch.Tensor:
    offsets = column.offsets()
    lengths = offsets.diff()[index]
    return torch.nested.nested_tensor_from_jagged(
        column.values()[shared_prompt.ranges(offsets[index], lengths)],
        offsets=torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]),
        min_seqlen=int(lengths.min()),  # without these two, padding goes to the length of all rows together
        max_seqlen=int(lengths.max()),
    )


def logprobs_from_logits(logits, labels, inplace_backward=True):
    """verl's function of this name: log-probabilities ("tokens") of labels ("tokens") under logits ("tokens vocab")."""
    return torch.log_softmax(logits, -1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)


@contextmanager
def _in_verl(module=transformer_impl, **replacements):
    """Let verl's FSDP engine use other functions for the ones it takes from `module`; AttributeError if it no longer does."""
    originals = {name: getattr(module, name) for name in replacements}
    vars(module).update(replacements)
    try:
        yield
    finally:
        vars(module).update(originals)


def give_memory_back() -> None:
    """Return freed memory to the system now. Between calls glibc keeps it, as a run's environment says (ray_cluster.KEPT_MEMORY)."""
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


class _FSDPOnCPU(FSDPEngineWithLMHead):
    """What the two engines share; a mixin in front of verl's class."""

    shares_prompts = False
    head: Head | None = None

    def initialize(self):
        super().initialize()
        give_memory_back()  # loading leaves two copies of the weights behind

    def _build_fsdp_module(self, module):
        with _in_verl(CPUOffloadPolicy=lambda pin_memory=True: OffloadPolicy()):
            return super()._build_fsdp_module(module)

    def forward_backward_batch(self, data, loss_function, forward_only=False):
        prepare = partial(prepare_micro_batches, share_prompts=self.shares_prompts)
        with _in_verl(prepare_micro_batches=prepare, logprobs_from_logits=logprobs_from_logits):
            found = super().forward_backward_batch(data, loss_function, forward_only)
        if sum(weights.numel() for weights in self.module.parameters()) > LARGE:
            give_memory_back()  # the rollout takes its memory in the next phase
        return found

    def _build_lora_module(self, module):
        module = super()._build_lora_module(module)
        base = module.get_base_model()
        base.disable_input_require_grads()
        if self.head is not None and base.get_output_embeddings() is not self.head.linear:
            self.head = None  # it has an adapter of its own
        computed_in = PrecisionType.to_dtype((self.engine_config.mixed_precision or {}).get("param_dtype", "bf16"))
        for parameter in module.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data.to(computed_in)
        return module

    def _merged_lora_per_tensor_param(self):
        state = self.module.state_dict()
        scales = {name: layer.scaling for name, layer in self.module.named_modules() if hasattr(layer, "scaling")}

        def whole(name: str) -> torch.Tensor:
            weight = state[name]
            return (weight.full_tensor() if isinstance(weight, DTensor) else weight).detach()

        for name in state:
            if "lora_" in name:
                continue
            layer, weight = name.removesuffix(".base_layer.weight"), whole(name)
            if layer in scales:
                up, down = (whole(f"{layer}.lora_{side}.default.weight").float() for side in "BA")
                weight = (weight.float() + up @ down * scales[layer]["default"]).to(weight.dtype)
            (plain,) = normalize_peft_param_name({name: weight})
            yield plain, weight.clone()  # what is sent must not follow the weights

    def prepare_model_inputs(self, micro_batch):
        model_inputs, output_args = super().prepare_model_inputs(micro_batch)
        if micro_batch["position_ids"].dim() == 2:
            # Positions count from 0 in every row, also through the padding; given none, the model does just that.
            model_inputs["attention_mask"] = model_inputs["position_ids"] = None
        return model_inputs, output_args


@EngineRegistry.register(model_type="language_model", backend="fsdp2", device="cpu")
class CPUEngineWithLMHead(_FSDPOnCPU):
    """Actor and reference on a CPU."""

    def _build_module(self):
        module = super()._build_module()
        self.shares_prompts, self.head = shared_prompt.supports(module), None
        if self.shares_prompts:
            module.set_attn_implementation(shared_prompt.NAME)
            self.head = Head.of(module)
        return module

    def prepare_model_inputs(self, micro_batch):
        if not (self.shares_prompts and allows_sharing(micro_batch)):
            return super().prepare_model_inputs(micro_batch)
        layout = shared_prompt.lay_out(micro_batch["input_ids"], micro_batch["prompts"])
        temperature = micro_batch["temperature"]
        if isinstance(temperature, torch.Tensor):  # one for each sequence
            temperature = temperature.repeat_interleave(layout.segment_lengths)[:, None].clamp(min=1e-8)
        entropy = tu.get_non_tensor_data(data=micro_batch, key="calculate_entropy", default=False)
        wanted = Wanted(micro_batch["input_ids"].values()[layout.outputs + 1], temperature, entropy)
        if self.head is not None:
            self.head.wanted = wanted if self.head.asks_for(len(wanted.labels)) else None
        return shared_prompt.model_inputs(layout), {"shared_prompt": layout, "wanted": wanted}

    def prepare_model_outputs(self, output, output_args, micro_batch, logits_processor_func):
        if "shared_prompt" not in output_args:
            return super().prepare_model_outputs(output, output_args, micro_batch, logits_processor_func)
        layout, wanted, sequences = output_args["shared_prompt"], output_args["wanted"], micro_batch["input_ids"]
        if self.head is not None and self.head.wanted is not None:
            self.head.wanted = None
            found = output.logits[0].unbind(-1)
        else:
            found = all_at_once(output.logits[0], wanted)
        values = dict(zip(("log_probs", "entropy") if wanted.entropy else ("log_probs",), found, strict=False))
        return {
            name: torch.nested.nested_tensor_from_jagged(
                value.new_zeros(len(sequences.values())).index_copy(0, layout.outputs, value), sequences.offsets()
            )
            for name, value in values.items()
        }


@EngineRegistry.register(model_type="value_model", backend="fsdp2", device="cpu")
class CPUEngineWithValueHead(_FSDPOnCPU, FSDPEngineWithValueHead):
    """Critic on a CPU: verl's value head behind the shared part."""

    def _build_module(self):
        def load(local_path, torch_dtype, model_config, trust_remote_code):
            with torch.random.fork_rng():
                torch.manual_seed(self.engine_config.seed)
                return AutoModelForTokenClassification.from_pretrained(
                    local_path, dtype=torch_dtype, config=model_config, trust_remote_code=trust_remote_code
                )

        with _in_verl(verl.utils.model, load_valuehead_model=load):
            return super()._build_module()
