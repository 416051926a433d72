"""The parts of a layer in ONNX's own operators, for TensorRT; norms and softmax are in float32."""
from __future__ import annotations

import math

import numpy as np

from .arithmetic import Arithmetic
from .shape import Shape

#: Added to the scores of padding; exp() of it is 0.
PADDING_SCORE = -30000.0


class PlainLayers:
    """What a tracing exporter writes, but for the float32 islands."""

    def __init__(self, arithmetic: Arithmetic, shape: Shape) -> None:
        self.a, self.g, self.shape = arithmetic, arithmetic.graph, shape
        self.padding = self.padding_scores()

    def padding_scores(self) -> str:
        """float32 [batch, 1, 1, seq]: PADDING_SCORE for padding, else 0."""
        g = self.g
        is_pad = g.node("Equal", ["attention_mask", g.integers("zero", 0)], "padding/is_pad")
        row = g.node("Unsqueeze", [g.cast(is_pad, np.float32, "padding/float"), g.integers("middle_axes", [1, 2])],
                     "padding/row")
        return g.node("Mul", [row, g.tensor("padding/score", np.float32(PADDING_SCORE))], "padding/scores")

    def split(self, name: str, hidden: str, order: list) -> str:
        """A projection cut into heads, its axes (batch, seq, head, size) in that order."""
        g, shape = self.g, self.shape
        product = self.a.product(hidden, name, f"{name}/product")
        biased = g.node("Add", [product, self.a.parameter(f"{name}.bias")], f"{name}/biased")
        cut = g.node("Reshape", [biased, g.integers("by_head", [0, 0, shape.heads, shape.head])], f"{name}/cut")
        return g.node("Transpose", [cut], f"{name}/out", perm=order)

    def attention(self, name: str, hidden: str) -> str:
        g, dtype = self.g, self.a.dtype
        query = self.split(f"{name}.query", hidden, [0, 2, 1, 3])
        key = self.split(f"{name}.key", hidden, [0, 2, 3, 1])
        value = self.split(f"{name}.value", hidden, [0, 2, 1, 3])
        # Scaled before the product, so that float16 cannot overflow in it.
        scale = g.tensor("query_scale", np.array(1 / math.sqrt(self.shape.head), dtype=dtype))
        scores = g.node("MatMul", [g.node("Mul", [query, scale], f"{name}/scaled"), key], f"{name}/scores")
        masked = g.node("Add", [self.float32(scores), self.padding], f"{name}/masked")
        shares = self.native(g.node("Softmax", [masked], f"{name}/shares", axis=-1))
        mixed = g.node("MatMul", [shares, value], f"{name}/mixed_heads")
        together = g.node("Transpose", [mixed], f"{name}/together", perm=[0, 2, 1, 3])
        return g.node("Reshape", [together, g.integers("by_token", [0, 0, self.shape.hidden])], f"{name}/mixed")

    def add_and_norm(self, name: str, update: str, residual: str, bias: str, output: str) -> str:
        g = self.g
        biased = g.node("Add", [update, self.a.parameter(bias)], f"{output}/biased")
        total = self.float32(g.node("Add", [biased, residual], f"{output}/sum"))
        gamma, beta = (g.tensor(f"{name}.{part}", self.a.weights[f"{name}.{part}"].astype(np.float32))
                       for part in ("gamma", "beta"))
        normed = g.node("LayerNormalization", [total, gamma, beta], f"{output}/normed",
                        axis=-1, epsilon=self.shape.epsilon)
        return self.native(normed)

    def activation(self, value: str, bias: str, output: str) -> str:
        g, dtype = self.g, self.a.dtype
        biased = g.node("Add", [value, self.a.parameter(bias)], f"{output}/biased")
        part = g.node("Mul", [biased, g.tensor("root_half", np.array(math.sqrt(0.5), dtype=dtype))], f"{output}/part")
        error = g.node("Erf", [part], f"{output}/erf")
        share = g.node("Add", [error, g.tensor("gelu_one", np.array(1, dtype=dtype))], f"{output}/share")
        whole = g.node("Mul", [biased, share], f"{output}/whole")
        return g.node("Mul", [whole, g.tensor("half", np.array(0.5, dtype=dtype))], output)

    def float32(self, value: str) -> str:
        return value if self.a.dtype is np.float32 else self.g.cast(value, np.float32, f"{value}/float32")

    def native(self, value: str) -> str:
        return value if self.a.dtype is np.float32 else self.g.cast(value, self.a.dtype, f"{value}/float16")
