"""The ONNX graph of mini: opset 17 with ONNX Runtime's fused attention, norm and GELU nodes."""
from __future__ import annotations

from typing import Any, List, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from weights import EPSILON, FIRST_POSITION, HEADS, HIDDEN, LAYERS, Weights

FUSED = "com.microsoft"


class GraphWriter:
    """Collects nodes; every method returns the name of a node's (first) output."""

    def __init__(self) -> None:
        self.nodes: List[onnx.NodeProto] = []
        self.constants: List[onnx.TensorProto] = []

    def node(self, kind: str, inputs: Sequence[str], output: str, domain: str = "",
             **attributes: Any) -> str:
        """Append one node named after its output."""
        self.nodes.append(helper.make_node(
            kind, list(inputs), [output], name=output, domain=domain, **attributes))
        return output

    def integers(self, name: str, values: Sequence[int]) -> str:
        """An int64 constant, for axes and slice bounds."""
        tensor = numpy_helper.from_array(np.array(values, dtype=np.int64), name)
        self.constants.append(tensor)
        return name


def gathered(g: GraphWriter, table: str, ids: str) -> str:
    """Rows of an int8 table, scaled back to float32: [batch, seq] -> [batch, seq, HIDDEN]."""
    rows = g.node("Gather", [f"{table}.rows", ids], f"{table}/int8")
    floats = g.node("Cast", [rows], f"{table}/float", to=TensorProto.FLOAT)
    scale = g.node("Gather", [f"{table}.scale", ids], f"{table}/scale")
    return g.node("Mul", [floats, scale], f"{table}/out")


def add_and_norm(g: GraphWriter, name: str, update: str, residual: str, bias: str,
                 output: str) -> str:
    """LayerNorm(update + bias + residual) in one node: [batch, seq, HIDDEN]."""
    return g.node("SkipLayerNormalization",
                  [update, residual, f"{name}.gamma", f"{name}.beta", bias],
                  output, FUSED, epsilon=EPSILON)


def embeddings(g: GraphWriter, mask32: str) -> str:
    """Normalised embeddings: [batch, seq, HIDDEN].

    Positions count the tokens from FIRST_POSITION; padding gets the padding row, as in XLM-R.
    """
    counted = g.node("CumSum", [mask32, g.integers("axis_1", 1)], "position/counted")
    masked = g.node("Mul", [counted, mask32], "position/masked")
    offset = g.node("Cast", [g.integers("padding_position", FIRST_POSITION - 1)],
                    "position/offset", to=TensorProto.INT32)
    positions = g.node("Add", [masked, offset], "position/ids")
    words = gathered(g, "embeddings.word", "input_ids")
    places = gathered(g, "embeddings.position", positions)
    return add_and_norm(g, "embeddings.norm", words, places, "embeddings.type", "embeddings/out")


def encoder_layer(g: GraphWriter, index: int, hidden: str, mask32: str) -> str:
    """One post-LN transformer layer: [batch, seq, HIDDEN] -> the same."""
    name = f"layers.{index}"
    parts = [g.node("MatMul", [hidden, f"{name}.attention.{part}.weight"], f"{name}/{part}")
             for part in ("query", "key", "value")]
    biases = g.node("Concat", [f"{name}.attention.{part}.bias"
                               for part in ("query", "key", "value")], f"{name}/biases", axis=0)
    mixed = g.node("MultiHeadAttention", [*parts, biases, mask32], f"{name}/mixed",
                   FUSED, num_heads=HEADS)
    attended = g.node("MatMul", [mixed, f"{name}.attention.output.weight"], f"{name}/attended")
    hidden = add_and_norm(g, f"{name}.attention.norm", attended, hidden,
                          f"{name}.attention.output.bias", f"{name}/attention_out")
    up = g.node("MatMul", [hidden, f"{name}.ffn.up.weight"], f"{name}/up")
    active = g.node("BiasGelu", [up, f"{name}.ffn.up.bias"], f"{name}/active", FUSED)
    down = g.node("MatMul", [active, f"{name}.ffn.down.weight"], f"{name}/down")
    return add_and_norm(g, f"{name}.ffn.norm", down, hidden,
                        f"{name}.ffn.down.bias", f"{name}/out")


def normalised(g: GraphWriter, vectors: str, prefix: str, output: str) -> str:
    """Vectors of length 1 along the last axis; a zero vector stays zero instead of NaN."""
    length = g.node("ReduceL2", [vectors], f"{prefix}/length", axes=[-1], keepdims=1)
    safe = g.node("Max", [length, "tiny"], f"{prefix}/safe_length")
    return g.node("Div", [vectors, safe], output)


def head_outputs(g: GraphWriter, hidden: str) -> None:
    """The three heads of BGE-M3 on the last hidden state."""
    axis = g.integers("last_axis", [2])
    seq_axis = g.integers("seq_axis", [1])
    one = g.integers("one", [1])
    end = g.integers("end", [np.iinfo(np.int64).max])
    mask = g.node("Cast", ["attention_mask"], "mask/float", to=TensorProto.FLOAT)

    first = g.node("Gather", [hidden, g.integers("first", 0)], "dense/first", axis=1)
    normalised(g, first, "dense", "dense_vecs")

    scores = g.node("MatMul", [hidden, "lexical.weight"], "lexical/scores")
    biased = g.node("Add", [scores, "lexical.bias"], "lexical/biased")
    flat = g.node("Squeeze", [biased, axis], "lexical/flat")
    positive = g.node("Relu", [flat], "lexical/positive")
    g.node("Mul", [positive, mask], "lexical_weights")

    rest = g.node("Slice", [hidden, one, end, seq_axis], "colbert/rest")
    projected = g.node("MatMul", [rest, "colbert.weight"], "colbert/projected")
    vectors = g.node("Add", [projected, "colbert.bias"], "colbert/vectors")
    rest_mask = g.node("Slice", [mask, one, end, seq_axis], "colbert/mask")
    column = g.node("Unsqueeze", [rest_mask, axis], "colbert/mask_column")
    masked = g.node("Mul", [vectors, column], "colbert/masked")
    normalised(g, masked, "colbert", "colbert_vecs")


def build_model(weights: Weights) -> onnx.ModelProto:
    """The complete model."""
    g = GraphWriter()
    mask32 = g.node("Cast", ["attention_mask"], "mask/int32", to=TensorProto.INT32)
    hidden = embeddings(g, mask32)
    for index in range(LAYERS):
        hidden = encoder_layer(g, index, hidden, mask32)
    head_outputs(g, hidden)
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    tensors.append(numpy_helper.from_array(np.float32(1e-12).reshape(()), "tiny"))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        g.nodes, "mini",
        inputs=[value(name, TensorProto.INT64, ["batch", "seq"])
                for name in ("input_ids", "attention_mask")],
        outputs=[value("dense_vecs", TensorProto.FLOAT, ["batch", HIDDEN]),
                 value("lexical_weights", TensorProto.FLOAT, ["batch", "seq"]),
                 value("colbert_vecs", TensorProto.FLOAT, ["batch", "seq_minus_1", HIDDEN])],
        initializer=tensors + g.constants)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(FUSED, 1)]
    model = helper.make_model(graph, opset_imports=opsets, producer_name="mini")
    model.ir_version = 8
    return model
