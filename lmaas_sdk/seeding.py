"""Seeded randomness that is the same on every machine and in every numpy version.

Everything random that both sides of the wire, or two runs, must agree on comes from the raw 64-bit words of a Philox
generator (Salmon et al. 2011). numpy promises those words; it does not promise how its distributions use them.
"""

from __future__ import annotations

import hashlib
import operator

import numpy as np
from numpy.typing import NDArray

__all__ = ["bit_generator", "permutation", "raw_words", "whole_number"]


def whole_number(name: str, value: object, *, at_least: int | None = None) -> int:
    """The value as an `int`, numpy's integers included; nothing is rounded and no string is read.

    Args:
        name: What the number is called in a message.
        value: A whole number of any sign and size.
        at_least: The smallest that is allowed; None: any.

    Raises:
        TypeError: It is no integer: True, 1.0, "1", None.
        ValueError: It is smaller than `at_least`.
    """
    least = "" if at_least is None else f" of at least {at_least}"
    try:
        number = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]  # it may raise
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"{name} is a whole number{least}, not {value!r:.80} of {type(value).__name__}")
    if at_least is not None and number < at_least:
        raise ValueError(f"{name} is a whole number{least}, not {number}")
    return number


def bit_generator(seed: int, stream: str) -> np.random.Philox:
    """A Philox generator of its own for each (seed, stream name); numpy's global state is never touched.

    Raises:
        TypeError: The seed is no integer.
    """
    key = hashlib.sha256(f"{stream}\0{whole_number('seed', seed)}".encode()).digest()[:16]
    return np.random.Philox(key=np.frombuffer(key, dtype="<u8").astype(np.uint64))


def raw_words(seed: int, stream: str, count: int) -> NDArray[np.uint64]:
    """The first `count` words of the stream: (count,) uint64."""
    return bit_generator(seed, stream).random_raw(count)


def permutation(seed: int, stream: str, count: int) -> NDArray[np.int64]:
    """A random order of 0 .. count-1: the ranks of `count` random words (ties, at odds below 1e-9, by index)."""
    return np.argsort(raw_words(seed, stream, count), kind="stable").astype(np.int64)
