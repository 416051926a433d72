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
#: Distance of two tokens from which MPNet tells no difference.
FARTHEST = 128


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
        by_distance = [] if self.shape.buckets == 0 else ["", self.distance_bias()]
        return g.node("MultiHeadAttention", [
            query, key, value, g.tensor(f"{name}.biases", biases.astype(self.a.dtype)), *by_distance],
            f"{name}/mixed", FUSED, num_heads=self.shape.heads, scale=1 / math.sqrt(self.shape.head))

    def distance_bias(self) -> str:
        """[1, heads, seq, seq]: what MPNet adds to a score by the distance of key and query, the same in each layer."""
        g, name = self.g, "distance/bias"
        if g.has(name):
            return name
        table = bias_by_distance(self.a.weights["attention.buckets"], self.shape.max_tokens)
        count = g.node("Shape", ["input_ids"], "distance/count", start=1, end=2)
        length = g.node("Squeeze", [count], "distance/length")
        places = g.node("Range", [g.integers("zero", 0), length, g.integers("one_position", 1)], "distance/places")
        rows = g.node("Unsqueeze", [places, g.integers("last_of_two", [1])], "distance/rows")
        ahead = g.node("Sub", [places, rows], "distance/ahead")
        index = g.node("Add", [ahead, g.integers("distance/offset", self.shape.max_tokens - 1)], "distance/index")
        by_pair = g.node("Gather", [g.tensor("distance/table", table.astype(self.a.dtype)), index], "distance/by_pair")
        by_head = g.node("Transpose", [by_pair], "distance/by_head", perm=[2, 0, 1])
        return g.node("Unsqueeze", [by_head, g.integers("first_axis", [0])], name)

    def add_and_norm(self, name: str, update: str, residual: str, bias: str, output: str) -> str:
        parameters = [self.a.parameter(each) for each in (f"{name}.gamma", f"{name}.beta", bias)]
        self.a.note_norm(name, output)
        return self.g.node("SkipLayerNormalization", [update, residual, *parameters], output, FUSED,
                           epsilon=self.shape.epsilon)

    def activation(self, value: str, bias: str, output: str) -> str:
        kind, parameter = self.shape.activation, self.a.parameter(bias)
        if kind == "relu":
            return self.g.node("Relu", [self.g.node("Add", [value, parameter], f"{output}/biased")], output)
        return self.g.node("BiasGelu" if kind == "gelu" else "FastGelu", [value, parameter], output, FUSED)


def bias_by_distance(buckets: np.ndarray, longest: int) -> np.ndarray:
    """[2 * longest - 1, heads]: the bias of a key that is `row - longest + 1` tokens after the query.

    Buckets are T5's: half of them for keys after the query; of each half, the first half one distance
    each, the rest growing with the logarithm up to `FARTHEST`.
    """
    ahead = np.arange(1 - longest, longest)
    half = len(buckets) // 2
    exact = half // 2
    distance = np.abs(ahead)
    # float32, as PyTorch computes it: at a bucket's edge, rounding decides.
    grown = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact)) / np.float32(math.log(FARTHEST / exact))
    large = np.minimum(exact + (grown * np.float32(half - exact)).astype(np.int64), half - 1)
    return buckets[np.where(ahead > 0, half, 0) + np.where(distance < exact, distance, large)]
