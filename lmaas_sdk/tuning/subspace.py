"""The random subspace that is searched: a soft prompt is A z + p0 (Sun et al. 2022, section 3.2).

`Subspace` is a value: a few numbers that name the same matrix A, bit for bit, on every machine. The client sends it
beside z; only a server ever builds A.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from numbers import Real
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.canonical import digest
from lmaas_sdk.seeding import bit_generator, whole_number

__all__ = ["NAMED_PROJECTIONS", "SEEDED_PROJECTIONS", "Layout", "Subspace", "positive_number"]

Layout = Literal["add", "cat"]
SEEDED_PROJECTIONS = ("uniform", "normal")
NAMED_PROJECTIONS = (*SEEDED_PROJECTIONS, "identity")  # every other is the digest of an uploaded array
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SIZES = ("d", "prompt_tokens", "hidden_size")
_CHUNK_ENTRIES = 1 << 20
_UNIFORMS_PER_NORMAL = 12


@dataclass(frozen=True)
class Subspace:
    """Where z lives and how it becomes a soft prompt.

    Args:
        d: Size of z.
        prompt_tokens: L, the number of prompt vectors.
        hidden_size: D, the model's width.
        layout: `add`: A z is added to the embedding output of L base tokens after `<s>`; `cat`: A z + p0 stands before
            `<s>`.
        projection: `uniform`: entries of A from U(-scale/sqrt(d), scale/sqrt(d)); `normal`: from N(0, scale^2/d), as a
            sum of uniforms; `identity`: A is `scale` times the identity, so that the prompt itself is searched: d is
            L * D, and no matrix is built; else the digest of an uploaded array of shape (L * D, d), multiplied by
            `scale`.
        scale: As `projection` says.
        seed: Of A and, in `cat`, of the tokens behind p0.
        base: Digest of an uploaded learned p0 of shape (L, D); None: the layout's own.
        layers: The layers whose input the prompt enters; 0 is the embedding output.

    Raises:
        ValueError: A value is out of its range; the message names it.
        TypeError: A number is no number, or is a fraction where a whole one is wanted.
    """

    d: int
    prompt_tokens: int
    hidden_size: int
    layout: Layout = "add"
    projection: str = "uniform"
    scale: float = 1.0
    seed: int = 42
    base: str | None = None
    layers: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if self.layout not in get_args(Layout):
            raise ValueError(f"layout is 'add' or 'cat', not {self.layout!r:.80}")
        if self.projection not in NAMED_PROJECTIONS and not _is_digest(self.projection):
            raise ValueError(
                "projection is 'uniform', 'normal', 'identity' or the digest of an array (64 hex digits), "
                f"not {self.projection!r:.80}"
            )
        if self.base is not None and not _is_digest(self.base):
            raise ValueError(f"base is None or the digest of an array (64 hex digits), not {self.base!r:.80}")
        sizes = {name: whole_number(name, getattr(self, name), at_least=1) for name in _SIZES}
        numbers = {"scale": positive_number("scale", self.scale), "seed": whole_number("seed", self.seed)}
        # equal values are spelled alike, so that they have one digest whichever type of number they came as
        for name, value in (sizes | numbers | {"layers": _checked_layers(self.layers)}).items():
            object.__setattr__(self, name, value)
        if self.projection == "identity" and self.d != self.shape[0]:
            raise ValueError(
                f"d is prompt_tokens * hidden_size = {self.shape[0]} with projection 'identity', not {self.d}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of A: (L * D, d)."""
        return self.prompt_tokens * self.hidden_size, self.d

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the value, in hex."""
        return digest(self.to_wire())

    def to_wire(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in _FIELDS} | {"layers": list(self.layers)}

    @classmethod
    def from_wire(cls, value: object) -> Subspace:
        """Reads what `to_wire` wrote.

        Raises:
            ValueError: A field is missing, unknown or out of range.
        """
        if not isinstance(value, dict) or value.keys() != set(_FIELDS):
            raise ValueError(f"not a subspace: it has {', '.join(sorted(_FIELDS))}, not {value!r:.120}")
        try:
            return cls(**value)
        except TypeError as error:
            raise ValueError(f"not a subspace: {error}") from error

    def matrix(self, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """A of a seeded projection: (L * D, d) float32, row-major.

        The entries come from integers by correctly rounded float64 operations alone, so they have the same bits
        everywhere. It is a pure function of (seed, shape, projection, scale).

        Args:
            out: Where to write it, of that shape and contiguous; None: into a new array.

        Raises:
            ValueError: The projection is an uploaded array, which only the server that holds it has, or `identity`.
        """
        if self.projection == "identity":
            raise ValueError("the projection is the identity: multiply z by the scale, no matrix is built")
        if self.projection not in SEEDED_PROJECTIONS:
            raise ValueError(f"the projection is the uploaded array {self.projection}: it is not built from a seed")
        out = np.empty(self.shape, dtype=np.float32) if out is None else out
        entries = out.reshape(-1)
        words = bit_generator(self.seed, f"projection/{self.projection}/1")
        draw = _uniform if self.projection == "uniform" else _normal
        unit = self.scale / math.sqrt(self.d)
        for start in range(0, entries.size, _CHUNK_ENTRIES):
            part = entries[start : start + _CHUNK_ENTRIES]
            part[:] = draw(words, part.size) * unit
        return out


_FIELDS = tuple(field.name for field in fields(Subspace))


def positive_number(name: str, value: object) -> float:
    """The value as a `float`, numpy's numbers included; no string is read.

    Raises:
        TypeError: It is no real number: True, "1", None.
        ValueError: It is not above 0, or not finite.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is a positive number, not {value!r:.80} of {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:  # an integer that no float holds
        number = math.inf
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} is a positive number, not {number}")
    return number


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _checked_layers(layers: object) -> tuple[int, ...]:
    if not isinstance(layers, Sequence) or isinstance(layers, str):
        raise TypeError(f"layers are a tuple such as (0,), not {layers!r:.80}")
    numbers = tuple(whole_number("a layer", layer) for layer in layers)
    if not numbers or min(numbers) < 0 or len(set(numbers)) != len(numbers):
        raise ValueError(f"layers are distinct numbers of at least 0, at least one, not {layers!r:.80}")
    return numbers


def _uniform(words: np.random.Philox, count: int) -> NDArray[np.float64]:
    """U(-1, 1) on a grid of 2^-52: the upper 53 bits of a word, symmetric about 0."""
    integers: NDArray[np.float64] = (words.random_raw(count) >> np.uint64(11)).astype(np.float64)
    return (integers + 0.5) * 2.0**-52 - 1.0


def _normal(words: np.random.Philox, count: int) -> NDArray[np.float64]:
    """Close to N(0, 1): the centred sum of 12 uniforms of 16 bits, from three words (Irwin-Hall, cut at 6 sigma)."""
    raw = words.random_raw(count * 3).astype("<u8").view("<u2").reshape(count, _UNIFORMS_PER_NORMAL)
    centre = _UNIFORMS_PER_NORMAL * (2**16 - 1) / 2
    sums: NDArray[np.float64] = raw.sum(axis=1, dtype=np.int64).astype(np.float64)
    return (sums - centre) / 2.0**16
