"""Linear layers and embedding tables in one of the three precisions.

int8 takes one scale per output channel of a weight and one scale per token of an input, found while
the model runs. A scale per input tensor, as ONNX Runtime's own `quantize_dynamic` takes, is faster by
nothing and worse twice over: one outlying channel costs every token its precision, and a row's
vector comes to depend on the rows it shares a batch with.
"""
from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Dict, Sequence, Tuple

import numpy as np

from .weights import Weights
from .writer import FUSED, GraphWriter

INT8_LARGEST = 127
UINT8_ZERO = 128
#: Keeps a token that is all zeros from being divided by zero.
SMALLEST_SCALE = 1e-12


@dataclass
class Arithmetic:
    """float32 or float16: the weights, and whatever is computed with them, in that type."""

    graph: GraphWriter
    weights: Weights
    dtype: type = np.float32

    def parameter(self, name: str) -> str:
        """A weight that takes part in what is computed as it is: norms, biases."""
        return self.graph.tensor(name, self.weights[name].astype(self.dtype, copy=False))

    def product(self, x: str, name: str, output: str) -> str:
        """x @ weight, [..., inputs] -> [..., outputs]; the bias is added by the node that follows."""
        return self.graph.node("MatMul", [x, self.parameter(f"{name}.weight")], output)

    def note_norm(self, name: str, output: str) -> None:
        """`output` is what the norm of that name gave."""

    def rows(self, table: str, ids: str) -> str:
        """Rows of an embedding table, [batch, seq] -> [batch, seq, hidden]."""
        return self.graph.node("Gather", [self.parameter(table), ids], f"{table}/out")


class Int8Arithmetic(Arithmetic):
    """int8 weights and inputs; what lies between the products stays float32.

    A norm's output is quantised without the norm's beta, and the bias of the layer that takes it is
    given beta @ weight instead. That is exact, and what is left has no channel that is large in every
    token, as trained models' hidden states have: such a channel would leave few steps to the others.
    """

    def __init__(self, graph: GraphWriter, weights: Weights, keep_float: Sequence[str]) -> None:
        super().__init__(graph, weights)
        self.keep_float = keep_float
        self.quantised: Dict[str, Tuple[str, str]] = {}
        self.norms: Dict[str, str] = {}

    def is_kept(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.keep_float)

    def note_norm(self, name: str, output: str) -> None:
        self.norms[output] = name

    def product(self, x: str, name: str, output: str) -> str:
        if self.is_kept(name):
            return super().product(x, name, output)
        g = self.graph
        rows, scale = self.quantised_input(x)
        weight = self.weights[f"{name}.weight"]
        whole, channel_scale = quantised(weight, axis=0)
        if x in self.norms:
            self.weights[f"{name}.bias"] = self.weights[f"{name}.bias"] + self.weights[f"{self.norms[x]}.beta"] @ weight
        product = g.node("MatMulIntegerToFloat", [
            rows, g.tensor(f"{name}.weight.int8", whole), g.tensor("unit", np.float32(1)),
            g.tensor(f"{name}.weight.scale", channel_scale[0]),
            g.tensor("uint8_zero", np.uint8(UINT8_ZERO))], f"{output}/int8", FUSED)
        return g.node("Mul", [product, scale], output)

    def quantised_input(self, x: str) -> Tuple[str, str]:
        """x as uint8 and its scale per token, [..., size] and [..., 1]; made once per x."""
        if x not in self.quantised:
            g, centred = self.graph, x
            if x in self.norms:
                centred = g.node("Sub", [x, self.parameter(f"{self.norms[x]}.beta")], f"{x}/centred")
            size = g.node("ReduceMax", [g.node("Abs", [centred], f"{x}/abs")], f"{x}/max", axes=[-1], keepdims=1)
            scale = g.node("Mul", [size, g.tensor("int8_step", np.float32(1 / INT8_LARGEST))], f"{x}/step")
            safe = g.node("Max", [scale, g.tensor("smallest_scale", np.float32(SMALLEST_SCALE))], f"{x}/scale")
            steps = g.node("Div", [centred, safe], f"{x}/steps")
            whole = g.node("QuantizeLinear", [
                steps, g.tensor("unit", np.float32(1)), g.tensor("uint8_zero", np.uint8(UINT8_ZERO))], f"{x}/uint8")
            self.quantised[x] = whole, safe
        return self.quantised[x]

    def rows(self, table: str, ids: str) -> str:
        if self.is_kept(table):
            return super().rows(table, ids)
        g = self.graph
        whole, scale = quantised(self.weights[table], axis=1)
        rows = g.node("Gather", [g.tensor(f"{table}.int8", whole), ids], f"{table}/int8")
        scales = g.node("Gather", [g.tensor(f"{table}.scale", scale), ids], f"{table}/scale")
        return g.node("Mul", [g.cast(rows, np.float32, f"{table}/float"), scales], f"{table}/out")


def quantised(values: np.ndarray, axis: int) -> Tuple[np.ndarray, np.ndarray]:
    """int8 values and their float32 scales, one for all that lie along `axis`, which has size 1 there."""
    scale = np.abs(values).max(axis=axis, keepdims=True) / INT8_LARGEST
    scale[scale == 0] = 1
    return np.rint(values / scale).astype(np.int8), scale.astype(np.float32)
