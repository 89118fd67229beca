"""The shape of a base model: its layers and widths, and how many parameters these make."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Architecture(NamedTuple):
    """A decoder-only transformer with gated MLP, as Qwen2 and Llama are."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    qkv_bias: bool

    @property
    def layer_parameters(self) -> int:
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = self.hidden * (2 * queries + 2 * keys) + self.qkv_bias * (queries + 2 * keys)
        return attention + 3 * self.hidden * self.intermediate + 2 * self.hidden

    @property
    def parameters(self) -> int:
        embeddings = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return embeddings + self.layers * self.layer_parameters + self.hidden

    def adapters(self, rank: int) -> int:
        """Weights of LoRA on all linear layers but the head."""
        queries, keys, h, i = self.heads * self.head_dim, self.kv_heads * self.head_dim, self.hidden, self.intermediate
        return self.layers * rank * (2 * (h + queries) + 2 * (h + keys) + 3 * (h + i))

    @property
    def kv_values(self) -> int:
        """Numbers in the cache for one token."""
        return 2 * self.layers * self.kv_heads * self.head_dim


def architecture(path: str | None, stated: Mapping[str, Any] | None) -> Architecture | None:
    """Of a local model folder's config.json, else as stated by the base_model file; None for a model that neither describes."""
    file = Path(str(path)) / "config.json"
    if path and file.exists():
        c = json.loads(file.read_text())
        heads = c["num_attention_heads"]
        return Architecture(
            layers=c["num_hidden_layers"],
            hidden=c["hidden_size"],
            intermediate=c["intermediate_size"],
            heads=heads,
            kv_heads=c.get("num_key_value_heads") or heads,
            head_dim=c.get("head_dim") or c["hidden_size"] // heads,
            vocabulary=c["vocab_size"],
            tied=c.get("tie_word_embeddings", False),
            qkv_bias=c.get("attention_bias", c["model_type"] == "qwen2"),
        )
    return Architecture(**stated) if stated else None
