"""Weights by name, whatever they were read from, and what a model must have of them.

Linear weights are [inputs, outputs], so that y = x @ weight + bias; a norm has gamma and beta:

    embeddings.word [vocab, hidden]   embeddings.position [positions, hidden]   embeddings.type [hidden]
    embeddings.norm.*
    layers.N.attention.{query,key,value,output}.*   layers.N.attention.norm.*
    layers.N.ffn.{up,down}.*                        layers.N.ffn.norm.*
    attention.buckets [buckets, heads]              MPNet's bias by the distance of two tokens
    modules.N.*                                     linear layers and norms after the pooling
    lexical.* [hidden, 1]             colbert.* [hidden, hidden], each or both may be missing

ModernBERT has no position table, layers.N.ffn.gate beside up, and final.norm; its norms come before what
they are for, layer 0 has no attention.norm, and biases may be missing.
"""
from __future__ import annotations

from typing import Dict, Iterator, Sequence, Tuple

import numpy as np

from .layout import Module
from .shape import ExportError, Shape

Weights = Dict[str, np.ndarray]
Shapes = Iterator[Tuple[str, Tuple[int, ...]]]


def linear_shapes(name: str, inputs: int, outputs: int) -> Shapes:
    yield f"{name}.weight", (inputs, outputs)
    yield f"{name}.bias", (outputs,)


def norm_shapes(name: str, size: int) -> Shapes:
    yield f"{name}.gamma", (size,)
    yield f"{name}.beta", (size,)


def layer_shapes(name: str, shape: Shape) -> Shapes:
    for part in ("query", "key", "value", "output"):
        yield from linear_shapes(f"{name}.attention.{part}", shape.hidden, shape.hidden)
    yield from norm_shapes(f"{name}.attention.norm", shape.hidden)
    yield from linear_shapes(f"{name}.ffn.up", shape.hidden, shape.ffn)
    yield from linear_shapes(f"{name}.ffn.down", shape.ffn, shape.hidden)
    yield from norm_shapes(f"{name}.ffn.norm", shape.hidden)


def rotary_shapes(shape: Shape) -> Shapes:
    """ModernBERT's tensors."""
    yield "embeddings.word", (shape.vocab, shape.hidden)
    for norm in ("embeddings.norm", "final.norm"):
        yield f"{norm}.gamma", (shape.hidden,)
    for index in range(shape.layers):
        name = f"layers.{index}"
        for part in ("query", "key", "value", "output"):
            yield f"{name}.attention.{part}.weight", (shape.hidden, shape.hidden)
        if index > 0:
            yield f"{name}.attention.norm.gamma", (shape.hidden,)
        for part in ("up", "gate"):
            yield f"{name}.ffn.{part}.weight", (shape.hidden, shape.ffn)
        yield f"{name}.ffn.down.weight", (shape.ffn, shape.hidden)
        yield f"{name}.ffn.norm.gamma", (shape.hidden,)


def tensor_shapes(shape: Shape) -> Dict[str, Tuple[int, ...]]:
    """Every tensor that the encoder must have, with its shape; the heads' are not among them."""
    if shape.rotary is not None:
        return dict(rotary_shapes(shape))
    shapes: Dict[str, Tuple[int, ...]] = {
        "embeddings.word": (shape.vocab, shape.hidden),
        "embeddings.position": (shape.positions, shape.hidden),
        "embeddings.type": (shape.hidden,),
    }
    shapes.update(norm_shapes("embeddings.norm", shape.hidden))
    for index in range(shape.layers):
        shapes.update(layer_shapes(f"layers.{index}", shape))
    if shape.buckets > 0:
        shapes["attention.buckets"] = (shape.buckets, shape.heads)
    return shapes


def head_shapes(shape: Shape) -> Dict[str, Dict[str, Tuple[int, ...]]]:
    """The tensors of each head that has any."""
    return {
        "lexical": dict(linear_shapes("lexical", shape.hidden, 1)),
        "colbert": dict(linear_shapes("colbert", shape.hidden, shape.hidden)),
    }


def module_shapes(modules: Sequence[Module]) -> Shapes:
    """The tensors of the modules after the pooling."""
    for module in modules:
        if module.kind == "norm":
            yield from norm_shapes(module.name, module.outputs)
        elif module.kind == "dense":
            yield f"{module.name}.weight", (module.inputs, module.outputs)
            if module.has_bias:
                yield f"{module.name}.bias", (module.outputs,)


def check_weights(weights: Weights, shape: Shape, where: str, modules: Sequence[Module] = ()) -> None:
    """Refuse weights that are missing, of another shape or not finite, before anything is written."""
    wanted = {**tensor_shapes(shape), **dict(module_shapes(modules))}
    for head, shapes in head_shapes(shape).items():
        if any(name in weights for name in shapes):
            wanted.update(shapes)
    for name, expected in wanted.items():
        if name not in weights:
            raise ExportError(f"{where} lacks the tensor {name} {list(expected)}")
        found = weights[name]
        if found.shape != expected:
            raise ExportError(f"{where}: {name} is {list(found.shape)}, its config.json says {list(expected)}")
        if not np.isfinite(found).all():
            raise ExportError(f"{where}: {name} has values that are not finite; the file is damaged")
