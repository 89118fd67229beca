"""A forward pass that computes each distinct prompt once for all responses to it, gradients included.

The model gets one row without padding: every distinct prompt without its last token, then one segment per sequence,
the last prompt token and the response but its last token. Every segment token predicts one response token, so the
language model head runs on the segments alone. Position ids and attention make it the same computation as one row per
sequence: a prompt sees itself causally, a segment its prompt and itself.
"""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "torch_cpu_shared_prompt"


@dataclass
class Padding:
    """Where ragged rows of tokens lie in a padded table, and back."""

    index: Tensor  # "rows longest": the token in each place; padding repeats token 0, which nothing looks at
    places: Tensor  # "tokens": the place of each token in the flattened table

    @classmethod
    def of(cls, lengths: Tensor, first_token: int) -> "Padding":
        within = torch.arange(int(lengths.max()))
        real = within < lengths[:, None]
        starts = first_token + lengths.cumsum(0) - lengths
        return cls(torch.where(real, starts[:, None] + within, 0), real.flatten().nonzero()[:, 0])


@dataclass
class Layout:
    """One packed row. Prompts come first, in order of appearance; then segments, in the order of the sequences."""

    input_ids: Tensor  # "1 tokens"
    position_ids: Tensor  # "1 tokens"
    prompts: Padding  # distinct prompts without their last token
    segments: Padding
    prompt_of: Tensor  # "sequences": index of its prompt
    mask: Tensor  # bool "sequences 1 segment prompt+segment": what a segment token sees
    segment_lengths: Tensor  # "sequences": response tokens of each
    outputs: Tensor  # "segment_tokens": index of each segment token among the tokens of all sequences


def group_by_prompt(prompts: Any) -> list[list[int]]:
    """Rows of jagged token ids "sequences tokens" with equal prompts, in order of appearance."""
    groups: dict[tuple[int, ...], list[int]] = {}
    tokens, offsets = prompts.values().tolist(), prompts.offsets().tolist()
    for row, (start, end) in enumerate(zip(offsets, offsets[1:], strict=False)):
        groups.setdefault(tuple(tokens[start:end]), []).append(row)
    return list(groups.values())


def pack_by_prompt(prompts: Any, lengths: list[int], max_tokens: int) -> list[list[int]]:
    """Indices of sequences, grouped so that each group holds at most max_tokens, a prompt counted once in a group.

    Sequences with one prompt stay together as far as they fit. A sequence longer than max_tokens stands alone.

    Args:
        prompts: jagged token ids "sequences tokens".
        lengths: tokens of each sequence, prompt and response.
    """
    prompt_lengths = prompts.offsets().diff().tolist()
    packed: list[list[int]] = []
    room = 0
    for group in group_by_prompt(prompts):
        shared = False
        for row in sorted(group, key=lambda i: -lengths[i]):
            response = lengths[row] - prompt_lengths[row]
            if not packed or room < (response if shared else lengths[row]):
                packed.append([])
                room, shared = max_tokens, False
            packed[-1].append(row)
            room -= response if shared else lengths[row]
            shared = True
    return packed


def lay_out(input_ids: Any, prompts: Any) -> Layout:
    """The packed row of jagged sequences "sequences tokens", each starting with its row of jagged `prompts`."""
    groups = group_by_prompt(prompts)
    tokens, starts, lengths = input_ids.values(), input_ids.offsets()[:-1], input_ids.offsets().diff()
    prefix_lengths = prompts.offsets().diff() - 1
    prompt_of = torch.empty(len(starts), dtype=torch.long)
    for group, rows in enumerate(groups):
        prompt_of[rows] = group
    first = torch.tensor([rows[0] for rows in groups])
    segment_lengths = lengths - 1 - prefix_lengths

    prefix_positions = ranges(torch.zeros_like(first), prefix_lengths[first])
    segment_positions = ranges(prefix_lengths, segment_lengths)
    sources = starts[first].repeat_interleave(prefix_lengths[first]) + prefix_positions
    outputs = starts.repeat_interleave(segment_lengths) + segment_positions

    in_prompt = torch.arange(int(prefix_lengths.max())) < prefix_lengths[:, None]
    longest = int(segment_lengths.max())
    causal = torch.ones(longest, longest, dtype=torch.bool).tril().expand(len(starts), -1, -1)
    mask = torch.cat([in_prompt[:, None].expand(-1, longest, -1), causal], -1)[:, None]
    return Layout(
        input_ids=tokens[torch.cat([sources, outputs])][None],
        position_ids=torch.cat([prefix_positions, segment_positions])[None],
        prompts=Padding.of(prefix_lengths[first], 0),
        segments=Padding.of(segment_lengths, len(sources)),
        prompt_of=prompt_of,
        mask=mask,
        segment_lengths=segment_lengths,
        outputs=outputs,
    )


def ranges(starts: Tensor, lengths: Tensor) -> Tensor:
    """[start, ..., start + length - 1] of every row, concatenated."""
    ends = lengths.cumsum(0)
    return (starts - ends + lengths).repeat_interleave(lengths) + torch.arange(int(ends[-1]))


def attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    shared_prompt: Layout | None = None,
    **kwargs,
) -> tuple[Tensor, None]:
    """transformers' attention signature; with `shared_prompt`, the tokens are its packed row. Without, plain sdpa."""
    if shared_prompt is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    # "1 heads tokens dim" -> "tokens heads dim": whole tokens are gathered.
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    prompts, segments = shared_prompt.prompts, shared_prompt.segments
    prompt_k, prompt_v = k[prompts.index], v[prompts.index]
    # index_select, whose gradient is summed in order: that of prompt_k[...] is summed by all threads, each time in another.
    segment_k = torch.cat([prompt_k.index_select(0, shared_prompt.prompt_of), k[segments.index]], 1)
    segment_v = torch.cat([prompt_v.index_select(0, shared_prompt.prompt_of), v[segments.index]], 1)

    def attend(table: Padding, keys: Tensor, values: Tensor, **options) -> Tensor:
        output = scaled_dot_product_attention(
            q[table.index].transpose(1, 2),
            keys.transpose(1, 2),
            values.transpose(1, 2),
            dropout_p=dropout,
            scale=scaling,
            enable_gqa=True,
            **options,
        )
        return output.transpose(1, 2).flatten(0, 1)[table.places]

    of_segments = attend(segments, segment_k, segment_v, attn_mask=shared_prompt.mask)
    if not prompts.places.numel():  # every prompt is a single token
        return of_segments[None], None
    of_prompts = attend(prompts, prompt_k, prompt_v, is_causal=True)
    return torch.cat([of_prompts, of_segments])[None], None


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


def supports(model: PreTrainedModel) -> bool:
    """Whether all that a token of this model takes from others is plain causal attention through transformers' sdpa."""
    config = model.config
    windows = ("sliding_window", "attention_chunk_size", "attn_logit_softcapping")
    return (
        config._attn_implementation == "sdpa"
        and getattr(model, "_supports_attention_backend", False)
        and config.get_text_config() is config
        and set(getattr(config, "layer_types", None) or ["full_attention"]) == {"full_attention"}
        and not any(getattr(config, name, None) for name in windows)
        and "logits_to_keep" in inspect.signature(model.forward).parameters
    )


def model_inputs(layout: Layout) -> dict:
    """Keyword arguments of the model's forward; its logits are then "1 segment_tokens vocabulary"."""
    return {
        "input_ids": layout.input_ids,
        "position_ids": layout.position_ids,
        "attention_mask": layout.mask,  # four dimensions: transformers builds none of its own
        "logits_to_keep": len(layout.outputs),
        "shared_prompt": layout,
    }
