"""Log-probabilities and entropy of given tokens, and their gradient, without the logits of a whole micro-batch.

The logits of 2,048 tokens over 151,936 are 1.2 GB in float32, and a softmax, its product and its gradient are as much again
each. Here a few hundred rows of them exist at a time; the backward pass computes them anew. The gradient of

    log p(label) = z_label - logsumexp(z)    is    onehot(label) - p,
    entropy      = -sum p log p              is    -p (log p + entropy),    for z = logits / temperature.

A language model head computes this inside the model's forward pass, where FSDP holds its whole weight.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

CHUNK = 2**25  # logits that exist at once: 128 MiB in float32
# What models do to their logits after the head; where one does, its logits are computed as they are.
AFTER_THE_HEAD = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")


@dataclass
class Wanted:
    """What a head computes. labels: "tokens"; temperature: a number, or "tokens 1"."""

    labels: Tensor
    temperature: Any
    entropy: bool


class _LogProbs(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, bias, labels, temperature, entropy, rows):
        """hidden "tokens features", weight "vocabulary features" -> "1 tokens 2": log-probability, entropy (0 if unwanted)."""
        values = hidden.new_zeros(1, len(hidden), 2, dtype=torch.float32)
        for part in _parts(len(hidden), rows):
            log_softmax = _log_softmax(hidden[part], weight, bias, _of(temperature, part))
            values[0, part, 0] = log_softmax.gather(-1, labels[part, None])[:, 0]
            if entropy:
                values[0, part, 1] = -(log_softmax.exp() * log_softmax).sum(-1)
        ctx.save_for_backward(hidden, weight, bias, labels, values)
        ctx.asked = temperature, entropy, rows
        return values

    @staticmethod
    def backward(ctx, gradient):
        hidden, weight, bias, labels, values = ctx.saved_tensors
        temperature, entropy, rows = ctx.asked
        of_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        of_weight = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        of_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and ctx.needs_input_grad[2] else None
        for part in _parts(len(hidden), rows):
            log_softmax = _log_softmax(hidden[part], weight, bias, _of(temperature, part))
            of_log_prob, of_entropy = gradient[0, part, :1], gradient[0, part, 1:]
            of_logits = log_softmax.exp()
            if entropy:
                log_softmax.add_(values[0, part, 1:]).mul_(of_entropy).add_(of_log_prob)
                of_logits.mul_(log_softmax).neg_()
            else:
                of_logits.mul_(-of_log_prob)
            of_logits.scatter_add_(-1, labels[part, None], of_log_prob)
            of_logits.div_(_of(temperature, part))
            if of_bias is not None:
                of_bias += of_logits.sum(0)
            of_logits = of_logits.to(weight.dtype)
            if of_hidden is not None:
                of_hidden[part] = of_logits @ weight
            if of_weight is not None:
                of_weight += of_logits.T @ hidden[part]
        if of_weight is not None:
            of_weight = of_weight.to(weight.dtype)
        if of_bias is not None:
            of_bias = of_bias.to(bias.dtype)
        return of_hidden, of_weight, of_bias, None, None, None, None


def _parts(tokens: int, rows: int) -> list[slice]:
    return [slice(start, start + rows) for start in range(0, tokens, rows)]


def _of(temperature: Any, part: slice) -> Any:
    return temperature[part] if isinstance(temperature, Tensor) and temperature.dim() else temperature


def _log_softmax(hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: Any) -> Tensor:
    logits = nn.functional.linear(hidden, weight, bias).float()
    return torch.log_softmax(logits.div_(temperature), -1)


def all_at_once(logits: Tensor, wanted: Wanted) -> tuple[Tensor, ...]:
    """The same from logits "tokens vocabulary" that are there: log-probabilities, and entropies where they are wanted."""
    log_softmax = torch.log_softmax(logits.float() / wanted.temperature, -1)
    found = log_softmax.gather(-1, wanted.labels[:, None])[:, 0]
    return (found, -(log_softmax.exp() * log_softmax).sum(-1)) if wanted.entropy else (found,)


def log_probs(hidden: Tensor, weight: Tensor, bias: Tensor | None, wanted: Wanted, chunk: int) -> Tensor:
    """Of shape "1 tokens 2": log-probability of each label under softmax(head(hidden) / temperature), and that softmax's entropy."""
    rows = max(1, chunk // len(weight))
    with torch.autocast(hidden.device.type, enabled=False):
        return _LogProbs.apply(
            hidden.to(weight.dtype), weight, bias, wanted.labels, wanted.temperature, wanted.entropy, rows
        )


class Head:
    """The output head of a model, which answers with `log_probs` instead of logits while something is wanted of it."""

    def __init__(self, linear: nn.Linear):
        self.wanted: Wanted | None = None
        self.linear = linear
        plain = linear.forward

        def forward(hidden: Tensor) -> Tensor:
            if self.wanted is None:
                return plain(hidden)
            return log_probs(hidden.flatten(0, -2), linear.weight, linear.bias, self.wanted, CHUNK)

        linear.forward = forward  # type: ignore[assignment, method-assign]

    def asks_for(self, tokens: int) -> bool:
        """Whether the logits of so many tokens are more than should exist at once."""
        return tokens * self.linear.out_features > CHUNK

    @classmethod
    def of(cls, model: Any) -> "Head | None":
        """None where the logits of a model are not simply what a linear head says."""
        linear = model.get_output_embeddings()
        config = model.config.get_text_config()
        if type(linear) is not nn.Linear or any(getattr(config, name, None) for name in AFTER_THE_HEAD):
            return None
        return cls(linear)
