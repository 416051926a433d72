"""ModernBERT's layers: norms before what they are for, positions by rotation, gated feed-forward parts, and in
most layers attention to the tokens near by."""
from __future__ import annotations

import math

import numpy as np

from .arithmetic import Arithmetic
from .fused import FusedLayers
from .shape import Shape
from .writer import FUSED

#: What a key out of reach adds to a score; with a key of padding, float16 still holds it.
OUT_OF_REACH = -20000.0


class RotaryLayers(FusedLayers):
    """Attention of rows as long as 8192 tokens, without a square of scores.

    A layer that looks near by is computed in blocks as long as its reach: each block's queries meet the
    keys of the block before, their own and the next, and a bias hides those out of reach. Blocks are
    rows of a batch to the operator, so work and memory grow with the row and not with its square.
    """

    def __init__(self, arithmetic: Arithmetic, shape: Shape) -> None:
        super().__init__(arithmetic, shape)
        self.rotary = shape.rotary
        g = self.g
        counted = g.node("CumSum", ["attention_mask", g.integers("axis_1", 1)], "position/counted")
        # Padding may come first in no row, but a row of nothing but padding has places below 0.
        self.places = g.node("Max", [g.node("Sub", [counted, g.integers("one_position", 1)], "position/from_0"),
                                     g.integers("zero", 0)], "position/ids")

    def widen(self, name: str) -> None:
        """Give each head `wide` channels; a layer without a bias gets one of zeros."""
        self.a.weights.setdefault(f"{name}.bias", np.zeros(self.shape.hidden, dtype=np.float32))
        super().widen(name)

    def product(self, x: str, name: str) -> str:
        """The linear layer with its bias, if it has one."""
        product = self.a.product(x, name, f"{name}/product")
        if not np.any(self.a.weights.get(f"{name}.bias", 0)):
            return product
        return self.g.node("Add", [product, self.a.parameter(f"{name}.bias")], f"{name}/biased")

    def turned(self, value: str, theta: float, output: str) -> str:
        """Each head's first `head` channels turned by their position; the spare ones stay."""
        g, shape = self.g, self.shape
        speeds = theta ** (-np.arange(0, shape.head, 2, dtype=np.float64) / shape.head)
        angles = np.arange(shape.max_tokens, dtype=np.float64)[:, None] * speeds
        cache = [g.tensor(f"rotary/{part.__name__}/{theta:g}", part(angles).astype(self.a.dtype)) for part in (np.cos, np.sin)]
        return g.node("RotaryEmbedding", [value, self.places, *cache], output, FUSED, num_heads=shape.heads,
                      rotary_embedding_dim=shape.head)

    def attention_of(self, index: int, hidden: str) -> str:
        g, name = self.g, f"layers.{index}.attention"
        is_global = self.rotary.is_global[index]
        theta = self.rotary.global_theta if is_global else self.rotary.local_theta
        query, key = (self.turned(self.product(hidden, f"{name}.{part}"), theta, f"{name}/{part}")
                      for part in ("query", "key"))
        value = self.product(hidden, f"{name}.value")
        ones = g.tensor("query_ones", self.last_channels(1).astype(self.a.dtype))
        query = g.node("Add", [query, ones], f"{name}/marked_query")
        if not is_global:
            return self.near_by(name, query, key, value)
        key = g.node("Add", [key, self.padding], f"{name}/masked_key")
        return g.node("MultiHeadAttention", [query, key, value], f"{name}/mixed", FUSED,
                      num_heads=self.shape.heads, scale=self.scale)

    @property
    def scale(self) -> float:
        return 1 / math.sqrt(self.shape.head)

    def near_by(self, name: str, query: str, key: str, value: str) -> str:
        """Attention within reach, in blocks."""
        g, reach = self.g, self.rotary.reach
        wide, narrow = self.shape.heads * self.wide, self.shape.hidden
        self.plan_blocks()
        query = self.in_blocks(f"{name}/query", g.node("Pad", [query, "block/pad_after"], f"{name}/padded_query"), wide)
        keys = g.node("Add", [g.node("Pad", [key, "block/pad_around"], f"{name}/padded_key"), self.padded_padding()],
                      f"{name}/masked_key")
        values = g.node("Pad", [value, "block/pad_around"], f"{name}/padded_value")
        mixed = g.node("MultiHeadAttention", [
            query, self.neighbours(f"{name}/keys", keys, wide), self.neighbours(f"{name}/values", values, narrow),
            "", "", self.reach_bias(reach)], f"{name}/mixed_blocks", FUSED, num_heads=self.shape.heads, scale=self.scale)
        rows = g.node("Reshape", [mixed, self.shape_of_rows(narrow)], f"{name}/mixed_rows")
        return g.node("Slice", [rows, g.integers("zero_1", [0]), "block/length", g.integers("seq_axis", [1])], f"{name}/mixed")

    def plan_blocks(self) -> None:
        """How rows are padded: to whole blocks for queries, and with one block more before and after for keys."""
        g, reach = self.g, self.rotary.reach
        if g.has("block/length"):
            return
        length = g.node("Shape", ["input_ids"], "block/length", start=1, end=2)
        step = g.integers("block/step", [reach])
        # (-length) mod step, whose sign is the divisor's.
        rest = g.node("Mod", [g.node("Neg", [length], "block/negative"), step], "block/rest")
        zeros, one = g.integers("block/zeros", [0, 0, 0, 0]), g.integers("zero_1", [0])
        g.node("Concat", [zeros, rest, one], "block/pad_after", axis=0)
        more = g.node("Add", [rest, step], "block/rest_and_step")
        before = g.integers("block/before", [0, reach, 0, 0])
        g.node("Concat", [before, more, one], "block/pad_around", axis=0)
        g.node("Add", [length, rest], "block/whole")
        g.node("Shape", ["input_ids"], "block/batch", start=0, end=1)

    def shape_of_rows(self, width: int) -> str:
        g = self.g
        name = f"block/rows_{width}"
        return name if g.has(name) else g.node("Concat", ["block/batch", "block/whole", g.integers(f"block/{width}", [width])],
                                                name, axis=0)

    def in_blocks(self, name: str, value: str, width: int) -> str:
        """[batch, whole, width] -> [batch * blocks, reach, width]"""
        sizes = self.g.integers(f"block/shape_{width}", [-1, self.rotary.reach, width])
        return self.g.node("Reshape", [value, sizes], f"{name}_blocks")

    def neighbours(self, name: str, value: str, width: int) -> str:
        """[batch, whole + 2 * reach, width] -> [batch * blocks, 3 * reach, width]: the block before, the own, the next."""
        g, reach, parts = self.g, self.rotary.reach, []
        for index in range(3):
            end = "block/whole"
            if index > 0:
                end = f"block/whole_{index}"
                if not g.has(end):
                    g.node("Add", ["block/whole", g.integers(f"block/shift_{index}", [index * reach])], end)
            start = g.integers(f"block/start_{index}", [index * reach])
            part = g.node("Slice", [value, start, end, g.integers("seq_axis", [1])], f"{name}_{index}")
            parts.append(self.in_blocks(f"{name}_{index}", part, width))
        return g.node("Concat", parts, f"{name}_near", axis=1)

    def padded_padding(self) -> str:
        """`padding`, padded as keys are, by keys of padding."""
        g, name = self.g, "block/padding"
        if g.has(name):
            return name
        pads = g.node("Gather", ["block/pad_around", g.integers("block/mask_axes", [0, 1, 3, 4])], "block/mask_pads")
        mask = g.node("Pad", ["attention_mask", pads], "block/mask")
        is_pad = g.node("Equal", [mask, g.integers("zero", 0)], "block/is_pad")
        column = g.node("Unsqueeze", [g.cast(is_pad, self.a.dtype, "block/float"), g.integers("last_axis", [2])], "block/column")
        return g.node("Mul", [column, "padding/channels"], name)

    def reach_bias(self, reach: int) -> str:
        """[1, 1, reach, 3 * reach]: 0 for a key within reach of a query of the middle block."""
        distance = np.arange(3 * reach)[None, :] - reach - np.arange(reach)[:, None]
        bias = np.where(np.abs(distance) <= reach, 0, OUT_OF_REACH)
        return self.g.tensor("block/reach", bias.astype(self.a.dtype)[None, None])

    def norm(self, name: str, value: str, output: str) -> str:
        parameters = [self.a.parameter(f"{name}.gamma")]
        if f"{name}.beta" in self.a.weights:
            parameters.append(self.a.parameter(f"{name}.beta"))
        return self.g.node("LayerNormalization", [value, *parameters], output, axis=-1, epsilon=self.shape.epsilon)

    def gated(self, name: str, hidden: str) -> str:
        """activation(up) * gate"""
        up, gate = self.product(hidden, f"{name}.up"), self.product(hidden, f"{name}.gate")
        if self.shape.activation == "relu":
            active = self.g.node("Relu", [up], f"{name}/active")
        else:
            active = self.g.node("Gelu" if self.shape.activation == "gelu" else "FastGelu", [up], f"{name}/active", FUSED)
        return self.g.node("Mul", [active, gate], f"{name}/gated")


def rotary_encoder(a: Arithmetic, layers: RotaryLayers, shape: Shape) -> str:
    """The last hidden state, [batch, seq, hidden]."""
    g = a.graph
    hidden = layers.norm("embeddings.norm", a.rows("embeddings.word", "input_ids"), "embeddings/out")
    for index in range(shape.layers):
        name = f"layers.{index}"
        # The embeddings' own norm is the first layer's.
        normed = hidden if index == 0 else layers.norm(f"{name}.attention.norm", hidden, f"{name}/attention_in")
        attended = layers.product(layers.attention_of(index, normed), f"{name}.attention.output")
        hidden = g.node("Add", [hidden, attended], f"{name}/attention_out")
        normed = layers.norm(f"{name}.ffn.norm", hidden, f"{name}/ffn_in")
        down = layers.product(layers.gated(f"{name}.ffn", normed), f"{name}.ffn.down")
        hidden = g.node("Add", [hidden, down], f"{name}/out")
    return layers.norm("final.norm", hidden, "final/out")
