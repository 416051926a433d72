"""The ONNX graph of an XLM-R encoder with the heads of BGE-M3, written node by node.

Writing it, instead of tracing PyTorch and searching the trace for patterns to fuse, leaves nothing
to chance: every fused operator is there because it is written here.
"""
from __future__ import annotations

from pathlib import Path
from typing import List, Protocol, Sequence

import numpy as np
from onnx import TensorProto, helper

from .arithmetic import Arithmetic, Int8Arithmetic
from .fused import FusedLayers
from .plain import PlainLayers
from .shape import Shape
from .weights import Weights
from .writer import GraphWriter

#: Below which a vector's length counts as zero, as in PyTorch's `normalize`.
SHORTEST = 1e-12


class Layers(Protocol):
    """How the parts of a layer are spelt: in fused operators or in plain ONNX."""

    def add_and_norm(self, name: str, update: str, residual: str, bias: str, output: str) -> str:
        """LayerNorm(update + bias + residual)"""

    def attention(self, name: str, hidden: str) -> str:
        """Softmax(Q K^T / sqrt(head)) V of all heads, before the output projection."""

    def gelu(self, value: str, bias: str, output: str) -> str:
        """Exact GELU(value + bias)"""


def embeddings(a: Arithmetic, layers: Layers, shape: Shape) -> str:
    """Normalised embeddings, [batch, seq, hidden].

    As in XLM-R, positions count the tokens that are no padding, from `pad_id + 1`; padding itself
    has the position `pad_id`.
    """
    g = a.graph
    is_pad = g.node("Equal", ["input_ids", g.integers("pad_id", shape.pad_id)], "position/is_pad")
    real = g.cast(g.node("Not", [is_pad], "position/is_real"), np.int32, "position/real")
    counted = g.node("CumSum", [real, g.integers("axis_1", 1)], "position/counted")
    masked = g.node("Mul", [counted, real], "position/masked")
    positions = g.node("Add", [masked, g.tensor("position/offset", np.int32(shape.pad_id))], "position/ids")
    words = a.rows("embeddings.word", "input_ids")
    places = a.rows("embeddings.position", positions)
    return layers.add_and_norm("embeddings.norm", words, places, "embeddings.type", "embeddings/out")


def encoder_layer(a: Arithmetic, layers: Layers, name: str, hidden: str) -> str:
    """One layer, norms after the residuals: [batch, seq, hidden] -> the same."""
    mixed = layers.attention(f"{name}.attention", hidden)
    attended = a.product(mixed, f"{name}.attention.output", f"{name}/attended")
    hidden = layers.add_and_norm(f"{name}.attention.norm", attended, hidden,
                                 f"{name}.attention.output.bias", f"{name}/attention_out")
    up = a.product(hidden, f"{name}.ffn.up", f"{name}/up")
    active = layers.gelu(up, f"{name}.ffn.up.bias", f"{name}/active")
    down = a.product(active, f"{name}.ffn.down", f"{name}/down")
    return layers.add_and_norm(f"{name}.ffn.norm", down, hidden, f"{name}.ffn.down.bias", f"{name}/out")


def normalised(g: GraphWriter, vectors: str, prefix: str, output: str) -> str:
    """float32 vectors of length 1 along the last axis; a zero vector stays zero."""
    length = g.node("ReduceL2", [vectors], f"{prefix}/length", axes=[-1], keepdims=1)
    safe = g.node("Max", [length, g.tensor("shortest", np.float32(SHORTEST))], f"{prefix}/safe_length")
    return g.node("Div", [vectors, safe], output)


def dense_head(a: Arithmetic, hidden: str) -> None:
    """[batch, hidden]: the first token's state, of unit length."""
    g = a.graph
    first = g.node("Gather", [hidden, g.integers("first", 0)], "dense/first", axis=1)
    normalised(g, g.cast(first, np.float32, "dense/float"), "dense", "dense_vecs")


def lexical_head(a: Arithmetic, hidden: str, mask: str) -> None:
    """[batch, seq]: a weight >= 0 per token, 0 for padding."""
    g = a.graph
    # One channel: quantising it saves nothing.
    scores = Arithmetic.product(a, hidden, "lexical", "lexical/scores")
    biased = g.node("Add", [scores, a.parameter("lexical.bias")], "lexical/biased")
    flat = g.node("Squeeze", [biased, g.integers("last_axis", [2])], "lexical/flat")
    positive = g.node("Relu", [g.cast(flat, np.float32, "lexical/float")], "lexical/positive")
    g.node("Mul", [positive, mask], "lexical_weights")


def colbert_head(a: Arithmetic, hidden: str, mask: str) -> None:
    """[batch, seq - 1, hidden]: unit vectors of all tokens but the first, zero for padding.

    Vector i belongs to token i + 1, and so does its mask.
    """
    g = a.graph
    bounds = [g.integers("one", [1]), g.integers("end", [np.iinfo(np.int64).max]), g.integers("seq_axis", [1])]
    projected = a.product(hidden, "colbert", "colbert/projected")
    rest = g.node("Slice", [projected, *bounds], "colbert/rest")
    vectors = g.node("Add", [rest, a.parameter("colbert.bias")], "colbert/vectors")
    rest_mask = g.node("Slice", [mask, *bounds], "colbert/mask")
    column = g.node("Unsqueeze", [rest_mask, g.integers("last_axis", [2])], "colbert/mask_column")
    masked = g.node("Mul", [g.cast(vectors, np.float32, "colbert/float"), column], "colbert/masked")
    normalised(g, masked, "colbert", "colbert_vecs")


def write_graph(path: Path, shape: Shape, a: Arithmetic, layers: Layers) -> List[Path]:
    """Write the whole model. @returns Its files, the graph first."""
    g, value = a.graph, helper.make_tensor_value_info
    hidden = embeddings(a, layers, shape)
    for index in range(shape.layers):
        hidden = encoder_layer(a, layers, f"layers.{index}", hidden)
    mask = g.cast("attention_mask", np.float32, "mask/float")
    dense_head(a, hidden)
    outputs = [value("dense_vecs", TensorProto.FLOAT, ["batch", shape.hidden])]
    if "lexical.weight" in a.weights:
        lexical_head(a, hidden, mask)
        outputs.append(value("lexical_weights", TensorProto.FLOAT, ["batch", "seq"]))
    if "colbert.weight" in a.weights:
        colbert_head(a, hidden, mask)
        outputs.append(value("colbert_vecs", TensorProto.FLOAT, ["batch", "seq_minus_1", shape.hidden]))
    inputs = [value(name, TensorProto.INT64, ["batch", "seq"]) for name in ("input_ids", "attention_mask")]
    return g.save(path, inputs, outputs)


def write_fused(path: Path, shape: Shape, weights: Weights, precision: str,
                keep_float: Sequence[str] = ()) -> List[Path]:
    """The graph for ONNX Runtime's CPU and CUDA providers. `keep_float`: patterns of linear layers
    and tables (`layers.0.*`) that int8 leaves in float32."""
    g, own = GraphWriter(), dict(weights)
    a = (Int8Arithmetic(g, own, keep_float) if precision == "int8"
         else Arithmetic(g, own, np.float16 if precision == "fp16" else np.float32))
    return write_graph(path, shape, a, FusedLayers(a, shape))


def write_plain(path: Path, shape: Shape, weights: Weights, precision: str) -> List[Path]:
    """The graph for TensorRT, which fuses by itself and knows ONNX's own operators alone."""
    a = Arithmetic(GraphWriter(), weights, np.float16 if precision == "fp16" else np.float32)
    return write_graph(path, shape, a, PlainLayers(a, shape))
