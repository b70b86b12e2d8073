"""The random subspace that is searched: a soft prompt is A z + p0 (Sun et al. 2022, section 3.2).

`Subspace` is a value: a few numbers that name the same matrix A, bit for bit, on every machine. The client sends it
beside z; only a server ever builds A.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.canonical import digest
from lmaas_sdk.seeding import bit_generator

__all__ = ["Layout", "Subspace"]

Layout = Literal["add", "cat"]
SEEDED_PROJECTIONS = ("uniform", "normal")
_DIGEST = re.compile(r"[0-9a-f]{64}")
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
            sum of uniforms; else the digest of an uploaded array of shape (L * D, d), multiplied by `scale`.
        scale: As `projection` says.
        seed: Of A and, in `cat`, of the tokens behind p0.
        base: Digest of an uploaded learned p0 of shape (L, D); None: the layout's own.
        layers: The layers whose input the prompt enters; 0 is the embedding output.

    Raises:
        ValueError: A value is out of its range; the message names it.
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
        for name in ("d", "prompt_tokens", "hidden_size"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} is a whole number of at least 1, not {value!r}")
        if self.layout not in get_args(Layout):
            raise ValueError(f"layout is 'add' or 'cat', not {self.layout!r}")
        if self.projection not in SEEDED_PROJECTIONS and not _DIGEST.fullmatch(self.projection):
            raise ValueError(f"projection is 'uniform', 'normal' or the digest of an array, not {self.projection!r}")
        if self.base is not None and not _DIGEST.fullmatch(self.base):
            raise ValueError(f"base is None or the digest of an array, not {self.base!r}")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"scale is a positive number, not {self.scale!r}")
        if not self.layers or min(self.layers) < 0 or len(set(self.layers)) != len(self.layers):
            raise ValueError(f"layers are distinct numbers of at least 0, not {self.layers!r}")

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of A: (L * D, d)."""
        return self.prompt_tokens * self.hidden_size, self.d

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the value, in hex."""
        return digest(self.to_wire())

    def to_wire(self) -> dict[str, object]:
        return asdict(self) | {"layers": list(self.layers), "scale": float(self.scale)}

    @classmethod
    def from_wire(cls, value: dict[str, object]) -> Subspace:
        """Reads what `to_wire` wrote.

        Raises:
            ValueError: A field is missing, unknown or out of range.
        """
        try:
            fields = dict(value) | {"layers": tuple(value.get("layers", (0,)))}  # type: ignore[arg-type]
            return cls(**fields)  # type: ignore[arg-type]
        except TypeError as error:
            raise ValueError(f"not a subspace: {error}") from error

    def matrix(self) -> NDArray[np.float32]:
        """A of a seeded projection: (L * D, d) float32, row-major.

        The entries come from integers by correctly rounded float64 operations alone, so they have the same bits
        everywhere. It is a pure function of (seed, shape, projection, scale).

        Raises:
            ValueError: The projection is an uploaded array; only the server that holds it can build A.
        """
        if self.projection not in SEEDED_PROJECTIONS:
            raise ValueError(f"the projection is the uploaded array {self.projection}: it is not built from a seed")
        entries = np.empty(self.shape[0] * self.d, dtype=np.float32)
        words = bit_generator(self.seed, f"projection/{self.projection}/1")
        draw = _uniform if self.projection == "uniform" else _normal
        unit = self.scale / math.sqrt(self.d)
        for start in range(0, entries.size, _CHUNK_ENTRIES):
            part = entries[start : start + _CHUNK_ENTRIES]
            part[:] = draw(words, part.size) * unit
        return entries.reshape(self.shape)


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
