"""Seeded pseudo-random numbers that are equal under every numpy version."""
from __future__ import annotations

import hashlib
import math
from typing import Tuple

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)


def splitmix64(seed: np.ndarray) -> np.ndarray:
    """The splitmix64 output function on an array of uint64 states."""
    with np.errstate(over="ignore"):
        z = (seed ^ (seed >> np.uint64(30))) * MIX_1
        z = (z ^ (z >> np.uint64(27))) * MIX_2
    return z ^ (z >> np.uint64(31))


def seed_of(name: str) -> np.uint64:
    """A 64-bit seed from a string."""
    return np.frombuffer(hashlib.sha256(name.encode()).digest()[:8], dtype="<u8")[0]


def stream(seeds: np.ndarray, length: int) -> np.ndarray:
    """`length` uint64 draws for every seed: [..., length]."""
    with np.errstate(over="ignore"):
        steps = np.arange(1, length + 1, dtype=np.uint64) * GOLDEN
        return splitmix64(np.asarray(seeds, dtype=np.uint64)[..., None] + steps)


def noise(name: str, shape: Tuple[int, ...], deviation: float) -> np.ndarray:
    """Uniform float32 noise of mean 0 and the given standard deviation."""
    draws = stream(seed_of(name), math.prod(shape)).reshape(shape)
    unit = (draws >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return ((unit * 2 - 1) * math.sqrt(3) * deviation).astype(np.float32)


def order(seeds: np.ndarray, length: int) -> np.ndarray:
    """A random permutation of 0..length-1 for every seed: int64 [..., length]."""
    return np.argsort(stream(seeds, length), axis=-1, kind="stable")


def balanced_signs(seeds: np.ndarray, length: int) -> np.ndarray:
    """Random signs, exactly half of them +1, for every seed: float32 [..., length]."""
    ranks = np.argsort(order(seeds, length), axis=-1, kind="stable")
    return np.where(ranks * 2 < length, 1, -1).astype(np.float32)
