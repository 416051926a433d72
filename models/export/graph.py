"""The ONNX graph of an encoder with its heads, written node by node.

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
from .heads import colbert_head, dense_head, lexical_head
from .layout import Module
from .plain import PlainLayers
from .rotary import RotaryLayers, rotary_encoder
from .shape import ExportError, Shape
from .weights import Weights
from .writer import GraphWriter

CLS = ("cls",)


class Layers(Protocol):
    """How the parts of a layer are spelt: in fused operators or in plain ONNX."""

    def add_and_norm(self, name: str, update: str, residual: str, bias: str, output: str) -> str:
        """LayerNorm(update + bias + residual)"""

    def attention(self, name: str, hidden: str) -> str:
        """Softmax(Q K^T / sqrt(head) + bias by distance) V of all heads, before the output projection."""

    def activation(self, value: str, bias: str, output: str) -> str:
        """The feed-forward part's activation of value + bias."""


def positions(a: Arithmetic, shape: Shape) -> str:
    """Rows of the position table, [batch, seq].

    XLM-R and its kin count the tokens that are no padding, from `pad_id + 1`; padding itself has the
    position `pad_id`. BERT and its kin count from 0; what padding gets there takes part in nothing.
    """
    g = a.graph
    if not shape.is_counted_from_pad:
        counted = g.node("CumSum", ["attention_mask", g.integers("axis_1", 1)], "position/counted")
        return g.node("Sub", [counted, g.integers("one_position", 1)], "position/ids")
    is_pad = g.node("Equal", ["input_ids", g.integers("pad_id", shape.pad_id)], "position/is_pad")
    real = g.cast(g.node("Not", [is_pad], "position/is_real"), np.int32, "position/real")
    counted = g.node("CumSum", [real, g.integers("axis_1", 1)], "position/counted")
    masked = g.node("Mul", [counted, real], "position/masked")
    return g.node("Add", [masked, g.tensor("position/offset", np.int32(shape.pad_id))], "position/ids")


def embeddings(a: Arithmetic, layers: Layers, shape: Shape) -> str:
    """Normalised embeddings, [batch, seq, hidden]."""
    places = a.rows("embeddings.position", positions(a, shape))
    words = a.rows("embeddings.word", "input_ids")
    return layers.add_and_norm("embeddings.norm", words, places, "embeddings.type", "embeddings/out")


def encoder_layer(a: Arithmetic, layers: Layers, name: str, hidden: str) -> str:
    """One layer, norms after the residuals: [batch, seq, hidden] -> the same."""
    mixed = layers.attention(f"{name}.attention", hidden)
    attended = a.product(mixed, f"{name}.attention.output", f"{name}/attended")
    hidden = layers.add_and_norm(f"{name}.attention.norm", attended, hidden,
                                 f"{name}.attention.output.bias", f"{name}/attention_out")
    up = a.product(hidden, f"{name}.ffn.up", f"{name}/up")
    active = layers.activation(up, f"{name}.ffn.up.bias", f"{name}/active")
    down = a.product(active, f"{name}.ffn.down", f"{name}/down")
    return layers.add_and_norm(f"{name}.ffn.norm", down, hidden, f"{name}.ffn.down.bias", f"{name}/out")


def encoder(a: Arithmetic, layers: Layers, shape: Shape) -> str:
    """The last hidden state, [batch, seq, hidden]."""
    hidden = embeddings(a, layers, shape)
    for index in range(shape.layers):
        hidden = encoder_layer(a, layers, f"layers.{index}", hidden)
    return hidden


def finish(path: Path, shape: Shape, a: Arithmetic, hidden: str, pooling: Sequence[str],
           modules: Sequence[Module]) -> List[Path]:
    """Add the heads and write the model. @returns Its files, the graph first."""
    g, value = a.graph, helper.make_tensor_value_info
    mask = g.cast("attention_mask", np.float32, "mask/float")
    dense_head(a, hidden, mask, pooling, modules)
    dim = next((module.outputs for module in reversed(modules)), shape.hidden * len(pooling))
    outputs = [value("dense_vecs", TensorProto.FLOAT, ["batch", dim])]
    if "lexical.weight" in a.weights:
        lexical_head(a, hidden, mask)
        outputs.append(value("lexical_weights", TensorProto.FLOAT, ["batch", "seq"]))
    if "colbert.weight" in a.weights:
        colbert_head(a, hidden, mask)
        outputs.append(value("colbert_vecs", TensorProto.FLOAT, ["batch", "seq_minus_1", shape.hidden]))
    inputs = [value(name, TensorProto.INT64, ["batch", "seq"]) for name in ("input_ids", "attention_mask")]
    return g.save(path, inputs, outputs)


def write_fused(path: Path, shape: Shape, weights: Weights, precision: str, keep_float: Sequence[str] = (),
                pooling: Sequence[str] = CLS, modules: Sequence[Module] = ()) -> List[Path]:
    """The graph for ONNX Runtime's CPU and CUDA providers. `keep_float`: patterns of linear layers
    and tables (`layers.0.*`) that int8 leaves in float32."""
    g, own = GraphWriter(), dict(weights)
    a = (Int8Arithmetic(g, own, keep_float) if precision == "int8"
         else Arithmetic(g, own, np.float16 if precision == "fp16" else np.float32))
    hidden = (encoder(a, FusedLayers(a, shape), shape) if shape.rotary is None
              else rotary_encoder(a, RotaryLayers(a, shape), shape))
    return finish(path, shape, a, hidden, pooling, modules)


def write_plain(path: Path, shape: Shape, weights: Weights, precision: str, pooling: Sequence[str] = CLS,
                modules: Sequence[Module] = ()) -> List[Path]:
    """The graph for TensorRT, which fuses by itself and knows ONNX's own operators alone."""
    if shape.rotary is not None or shape.buckets > 0 or shape.activation != "gelu":
        raise ExportError(f"the attention or activation of {shape.kind} cannot be compiled for TensorRT\n"
                          "  leave out --tensorrt: the fused graphs run on CUDA")
    a = Arithmetic(GraphWriter(), weights, np.float16 if precision == "fp16" else np.float32)
    return finish(path, shape, a, encoder(a, PlainLayers(a, shape), shape), pooling, modules)
