"""Models with made-up weights in the shape of real ones, equal on every machine.

They stand in for trained models in tests of precision, speed and memory, so their weights have what
makes precision hard in trained ones, and what makes an error visible:

- Values with a spread of scales: each output channel of a weight has a scale between 0.5 and 2, so
  one scale for a whole tensor loses bits.
- Outlying channels: a few channels of the hidden state are six times as large as the others in every
  token, as XLM-R's are; one scale for a whole input loses bits.
- Attention with preferences: scores deviate by about 1.5, so softmax is neither flat nor a copy.
- Vectors that differ: unrelated texts have dense vectors with a cosine near 0.5, as a trained
  model's, so that an error of a percent is an error of a percent of what search goes by.
"""
from __future__ import annotations

import math
from typing import Dict, Tuple

import numpy as np
from mini.noise import seed_of, stream

from .shape import Shape
from .weights import Weights, head_shapes, tensor_shapes

#: Ids of mini's tokenizer, which all small models use.
MINI_VOCAB = 20_000

SHAPES: Dict[str, Shape] = {
    "tiny": Shape(vocab=MINI_VOCAB, hidden=384, layers=6, heads=12, ffn=1536, positions=514),
    "large": Shape(vocab=250_002, hidden=1024, layers=24, heads=16, ffn=4096, positions=8194),
}

OUTLIERS = 3
OUTLIER_SIZE = 6.0
OUTLIER_GAIN = 0.1
DRAWS_AT_ONCE = 2**20

#: Deviation of a linear layer's outputs for inputs of deviation 1, by what the layer is.
GAINS = {"query": 2.0, "key": 2.0, "value": 1.0, "output": 1.0, "up": 1.0, "down": 0.2,
         "lexical": 1.0, "colbert": 1.0}
#: Layers that write into the residual; the more layers, the less each.
WRITERS = ("output", "down")
DEPTH = 6
#: Layers that read the hidden state.
READERS = ("attention.query", "attention.key", "attention.value", "ffn.up")
#: Deviation of an embedding table, where it is not that of a bias.
TABLES = {"embeddings.word": 1.0, "embeddings.position": 0.3}
#: Lets most tokens, not all, have a lexical weight.
LEXICAL_BIAS = 1.0


def bell(name: str, shape: Tuple[int, ...]) -> np.ndarray:
    """float32 noise of mean 0 and deviation 1, bell-shaped: the sum of three uniform draws.

    Whole numbers until the last step, so that no processor rounds it in its own way.
    """
    count = math.prod(shape)
    values = np.empty(count, dtype=np.float32)
    for start in range(0, count, DRAWS_AT_ONCE):
        size = min(DRAWS_AT_ONCE, count - start)
        draws = stream(seed_of(f"{name} {start}"), size)
        total = sum((draws >> np.uint64(shift)) & np.uint64(0x1FFFFF) for shift in (0, 21, 42))
        # Three uniform draws of 21 bits: mean 3 * 2^20, variance 3 * 2^42 / 12.
        values[start:start + size] = (total.astype(np.float64) - 3 * 2**20) / 2**20
    return values.reshape(shape)


def spread(name: str, size: int) -> np.ndarray:
    """Scales between 0.5 and 2, most of them below 1."""
    uniform = (stream(seed_of(name), size) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return (0.5 + 1.5 * uniform**3).astype(np.float32)


def outliers(hidden: int) -> np.ndarray:
    """Which channels outlie; the same in every layer, because residuals carry them on."""
    return np.argsort(stream(seed_of("outliers"), hidden), kind="stable")[:OUTLIERS]


def weight(name: str, shape: Tuple[int, ...], depth: int) -> np.ndarray:
    """A linear weight, [inputs, outputs]."""
    kind = name.split(".")[-2]
    deviation = GAINS[kind] / math.sqrt(shape[0])
    if kind in WRITERS:
        deviation *= math.sqrt(DEPTH / depth)
    values = bell(name, shape)
    values *= spread(f"{name} scales", shape[1]) * np.float32(deviation)
    return values


def norm(name: str, size: int, is_last: bool) -> np.ndarray:
    """A norm's gamma or beta. The last norm takes the outliers away, as training for cosines does."""
    values = bell(name, (size,)) * np.float32(0.1)
    channels = outliers(size)
    if name.endswith("gamma"):
        values += 1
        values[channels] = OUTLIER_GAIN
    elif not is_last:
        values[channels] = OUTLIER_SIZE
    return values


def tensor(name: str, shape: Tuple[int, ...], depth: int) -> np.ndarray:
    if name.endswith(".weight"):
        return weight(name, shape, depth)
    if name.endswith((".gamma", ".beta")):
        return norm(name, shape[0], name.startswith(f"layers.{depth - 1}.ffn"))
    return bell(name, shape) * np.float32(TABLES.get(name, 0.05))


def generate(shape: Shape) -> Weights:
    """All tensors of a model with the heads of BGE-M3."""
    wanted = tensor_shapes(shape)
    for shapes in head_shapes(shape).values():
        wanted.update(shapes)
    weights = {name: tensor(name, size, shape.layers) for name, size in wanted.items()}
    weights["lexical.bias"] += np.float32(LEXICAL_BIAS)
    for index in range(shape.layers):
        for part in READERS:
            cancel_outliers(weights, f"layers.{index}.{part}")
    return weights


def cancel_outliers(weights: Weights, name: str) -> None:
    """Let the bias take back what the outliers add in every token alike, as it does in trained models;
    otherwise all tokens soon look the same."""
    rows = weights[f"{name}.weight"][outliers(weights[f"{name}.weight"].shape[0])]
    weights[f"{name}.bias"] -= np.float32(OUTLIER_SIZE) * rows.sum(axis=0)
