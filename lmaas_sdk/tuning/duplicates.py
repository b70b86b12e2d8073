"""Candidates that are equal in the bits that are sent: nobody pays twice for the same question."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.tuning.told import Told

__all__ = ["Duplicates", "Twins", "digest_of"]

_NAME_BYTES = 12


@dataclass(frozen=True, slots=True)
class Twins:
    """Candidates that need not be sent.

    Args:
        known: Losses of those that were scored in an earlier generation.
        of: Of those that equal another of this generation: which one.
    """

    known: Mapping[int, float] = field(default_factory=dict)
    of: Mapping[int, int] = field(default_factory=dict)


class Duplicates:
    """Remembers the loss of every candidate of a run.

    Args:
        deterministic: Whether the backend repeats itself. One that does not tells something new each time it is asked,
            so there nothing is remembered.
    """

    def __init__(self, *, deterministic: bool) -> None:
        self._deterministic = deterministic
        self._losses: dict[bytes, float] = {}
        self._named: tuple[NDArray[np.float32], list[bytes]] | None = None

    def apart(self, Z: NDArray[np.float32], first_n: int) -> tuple[list[int], Twins]:
        """The candidates that have to be sent, and the others.

        Args:
            Z: (n_candidates, d) float32, as they would be sent.
            first_n: How many of them it is about.
        """
        if not self._deterministic:
            return list(range(len(Z[:first_n]))), Twins()
        known: dict[int, float] = {}
        of: dict[int, int] = {}
        first: dict[bytes, int] = {}
        for index, name in enumerate(self._names(Z)[:first_n]):
            if name in self._losses:
                known[index] = self._losses[name]
            elif name in first:
                of[index] = first[name]
            else:
                first[name] = index
        return list(first.values()), Twins(known, of)

    def learn(self, Z: NDArray[np.float32], told: Told) -> None:
        """Takes the losses of a generation."""
        if self._deterministic:
            names = self._names(Z)
            self._losses.update((names[index], value) for index, value in told.scored.items())

    def digest(self, Z: NDArray[np.float32]) -> str:
        """As `digest_of`; names that are known already are not worked out again."""
        return _digest(self._names(Z))

    def _names(self, Z: NDArray[np.float32]) -> list[bytes]:
        """A name for each; those of the last array are remembered, as it is asked about more than once."""
        if self._named is None or self._named[0] is not Z:
            self._named = Z, _names(Z)
        return self._named[1]


def digest_of(Z: NDArray[np.float32]) -> str:
    """One digest of all of a generation's candidates, in hex."""
    return _digest(_names(Z))


def _names(Z: NDArray[np.float32]) -> list[bytes]:
    return [hashlib.sha256(z.data).digest()[:_NAME_BYTES] for z in Z]


def _digest(names: list[bytes]) -> str:
    return hashlib.sha256(b"".join(names)).hexdigest()
