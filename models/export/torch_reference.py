"""What BGE-M3 answers, computed in PyTorch: FlagEmbedding's forward pass in plain modules.

It shares no line with the exporter: it reads the files as the hub has them, by the hub's names, and
runs one text at a time, so it has neither padding nor masks that could be wrong in the same way.
"""
from __future__ import annotations

import json
from pathlib import Path
from typing import Dict, List, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from .hub import read_state, read_linear

#: `<s>`, `<pad>`, `</s>` and `<unk>` carry no lexical weight.
SPECIAL_IDS = (0, 1, 2, 3)


class Embedded(NamedTuple):
    """One text: dense [dim], one lexical weight an id, ColBERT [tokens - 1, dim]."""

    dense: Tensor
    lexical: Dict[int, float]
    colbert: Tensor


class SelfAttention(nn.Module):
    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(hidden, hidden) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
                             for part in (self.query, self.key, self.value))
        return functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


class Output(nn.Module):
    """A linear layer, the residual and the norm, as `BertOutput` has them."""

    def __init__(self, inputs: int, hidden: int, epsilon: float) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, hidden)
        self.LayerNorm = nn.LayerNorm(hidden, eps=epsilon)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(x) + residual)


class Layer(nn.Module):
    def __init__(self, hidden: int, heads: int, ffn: int, epsilon: float) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({
            "self": SelfAttention(hidden, heads), "output": Output(hidden, hidden, epsilon)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(hidden, ffn)})
        self.output = Output(ffn, hidden, epsilon)

    def forward(self, x: Tensor) -> Tensor:
        x = self.attention["output"](self.attention["self"](x), x)
        return self.output(functional.gelu(self.intermediate["dense"](x)), x)


class Embeddings(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        hidden, self.pad = config["hidden_size"], config["pad_token_id"]
        self.word_embeddings = nn.Embedding(config["vocab_size"], hidden)
        self.position_embeddings = nn.Embedding(config["max_position_embeddings"], hidden)
        self.token_type_embeddings = nn.Embedding(1, hidden)
        self.LayerNorm = nn.LayerNorm(hidden, eps=config["layer_norm_eps"])

    def forward(self, ids: Tensor) -> Tensor:
        real = ids != self.pad
        positions = real.cumsum(dim=1) * real + self.pad
        return self.LayerNorm(self.word_embeddings(ids) + self.position_embeddings(positions)
                              + self.token_type_embeddings.weight[0])


class Encoder(nn.Module):
    """XLM-R without its pooler."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        sizes = (config["hidden_size"], config["num_attention_heads"], config["intermediate_size"],
                 config["layer_norm_eps"])
        self.embeddings = Embeddings(config)
        self.encoder = nn.ModuleDict({
            "layer": nn.ModuleList(Layer(*sizes) for _ in range(config["num_hidden_layers"]))})

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embeddings(ids)
        for layer in self.encoder["layer"]:
            x = layer(x)
        return x


class Reference:
    """BGE-M3 read from a folder of the hub's layout."""

    def __init__(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        with torch.device("meta"):
            self.encoder = Encoder(config)
        state = {name: torch.from_numpy(value).float() for name, value in read_state(folder).items()}
        loaded = self.encoder.load_state_dict(state, strict=False, assign=True)
        if loaded.missing_keys:
            raise ValueError(f"{folder} lacks {', '.join(loaded.missing_keys[:3])}")
        self.encoder.eval()
        self.sparse, self.colbert = (
            tuple(map(torch.from_numpy, read_linear(folder / f"{name}_linear.pt"))) for name in ("sparse", "colbert"))

    @torch.inference_mode()
    def embed(self, ids: List[int]) -> Embedded:
        """One text, given as token ids with `<s>` and `</s>`."""
        hidden = self.encoder(torch.tensor([ids]))[0]
        weights = functional.linear(hidden, *self.sparse).relu().squeeze(-1).tolist()
        lexical: Dict[int, float] = {}
        for token, value in zip(ids, weights):
            if value > 0 and token not in SPECIAL_IDS:
                lexical[token] = max(value, lexical.get(token, 0))
        vectors = functional.linear(hidden[1:], *self.colbert)
        return Embedded(functional.normalize(hidden[0], dim=-1), lexical, functional.normalize(vectors, dim=-1))
