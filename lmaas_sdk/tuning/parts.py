"""How candidates are cut into calls, as few as card and replicas allow, and their answers are put together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.client import Call, Client
from lmaas_sdk.errors import LmaasError, NotFinite
from lmaas_sdk.finite import all_finite
from lmaas_sdk.texts import TextSet
from lmaas_sdk.tuning.deep_subspace import DeepSubspace, Space

__all__ = ["Part", "Read", "Scorable", "assemble", "blank", "placed", "places_of_calls", "salvaged"]

_Logits = NDArray[np.float32]
_Values = NDArray[np.float32] | NDArray[np.float64]
Read = Callable[["Part", _Logits], _Values]
"""What is learned from the logits of a call."""


@dataclass(frozen=True, slots=True, eq=False)
class Scorable:
    """Texts that are ready to be scored under a prompt.

    Args:
        texts: The texts with their label words.
        subspace: Of the prompts; None: the manual prompt.
        token_counts: Tokens of each text under such a prompt, as they will be billed.
        shortened: How many texts lose words to fit the model.
        precise: Whether to ask for float32, of a backend that else computes in fewer bits.
    """

    texts: TextSet
    subspace: Space | None
    token_counts: tuple[int, ...]
    shortened: int = 0
    precise: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One call of several that make up a matrix of (candidates, texts).

    Args:
        call: The call.
        candidates, rows: Where its answer belongs in the matrix.
    """

    call: Call
    candidates: slice
    rows: slice

    @property
    def span(self) -> list[int]:
        """The place, for the key and the journal."""
        return [self.candidates.start, self.candidates.stop, self.rows.start, self.rows.stop]


def placed(
    client: Client, space: Space | None, Z: _Logits | None, token_counts: Sequence[int]
) -> Iterator[tuple[slice, slice]]:
    """As `places_of_calls` for candidates Z: those that differ in several layers do not go into one call."""
    if Z is None or not isinstance(space, DeepSubspace):
        yield from places_of_calls(client, 1 if Z is None else len(Z), token_counts)
        return
    for run in space.runs(Z):
        for candidates, rows in places_of_calls(client, run.stop - run.start, token_counts):
            yield slice(run.start + candidates.start, run.start + candidates.stop), rows


def blank(space: Space | None, candidates: int, *, apart: bool = False) -> _Logits | None:
    """So many candidates, of which only the number counts; None: the manual prompt.

    Args:
        space: Where they lie.
        candidates: How many.
        apart: Whether they have nothing in common, as candidates of different generations.
    """
    if space is None:
        return None
    Z = np.zeros((candidates, space.d), np.float32)
    return Z + np.arange(candidates, dtype=np.float32)[:, None] if apart else Z


def places_of_calls(client: Client, n_candidates: int, token_counts: Sequence[int]) -> Iterator[tuple[slice, slice]]:
    """Where the answers of calls belong that score so many candidates on texts of these lengths; as few as may be.

    Each is (candidates, texts); there are as many as the backend has replicas, where there is something for each.
    """
    most_candidates, most_texts = _most_a_call(client, token_counts)
    row_slices = list(_slices(len(token_counts), most_texts))
    least = -(-client.backend.card.replicas // max(1, len(row_slices)))  # so that each server has one
    for candidates in _slices(n_candidates, most_candidates, least=least):
        for rows in row_slices:
            yield candidates, rows


def assemble(parts: Sequence[Part], answers: Sequence[_Values]) -> _Logits:
    """The answers of all parts, each in its place: (n_candidates, n_texts, n_labels) float32."""
    n_candidates = max(part.candidates.stop for part in parts)
    n_texts = max(part.rows.stop for part in parts)
    logits = np.empty((n_candidates, n_texts, answers[0].shape[2]), np.float32)
    for part, answer in zip(parts, answers, strict=True):
        logits[part.candidates, part.rows] = answer
    return logits


def salvaged(part: Part, error: LmaasError, read: Read) -> _Values | None:
    """What the candidates with finite logits tell, and NaN for the others; None: nothing can be learned."""
    if not isinstance(error, NotFinite) or error.logits is None:
        return None
    is_finite = np.array([all_finite(logits) for logits in error.logits])
    if not is_finite.any():
        return None
    values = read(part, np.where(is_finite[:, None, None], error.logits, np.float32(0)))
    values[~is_finite] = np.nan
    return values


def _most_a_call(client: Client, token_counts: Sequence[int]) -> tuple[int, int]:
    """The most candidates and texts of one call: what the card allows, and no more than a minute's tokens."""
    card, quota = client.backend.card, client.limits("score").tokens_per_minute
    if quota is None:
        return card.max_candidates, card.max_texts
    texts = card.max_texts if sum(token_counts) <= quota else max(1, quota // max(token_counts))
    a_candidate = sum(sorted(token_counts)[-texts:])
    return max(1, min(card.max_candidates, quota // a_candidate)), min(card.max_texts, texts)


def _slices(count: int, most: int, *, least: int = 1) -> Iterator[slice]:
    """Cuts 0 .. count into as few, and as equal, slices as `most` allows, but `least` where there are so many."""
    pieces = max(-(-count // most), min(least, count))
    for piece in range(pieces):
        yield slice(count * piece // pieces, count * (piece + 1) // pieces)
