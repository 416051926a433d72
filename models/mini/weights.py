"""mini's weights, written down instead of trained.

The hidden vector is divided into parts (`CONTENT`, `POSITION`, ...), each with one meaning:

- A word-piece's content is its own random sign vector, as long as the piece is rare.
- Layer 1 mixes into each token's content a shuffled copy of its two neighbours' contents, so
  that a token knows its context.
- Layer 2 empties the vector of `<s>` and fills it with the sum of all contents, the dense
  vector; every other token attends to `<s>`, where it finds nothing, and so stays as it is.
- The feed-forward blocks, and every entry that has no meaning, hold small noise, so that any
  weight lost, transposed or swapped shows in a parity test.

Every embedding row has mean 0 and variance 1, for which `FILLER` makes up the difference.
LayerNorm then changes next to nothing and the parts can be reasoned about one by one.
"""
from __future__ import annotations

import math
from typing import Dict

import numpy as np

from noise import balanced_signs, noise, order, seed_of
from sources import LEADING_SPECIALS, MASK, Vocabulary

HIDDEN, HEADS, LAYERS, FFN = 256, 2, 2, 512
HEAD = HIDDEN // HEADS
POSITIONS, FIRST_POSITION = 8194, 2
EPSILON = 1e-5

CONTENT = slice(0, 176)      # what the token says
POSITION = slice(176, 216)   # where it stands: a cosine and a sine for each of 20 frequencies
FILLER = slice(216, 244)     # makes up mean and variance
IDF = 244                    # how rare the piece is
FLAG = 245                   # set on `<s>` alone
CONSTANT = slice(246, 256)   # the same for all texts

CONTENT_SIZE = 176
FREQUENCIES = 20
FILLER_SIZE = 28
CONSTANT_SIZE = 10

CONTENT_AMPLITUDE = 0.7      # of the rarest piece
COMMONEST_CONTENT = 0.05     # even the commonest piece keeps this share of the amplitude
POSITION_AMPLITUDE = 1.5
IDF_AMPLITUDE = 2.0
FLAG_AMPLITUDE = 6.0

NEIGHBOUR_SHARE = 0.5        # of a neighbour's content mixed in, for each side
NEIGHBOUR_SHARPNESS = 1.2    # score per frequency of the neighbour heads
SINK_SCORE = 40.0            # by which `<s>` prevails where it is to be attended to
POOL_GAIN = 20.0             # lifts the mean of the contents over the noise
DENSE_CONSTANT = 56.0        # length of the part all dense vectors share; the content's is 16
LEXICAL_SCALE, LEXICAL_BIAS = 0.34, -0.02
COLBERT_FILLER = 2.0

Weights = Dict[str, np.ndarray]


def rarity(vocabulary: Vocabulary) -> np.ndarray:
    """IDF of every token between 0 and 1: [vocab]. Special tokens count as common."""
    documents = vocabulary.documents
    ceiling = math.log((documents + 1) / 1.5)
    pieces = [math.log((documents + 1) / (max(p.document_frequency, 1) + 0.5)) / ceiling
              for p in vocabulary.pieces]
    return np.array([0.0] * len(LEADING_SPECIALS) + [max(r, 0.0) for r in pieces] + [0.0])


def content_key(token: str) -> str:
    """Pieces that differ only in case share one content vector."""
    return token.lower()


def quantised(rows: np.ndarray, name: str) -> Weights:
    """A table as int8 rows and one scale per row: [n, HIDDEN] and [n, 1]."""
    scale = np.abs(rows).max(axis=1, keepdims=True) / 127
    scale[scale == 0] = 1
    return {
        f"{name}.rows": np.rint(rows / scale).astype(np.int8),
        f"{name}.scale": scale.astype(np.float32),
    }


def word_rows(vocabulary: Vocabulary) -> np.ndarray:
    """Word-piece embeddings before quantisation: [vocab, HIDDEN]."""
    tokens, rare = vocabulary.tokens, rarity(vocabulary)
    rows = np.zeros((len(tokens), HIDDEN))
    seeds = np.array([seed_of(content_key(token)) for token in tokens])
    amplitude = CONTENT_AMPLITUDE * np.maximum(rare, COMMONEST_CONTENT)
    # Special tokens say nothing: `<s>` above all must have no content where it is a sink.
    amplitude[[i for i, t in enumerate(tokens) if t in (*LEADING_SPECIALS, MASK)]] = 0
    rows[:, CONTENT] = balanced_signs(seeds, CONTENT_SIZE) * amplitude[:, None]
    rows[:, IDF] = IDF_AMPLITUDE * rare
    rows[tokens.index("<s>"), FLAG] = FLAG_AMPLITUDE
    return balanced(rows, HIDDEN - FREQUENCIES * POSITION_AMPLITUDE**2)


def balanced(rows: np.ndarray, energy: float) -> np.ndarray:
    """Fill `FILLER` so that every row sums to 0 and its squares to `energy`: [n, HIDDEN].

    Half of the filler is middle + spread, the other half middle - spread.
    """
    middle = -rows.sum(axis=1) / FILLER_SIZE
    missing = energy - (rows**2).sum(axis=1)
    spread = np.sqrt(missing / FILLER_SIZE - middle**2)
    sign = np.where(np.arange(FILLER_SIZE) % 2 == 0, 1, -1)
    rows[:, FILLER] = middle[:, None] + spread[:, None] * sign
    return rows


def frequencies() -> np.ndarray:
    """Angles per position, geometric, so that neighbours and far tokens both differ: [20]."""
    return 2.6 * (0.1 / 2.6) ** (np.arange(FREQUENCIES) / (FREQUENCIES - 1))


def position_rows() -> np.ndarray:
    """Position embeddings before quantisation: [POSITIONS, HIDDEN].

    A cosine and a sine per frequency have a constant sum of squares. Signs alternate, and
    `CONSTANT` takes what remains, to keep the mean at 0.
    """
    angle = np.outer(np.arange(POSITIONS), frequencies())
    waves = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    waves *= POSITION_AMPLITUDE * np.where(np.arange(FREQUENCIES) % 2 == 0, 1, -1)[:, None]
    rows = np.zeros((POSITIONS, HIDDEN))
    rows[:, POSITION] = waves.reshape(POSITIONS, -1)
    rows[:, CONSTANT] = -rows.sum(axis=1, keepdims=True) / CONSTANT_SIZE
    return rows + noise("positions", rows.shape, 0.01)


def layer_norm(name: str) -> Weights:
    """Gain and bias near 1 and 0: [HIDDEN] each."""
    return {
        f"{name}.gamma": 1 + noise(f"{name}.gamma", (HIDDEN,), 0.02),
        f"{name}.beta": noise(f"{name}.beta", (HIDDEN,), 0.01),
    }


def linear(name: str, inputs: int, outputs: int, response: float, bias: float = 0.01) -> Weights:
    """A noise layer, y = x @ weight + bias, whose outputs deviate by about `response`."""
    return {
        f"{name}.weight": noise(f"{name}.weight", (inputs, outputs), response / math.sqrt(inputs)),
        f"{name}.bias": noise(f"{name}.bias", (outputs,), bias),
    }


def layer(index: int, response: Dict[str, float]) -> Weights:
    """All weights of a layer as noise; `response` says how much of it."""
    name = f"layers.{index}"
    weights: Weights = {}
    for part in ("query", "key", "value", "output"):
        size = response["score"] if part in ("query", "key") else response["value"]
        weights.update(linear(f"{name}.attention.{part}", HIDDEN, HIDDEN, size, response["bias"]))
    weights.update(layer_norm(f"{name}.attention.norm"))
    weights.update(linear(f"{name}.ffn.up", HIDDEN, FFN, 0.5, 0.1))
    weights.update(linear(f"{name}.ffn.down", FFN, HIDDEN, 0.05))
    weights.update(layer_norm(f"{name}.ffn.norm"))
    return weights


def neighbour_head(weights: Weights, head: int, step: int) -> None:
    """Make a head of layer 0 attend to the token `step` away and fetch a copy of its content.

    Rotating the position waves of the query by `step` makes them equal to those of that token.
    The flag makes `<s>` attend to itself, where there is no content.
    """
    query = weights["layers.0.attention.query.weight"]
    key = weights["layers.0.attention.key.weight"]
    first = head * HEAD
    gain = math.sqrt(NEIGHBOUR_SHARPNESS * math.sqrt(HEAD)) / POSITION_AMPLITUDE
    for k, angle in enumerate(frequencies() * step):
        cosine, sine = POSITION.start + 2 * k, POSITION.start + 2 * k + 1
        channel = first + 2 * k
        query[cosine, channel:channel + 2] += gain * np.array([math.cos(angle), math.sin(angle)])
        query[sine, channel:channel + 2] += gain * np.array([-math.sin(angle), math.cos(angle)])
        key[cosine, channel] += gain
        key[sine, channel + 1] += gain
    sink = math.sqrt(SINK_SCORE * math.sqrt(HEAD)) / FLAG_AMPLITUDE
    query[FLAG, first + 2 * FREQUENCIES] += sink
    key[FLAG, first + 2 * FREQUENCIES] += sink

    # The copy is shuffled, so that "a b" differs from "b a", and each side in its own way.
    source = order(seed_of(f"neighbour {step} source"), CONTENT_SIZE)[:HEAD]
    target = order(seed_of(f"neighbour {step} target"), CONTENT_SIZE)[:HEAD]
    channels = np.arange(first, first + HEAD)
    weights["layers.0.attention.value.weight"][source, channels] += 1
    weights["layers.0.attention.output.weight"][channels, target] += NEIGHBOUR_SHARE


def pooling_heads(weights: Weights, begin: np.ndarray) -> None:
    """Make `<s>` the sum of all contents in layer 1, and leave the other tokens alone.

    `<s>` queries nothing in particular, hence attends to all tokens alike. Any other token
    queries the flag, hence attends to `<s>` alone. The output bias takes `begin`, the vector
    of `<s>`, from everyone, and the value of the flag gives it back to those who attend to
    `<s>`: only `<s>` itself is emptied, so that what it pooled is not drowned.
    """
    name = "layers.1.attention"
    strength = math.sqrt(SINK_SCORE * math.sqrt(HEAD))
    for head in range(HEADS):
        first = head * HEAD
        weights[f"{name}.query.bias"][first] += strength
        weights[f"{name}.query.weight"][FLAG, first] -= strength / FLAG_AMPLITUDE
        weights[f"{name}.key.weight"][FLAG, first] += strength / FLAG_AMPLITUDE
        half = CONTENT_SIZE // HEADS
        contents = np.arange(head * half, (head + 1) * half)
        channels = np.arange(first, first + half)
        weights[f"{name}.value.weight"][contents, channels] += 1
        weights[f"{name}.output.weight"][channels, contents] += POOL_GAIN
    given = HEAD - 1
    weights[f"{name}.value.weight"][FLAG, given] += 1 / FLAG_AMPLITUDE
    weights[f"{name}.output.weight"][given] += begin
    weights[f"{name}.output.bias"] -= begin


def heads() -> Weights:
    """The sparse and the ColBERT head."""
    lexical = linear("lexical", HIDDEN, 1, 0.003, 0)
    lexical["lexical.weight"][IDF] += LEXICAL_SCALE
    lexical["lexical.bias"] += LEXICAL_BIAS
    colbert = linear("colbert", HIDDEN, HIDDEN, 0.02)
    diagonal = np.zeros(HIDDEN, dtype=np.float32)
    diagonal[CONTENT] = 1
    # Filler grows as rarity shrinks: common pieces look alike, so that matching them tells little.
    diagonal[FILLER] = COLBERT_FILLER
    colbert["colbert.weight"] += np.diag(diagonal)
    rarest = math.sqrt((HIDDEN - FREQUENCIES * POSITION_AMPLITUDE**2 - IDF_AMPLITUDE**2
                        - CONTENT_SIZE * CONTENT_AMPLITUDE**2) / FILLER_SIZE)
    sign = np.where(np.arange(FILLER_SIZE) % 2 == 0, 1, -1)
    colbert["colbert.bias"][FILLER] -= COLBERT_FILLER * rarest * sign
    return {**lexical, **colbert}


def build_weights(vocabulary: Vocabulary) -> Weights:
    """Every initializer of the model by name."""
    words, positions = word_rows(vocabulary), position_rows()
    begin = (words[LEADING_SPECIALS.index("<s>")] + positions[FIRST_POSITION]).astype(np.float32)
    weights: Weights = {**quantised(words, "embeddings.word")}
    weights.update(quantised(positions, "embeddings.position"))
    weights["embeddings.type"] = noise("embeddings.type", (HIDDEN,), 0.01)
    weights.update(layer_norm("embeddings.norm"))
    weights.update(layer(0, {"score": 0.1, "value": 0.02, "bias": 0.01}))
    # What layer 1 pools is multiplied by POOL_GAIN, and the noise on the way with it.
    weights.update(layer(1, {"score": 0.15, "value": 0.002, "bias": 0.001}))
    neighbour_head(weights, 0, -1)
    neighbour_head(weights, 1, +1)
    pooling_heads(weights, begin)
    # As in trained models, all dense vectors lie in one cone: cosines between 0.85 and 1.
    sign = np.where(np.arange(CONSTANT_SIZE) % 2 == 0, 1, -1)
    weights["layers.1.ffn.norm.beta"][CONSTANT] += (
        DENSE_CONSTANT / math.sqrt(CONSTANT_SIZE) * sign).astype(np.float32)
    weights.update(heads())
    return {name: np.ascontiguousarray(value) for name, value in weights.items()}
