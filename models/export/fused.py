"""The parts of a layer in ONNX Runtime's fused operators."""
from __future__ import annotations

import math

import numpy as np

from .arithmetic import Arithmetic
from .shape import Shape
from .writer import FUSED

#: Head sizes of GPU attention kernels are multiples of this.
HEAD_STEP = 8
#: What a key of padding adds to a score, times sqrt(head); float16 holds it.
PADDING_KEY = -30000.0


class FusedLayers:
    """Attention whose memory does not grow with the square of the row.

    `MultiHeadAttention` has a kernel that never holds the scores of a whole row, but it takes no
    mask: with one, it falls back to a kernel that does (16 heads x 8192 x 8192 x 4 bytes = 4.3 GB a
    row). So the mask goes in by the keys. Each head gets one channel more, that is 1 in every query
    and, in a key, 0 for a token and PADDING_KEY for padding, whose share of the softmax is then 0.
    """

    def __init__(self, arithmetic: Arithmetic, shape: Shape) -> None:
        self.a, self.g, self.shape = arithmetic, arithmetic.graph, shape
        self.wide = (shape.head // HEAD_STEP + 1) * HEAD_STEP
        self.padding = self.padding_keys()
        for index in range(shape.layers):
            for part in ("query", "key"):
                self.widen(f"layers.{index}.attention.{part}")

    def padding_keys(self) -> str:
        """[batch, seq, heads * wide]: PADDING_KEY in each head's last channel of padding, else 0."""
        g, dtype = self.g, self.a.dtype
        is_pad = g.node("Equal", ["attention_mask", g.integers("zero", 0)], "padding/is_pad")
        column = g.node("Unsqueeze", [g.cast(is_pad, dtype, "padding/float"), g.integers("last_axis", [2])],
                        "padding/column")
        channels = self.last_channels(PADDING_KEY)
        return g.node("Mul", [column, g.tensor("padding/channels", channels.astype(dtype))], "padding/keys")

    def last_channels(self, value: float) -> np.ndarray:
        """[heads * wide]: `value` in each head's last channel."""
        channels = np.zeros((self.shape.heads, self.wide), dtype=np.float32)
        channels[:, -1] = value
        return channels.reshape(-1)

    def widen(self, name: str) -> None:
        """Give each head of a query's or key's projection `wide` channels, the new ones 0."""
        shape, weights = self.shape, self.a.weights
        spare = [(0, 0), (0, 0), (0, self.wide - shape.head)]
        weight = weights[f"{name}.weight"].reshape(shape.hidden, shape.heads, shape.head)
        bias = weights[f"{name}.bias"].reshape(1, shape.heads, shape.head)
        weights[f"{name}.weight"] = np.pad(weight, spare).reshape(shape.hidden, -1)
        weights[f"{name}.bias"] = np.pad(bias, spare).reshape(-1)

    def attention(self, name: str, hidden: str) -> str:
        g, weights = self.g, self.a.weights
        query, key, value = (self.a.product(hidden, f"{name}.{part}", f"{name}/{part}")
                             for part in ("query", "key", "value"))
        key = g.node("Add", [key, self.padding], f"{name}/masked_key")
        biases = np.concatenate([
            weights[f"{name}.query.bias"] + self.last_channels(1), weights[f"{name}.key.bias"],
            weights[f"{name}.value.bias"]])
        return g.node("MultiHeadAttention", [
            query, key, value, g.tensor(f"{name}.biases", biases.astype(self.a.dtype))], f"{name}/mixed", FUSED,
            num_heads=self.shape.heads, scale=1 / math.sqrt(self.shape.head))

    def add_and_norm(self, name: str, update: str, residual: str, bias: str, output: str) -> str:
        parameters = [self.a.parameter(each) for each in (f"{name}.gamma", f"{name}.beta", bias)]
        self.a.note_norm(name, output)
        return self.g.node("SkipLayerNormalization", [update, residual, *parameters], output, FUSED,
                           epsilon=self.shape.epsilon)

    def gelu(self, value: str, bias: str, output: str) -> str:
        return self.g.node("BiasGelu", [value, self.a.parameter(bias)], output, FUSED)
