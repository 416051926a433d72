"""The heads of a graph: pooling and the modules after it for dense vectors, and BGE-M3's two others.

All of it is float32, whatever the encoder is in: it costs next to nothing, and sums of tokens are long.
"""
from __future__ import annotations

import math
from typing import Sequence, Tuple

import numpy as np

from .arithmetic import Arithmetic
from .layout import Module
from .writer import GraphWriter

#: Below which a vector's length counts as zero, as in PyTorch's `normalize`.
SHORTEST = 1e-12
#: Below which a number of tokens counts as zero, as in sentence-transformers' pooling.
FEWEST = 1e-9
#: What padding is for the maximum over tokens: less than any state.
LEAST = -3e38
#: PyTorch's own, which a LayerNorm module is made with.
NORM_EPSILON = 1e-5


def normalised(g: GraphWriter, vectors: str, prefix: str, output: str) -> str:
    """float32 vectors of length 1 along the last axis; a zero vector stays zero."""
    length = g.node("ReduceL2", [vectors], f"{prefix}/length", axes=[-1], keepdims=1)
    safe = g.node("Max", [length, g.tensor("shortest", np.float32(SHORTEST))], f"{prefix}/safe_length")
    return g.node("Div", [vectors, safe], output)


def dense_head(a: Arithmetic, hidden: str, mask: str, pooling: Sequence[str], modules: Sequence[Module]) -> None:
    """[batch, dim] of unit length: the poolings side by side, through the modules."""
    g = a.graph
    pooled = [POOLINGS[mode](a, hidden, mask) for mode in pooling]
    vector = pooled[0] if len(pooled) == 1 else g.node("Concat", pooled, "dense/pooled", axis=-1)
    for module in modules:
        vector = MODULES[module.kind](a, vector, module)
    normalised(g, vector, "dense", "dense_vecs")


# --- Pooling: [batch, seq, hidden] and the mask, [batch, seq] -> [batch, hidden], all float32 -----

def first_token(a: Arithmetic, hidden: str, mask: str) -> str:
    g = a.graph
    first = g.node("Gather", [hidden, g.integers("first", 0)], "dense/first", axis=1)
    return g.cast(first, np.float32, "dense/float")


def states_of(a: Arithmetic, hidden: str) -> str:
    """The states as float32, made once."""
    name = "pooling/states"
    return name if a.graph.has(name) else a.graph.cast(hidden, np.float32, name)


def weighted_sum(a: Arithmetic, hidden: str, weights: str, prefix: str) -> Tuple[str, str]:
    """The sum of the states with a weight per token, [batch, hidden], and that of the weights, [batch, 1]."""
    g = a.graph
    row = g.node("Unsqueeze", [weights, g.integers("middle_axis", [1])], f"{prefix}/row")
    product = g.node("MatMul", [row, states_of(a, hidden)], f"{prefix}/product")
    total = g.node("Squeeze", [product, g.integers("middle_axis", [1])], f"{prefix}/sum")
    count = g.node("ReduceSum", [weights, g.integers("seq_axis", [1])], f"{prefix}/count", keepdims=1)
    return total, g.node("Max", [count, g.tensor("fewest", np.float32(FEWEST))], f"{prefix}/safe_count")


def mean(a: Arithmetic, hidden: str, mask: str) -> str:
    total, count = weighted_sum(a, hidden, mask, "pooling/mean")
    return a.graph.node("Div", [total, count], "pooling/mean/out")


def mean_sqrt(a: Arithmetic, hidden: str, mask: str) -> str:
    g = a.graph
    total, count = weighted_sum(a, hidden, mask, "pooling/mean_sqrt")
    return g.node("Div", [total, g.node("Sqrt", [count], "pooling/mean_sqrt/root")], "pooling/mean_sqrt/out")


def weighted_mean(a: Arithmetic, hidden: str, mask: str) -> str:
    """A token's weight is its place in the row, from 1."""
    g = a.graph
    places = g.node("CumSum", [mask, g.integers("axis_1", 1)], "pooling/weighted/places")
    weights = g.node("Mul", [places, mask], "pooling/weighted/weights")
    total, count = weighted_sum(a, hidden, weights, "pooling/weighted")
    return g.node("Div", [total, count], "pooling/weighted/out")


def last_token(a: Arithmetic, hidden: str, mask: str) -> str:
    """The state of the last token that is no padding: the one whose place is the row's length."""
    g = a.graph
    places = g.node("CumSum", [mask, g.integers("axis_1", 1)], "pooling/last/places")
    length = g.node("ReduceSum", [mask, g.integers("seq_axis", [1])], "pooling/last/length", keepdims=1)
    is_last = g.cast(g.node("Equal", [places, length], "pooling/last/is_length"), np.float32, "pooling/last/is_last")
    weights = g.node("Mul", [is_last, mask], "pooling/last/weights")
    return weighted_sum(a, hidden, weights, "pooling/last")[0]


def maximum(a: Arithmetic, hidden: str, mask: str) -> str:
    g = a.graph
    column = g.node("Unsqueeze", [mask, g.integers("last_axis", [2])], "pooling/max/column")
    is_token = g.cast(column, np.bool_, "pooling/max/is_token")
    masked = g.node("Where", [is_token, states_of(a, hidden), g.tensor("least", np.float32(LEAST))], "pooling/max/masked")
    return g.node("ReduceMax", [masked], "pooling/max/out", axes=[1], keepdims=0)


POOLINGS = {"cls": first_token, "mean": mean, "mean_sqrt_len_tokens": mean_sqrt, "weightedmean": weighted_mean,
            "lasttoken": last_token, "max": maximum}


# --- Modules after the pooling: [batch, inputs] -> [batch, outputs] -------------------------------

def dense_module(a: Arithmetic, vector: str, module: Module) -> str:
    g, name = a.graph, module.name
    product = g.node("MatMul", [vector, float_tensor(a, f"{name}.weight")], f"{name}/product")
    if module.has_bias:
        product = g.node("Add", [product, float_tensor(a, f"{name}.bias")], f"{name}/biased")
    return ACTIVATIONS[module.activation](g, product, name)


def norm_module(a: Arithmetic, vector: str, module: Module) -> str:
    name = module.name
    return a.graph.node("LayerNormalization", [vector, *(float_tensor(a, f"{name}.{part}") for part in ("gamma", "beta"))],
                        f"{name}/out", axis=-1, epsilon=NORM_EPSILON)


def normalize_module(a: Arithmetic, vector: str, module: Module) -> str:
    return normalised(a.graph, vector, module.name, f"{module.name}/out")


MODULES = {"dense": dense_module, "norm": norm_module, "normalize": normalize_module}


def float_tensor(a: Arithmetic, name: str) -> str:
    return a.graph.tensor(name, a.weights[name].astype(np.float32, copy=False))


def gelu(g: GraphWriter, value: str, name: str) -> str:
    part = g.node("Mul", [value, g.tensor("float_root_half", np.float32(math.sqrt(0.5)))], f"{name}/part")
    share = g.node("Add", [g.node("Erf", [part], f"{name}/erf"), g.tensor("float_one", np.float32(1))], f"{name}/share")
    half = g.node("Mul", [value, g.tensor("float_half", np.float32(0.5))], f"{name}/half")
    return g.node("Mul", [half, share], f"{name}/active")


ACTIVATIONS = {
    "identity": lambda g, value, name: value,
    "tanh": lambda g, value, name: g.node("Tanh", [value], f"{name}/active"),
    "relu": lambda g, value, name: g.node("Relu", [value], f"{name}/active"),
    "sigmoid": lambda g, value, name: g.node("Sigmoid", [value], f"{name}/active"),
    "gelu": gelu,
}


# --- BGE-M3's other heads --------------------------------------------------------------------------

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
