"""Seeded randomness that is the same on every machine and in every numpy version.

Everything random that both sides of the wire, or two runs, must agree on comes from the raw 64-bit words of a Philox
generator (Salmon et al. 2011). numpy promises those words; it does not promise how its distributions use them.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

__all__ = ["bit_generator", "permutation", "raw_words"]


def bit_generator(seed: int, stream: str) -> np.random.Philox:
    """A Philox generator of its own for each (seed, stream name); numpy's global state is never touched."""
    key = hashlib.sha256(f"{stream}\0{int(seed)}".encode()).digest()[:16]
    return np.random.Philox(key=np.frombuffer(key, dtype="<u8").astype(np.uint64))


def raw_words(seed: int, stream: str, count: int) -> NDArray[np.uint64]:
    """The first `count` words of the stream: (count,) uint64."""
    return bit_generator(seed, stream).random_raw(count)


def permutation(seed: int, stream: str, count: int) -> NDArray[np.int64]:
    """A random order of 0 .. count-1: the ranks of `count` random words (ties, at odds below 1e-9, by index)."""
    return np.argsort(raw_words(seed, stream, count), kind="stable").astype(np.int64)
