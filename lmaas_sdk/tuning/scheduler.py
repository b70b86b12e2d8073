"""How candidates go out: in as few calls as card and replicas allow, concurrently, and all of a generation or none."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Reservation
from lmaas_sdk.accounting.spend import Purpose
from lmaas_sdk.backend import ScoreQuery, ScoreReply
from lmaas_sdk.canonical import digest
from lmaas_sdk.client import Call, Client
from lmaas_sdk.texts import TextSet
from lmaas_sdk.tuning.persistence import FAILS_FAST, persistent
from lmaas_sdk.tuning.subspace import Subspace

__all__ = ["Part", "Scheduler", "Scorable"]

_KEY_DIGITS = 32


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
    subspace: Subspace | None
    token_counts: tuple[int, ...]
    shortened: int = 0
    precise: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One call of several that make up a matrix of (candidates, texts)."""

    call: Call
    candidates: slice
    rows: slice


class Scheduler:
    """Splits, sends and reassembles.

    Args:
        client: Pays and sends.
        run: The run's id, part of every idempotency key.
    """

    def __init__(self, client: Client, run: str) -> None:
        self.client = client
        self._run = run

    @property
    def sees_fewer_bits(self) -> bool:
        """Whether answers are in fewer bits than float32, but for those of precise queries."""
        return self.client.backend.card.capabilities.precise

    async def prepare(self, texts: TextSet, subspace: Subspace | None, *, precise: bool = False) -> Scorable:
        """Has the texts counted (and registered, where the backend does that); free.

        Args:
            texts: The texts with their label words.
            subspace: Of the prompts; None: the manual prompt.
            precise: Score them in float32. Where the backend always does, nothing is asked of it.
        """
        registered = await self.client.register(texts, subspace)
        counts, shortened = registered.token_counts, registered.shortened
        return Scorable(texts, subspace, counts, shortened, precise and self.sees_fewer_bits)

    def worst(self, scorable: Scorable, candidates: int, purpose: Purpose) -> Amounts:
        """The most that scoring so many candidates may take."""
        Z = None if scorable.subspace is None else np.zeros((candidates, scorable.subspace.d), np.float32)
        return sum((part.call.worst for part in self.parts(scorable, Z, purpose, label=0)), Amounts())

    def parts(
        self, scorable: Scorable, Z: NDArray[np.float32] | None, purpose: Purpose, *, label: object
    ) -> list[Part]:
        """The calls that score Z: (n_candidates, d) on all texts.

        Args:
            scorable: From `prepare`.
            Z: The candidates; None: the manual prompt.
            purpose: What for.
            label: What tells these candidates from others of the run: the generation, say.
        """
        most_candidates, most_texts = _most_a_call(self.client, scorable.token_counts)
        n_texts = len(scorable.texts)
        row_slices = list(_slices(n_texts, most_texts))
        least = -(-self.client.backend.card.replicas // max(1, len(row_slices)))  # so that each server has one
        parts = []
        for candidates in _slices(1 if Z is None else len(Z), most_candidates, least=least):
            for rows in row_slices:
                whole = rows.stop - rows.start == n_texts
                query = ScoreQuery(
                    scorable.texts,
                    rows=None if whole else tuple(range(rows.start, rows.stop)),
                    subspace=scorable.subspace,
                    Z=None if Z is None else Z[candidates],
                    precise=scorable.precise,
                )
                key = self._key(purpose, label, candidates, rows)
                counts = scorable.token_counts[rows]
                call = self.client.call(query, key, purpose=purpose, token_counts=counts, of_texts=n_texts)
                parts.append(Part(call, candidates, rows))
        return parts

    async def score(
        self, scorable: Scorable, Z: NDArray[np.float32] | None, purpose: Purpose, *, label: object
    ) -> NDArray[np.float32]:
        """Logits of all candidates on all texts: (n_candidates, n_texts, n_labels) float32.

        Raises:
            BudgetExceeded: They do not fit whole; then nothing was sent.
        """
        parts = self.parts(scorable, Z, purpose, label=label)
        return await self.send(parts, await self.client.hold([part.call for part in parts]))

    async def send(self, parts: Sequence[Part], holds: Sequence[Reservation]) -> NDArray[np.float32]:
        """Sends parts concurrently and puts their answers together.

        Raises:
            LmaasError: The first failure; the other calls are cancelled and booked.
        """
        tasks: list[asyncio.Task[NDArray[np.float32]]] = []
        unclaimed = set(holds)
        try:
            async with asyncio.TaskGroup() as group:
                tasks.extend(
                    group.create_task(self._logits(part, hold, unclaimed))
                    for part, hold in zip(parts, holds, strict=True)
                )
        except BaseExceptionGroup as failures:
            first = _first(failures)
            raise first from first.__cause__
        finally:
            for hold in unclaimed:  # a task that was cancelled before it began never saw its reservation
                hold.void()
        return _assemble(parts, [task.result() for task in tasks])

    async def _logits(self, part: Part, hold: Reservation, unclaimed: set[Reservation]) -> NDArray[np.float32]:
        """The answer to one part, asked for again while others fail too much for the client to try.

        Raises:
            BackendError: The last failure, once patience ends.
        """
        unclaimed.discard(hold)
        left: Reservation | None = hold

        async def ask() -> ScoreReply:
            nonlocal left
            taken, left = left, None
            return await self.client.score(part.call, taken, again=taken is None)

        try:
            reply: ScoreReply = await persistent(self.client)(ask)
        except FAILS_FAST as error:
            raise (error.last or error) from error
        return reply.logits

    def _key(self, purpose: Purpose, label: object, candidates: slice, rows: slice) -> str:
        spans = [candidates.start, candidates.stop, rows.start, rows.stop]
        return digest([self._run, purpose, label, spans])[:_KEY_DIGITS]


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


def _assemble(parts: Sequence[Part], answers: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    n_candidates = max(part.candidates.stop for part in parts)
    n_texts = max(part.rows.stop for part in parts)
    logits = np.empty((n_candidates, n_texts, answers[0].shape[2]), np.float32)
    for part, answer in zip(parts, answers, strict=True):
        logits[part.candidates, part.rows] = answer
    return logits


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    inner = failures.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
