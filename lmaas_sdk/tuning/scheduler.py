"""How the calls that score candidates go out: concurrently, and all of them or none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Reservation
from lmaas_sdk.accounting.spend import Purpose
from lmaas_sdk.backend import ScoreQuery, ScoreReply
from lmaas_sdk.canonical import digest
from lmaas_sdk.client import Client
from lmaas_sdk.errors import LmaasError
from lmaas_sdk.texts import TextSet
from lmaas_sdk.tuning.deep_subspace import Space, asked, counted_as
from lmaas_sdk.tuning.journal import Journal
from lmaas_sdk.tuning.parts import Part, Read, Scorable, assemble, blank, placed, salvaged
from lmaas_sdk.tuning.persistence import FAILS_FAST, Health, persistently

__all__ = ["Scheduler", "first_failure"]

_KEY_DIGITS = 32
_Logits = NDArray[np.float32]
_Values = NDArray[np.float32] | NDArray[np.float64]


class Scheduler:
    """Splits, sends and reassembles.

    Args:
        client: Pays and sends.
        run: The run's id, part of every idempotency key.
        journal: Where calls and answers are written, and which has the answers of an earlier process; None: nowhere.
        is_aside: Whether it pays from what was set aside.
        health: When the backend answered last; shared by all schedulers of a run.
    """

    def __init__(
        self,
        client: Client,
        run: str,
        *,
        journal: Journal | None = None,
        is_aside: bool = False,
        health: Health | None = None,
    ) -> None:
        self.client, self.journal = client, journal
        self._run, self._is_aside = run, is_aside
        self._health = health or Health()

    @property
    def sees_fewer_bits(self) -> bool:
        """Whether answers are in fewer bits than float32, but for those of precise queries."""
        return self.client.backend.card.capabilities.precise

    def paying_from(self, client: Client) -> Scheduler:
        """The same, paying from another budget."""
        return Scheduler(client, self._run, journal=self.journal, is_aside=self._is_aside, health=self._health)

    async def prepare(self, texts: TextSet, subspace: Space | None, *, precise: bool = False) -> Scorable:
        """Has the texts counted (and registered, where the backend does that); free.

        Args:
            texts: The texts with their label words.
            subspace: Of the prompts; None: the manual prompt.
            precise: Score them in float32. Where the backend always does, nothing is asked of it.
        """
        registered = await self.client.register(texts, counted_as(subspace))
        counts, shortened = registered.token_counts, registered.shortened
        return Scorable(texts, subspace, counts, shortened, precise and self.sees_fewer_bits)

    def worst(
        self,
        scorable: Scorable,
        candidates: int,
        purpose: Purpose,
        *,
        rows: Sequence[int] | None = None,
        apart: bool = False,
    ) -> Amounts:
        """The most that scoring so many candidates may take, on all texts or on some; `apart` as of `blank`."""
        Z = blank(scorable.subspace, candidates, apart=apart)
        parts = self.parts(scorable, Z, purpose, label="worst", rows=rows)
        return sum((part.call.worst for part in parts), Amounts())

    def parts(
        self,
        scorable: Scorable,
        Z: _Logits | None,
        purpose: Purpose,
        *,
        label: object,
        rows: Sequence[int] | None = None,
    ) -> list[Part]:
        """The calls that score Z: (n_candidates, d) on all texts, or on some.

        A run that is resumed cuts them as it did before, so that they have the keys they had.

        Args:
            scorable: From `prepare`.
            Z: The candidates; None: the manual prompt.
            purpose: What for.
            label: What tells these candidates from others of the run: the generation, say.
            rows: The texts to score, by index; None: all.
        """
        counts = scorable.token_counts if rows is None else [scorable.token_counts[row] for row in rows]
        known = None if self.journal is None else self.journal.past.spans.get((purpose, str(label)))
        if known is not None:
            places = [(slice(c0, c1), slice(r0, r1)) for c0, c1, r0, r1 in known]
        else:
            places = list(placed(self.client, scorable.subspace, Z, counts))
        return [self._part(scorable, Z, purpose, label=label, rows=rows, place=place) for place in places]

    def _part(
        self,
        scorable: Scorable,
        Z: _Logits | None,
        purpose: Purpose,
        *,
        label: object,
        rows: Sequence[int] | None,
        place: tuple[slice, slice],
    ) -> Part:
        candidates, within = place
        n_texts = len(scorable.texts)
        texts = range(n_texts)[within] if rows is None else rows[within]
        subspace, moved, frozen = asked(scorable.subspace, None if Z is None else Z[candidates])
        query = ScoreQuery(
            scorable.texts,
            rows=None if len(texts) == n_texts else tuple(texts),
            subspace=subspace,
            Z=moved,
            precise=scorable.precise,
            frozen=frozen,
        )
        key = self._key(purpose, label, candidates, within)
        counts = [scorable.token_counts[row] for row in texts]
        call = self.client.call(query, key, purpose=purpose, token_counts=counts, of_texts=n_texts)
        return Part(call, candidates, within)

    async def score(self, scorable: Scorable, Z: _Logits | None, purpose: Purpose, *, label: object) -> _Logits:
        """Logits of all candidates on all texts: (n_candidates, n_texts, n_labels) float32.

        Raises:
            BudgetExceeded: They do not fit whole; then nothing was sent.
            JournalError: The journal cannot be written; then nothing was sent.
        """
        parts = self.parts(scorable, Z, purpose, label=label)
        return await self.send(parts, await self.open(parts, label=label))

    async def open(self, parts: Sequence[Part], *, label: object, late: bool = True) -> list[Reservation | None]:
        """Reserves and journals calls before any of them goes out.

        None stands for one whose answer the journal has, and for one that is reserved as it goes out.

        Args:
            parts: The calls.
            label: What tells them from others of the run.
            late: Whether one that goes out by itself may be reserved then; else who asks hears now that it cannot be.

        Raises:
            BudgetExceeded: They do not fit together.
            JournalError: The journal cannot be written.
        """
        unasked = [part for part in parts if not (self._is_known(part) or self.is_known_useless(part))]
        if late and len(unasked) == 1 and self.client.reserves_late:
            await self._note_sent(unasked, label)
            return [None] * len(parts)
        holds = await self.client.hold([part.call for part in unasked])
        try:
            await self._note_sent(unasked, label)
        except BaseException:
            for hold in holds:
                hold.void()
            raise
        held = {id(part): hold for part, hold in zip(unasked, holds, strict=True)}
        return [held.get(id(part)) for part in parts]

    def under_another_key(self, part: Part, label: object) -> Part:
        """The same call, as another one to the provider: where the answer under its key is of no use, or too late."""
        key = self._key(part.call.purpose, label, part.candidates, part.rows)
        return replace(part, call=replace(part.call, key=key))

    def is_known_useless(self, part: Part) -> bool:
        """Whether an earlier process had an answer under its key, and it was of no use."""
        return self.journal is not None and part.call.key in self.journal.past.useless

    def _is_known(self, part: Part) -> bool:
        return self.journal is not None and part.call.key in self.journal.past.answers

    async def _note_sent(self, parts: Sequence[Part], label: object) -> None:
        if self.journal is None or not parts:
            return
        purpose = parts[0].call.purpose
        if (purpose, str(label)) in self.journal.past.spans:
            return  # by the process that sent them first
        await self.journal.sent(
            purpose,
            str(label),
            spans=[part.span for part in parts],
            keys=[part.call.key for part in parts],
            worst=[part.call.worst for part in parts],
            aside=self._is_aside,
        )

    async def send(self, parts: Sequence[Part], holds: Sequence[Reservation | None]) -> _Logits:
        """Sends parts concurrently and puts their answers together.

        Raises:
            LmaasError: The first failure; the other calls are cancelled and booked.
        """
        tasks: list[asyncio.Task[_Values]] = []
        unclaimed = {hold for hold in holds if hold is not None}
        try:
            async with asyncio.TaskGroup() as group:
                tasks.extend(
                    group.create_task(self._claimed(part, hold, unclaimed))
                    for part, hold in zip(parts, holds, strict=True)
                )
        except BaseExceptionGroup as failures:
            first = first_failure(failures)
            raise first from first.__cause__
        finally:
            for hold in unclaimed:  # a task that was cancelled before it began never saw its reservation
                hold.void()
        return assemble(parts, [task.result() for task in tasks])

    async def _claimed(self, part: Part, hold: Reservation | None, unclaimed: set[Reservation]) -> _Values:
        if hold is not None:
            unclaimed.discard(hold)
        return await self.answer(part, hold)

    async def answer(
        self,
        part: Part,
        hold: Reservation | None,
        *,
        read: Read | None = None,
        keep: bool = True,
        apart: bool = False,
        on_sent: Callable[[], None] | None = None,
    ) -> _Values:
        """What is learned from the answer to one part: the journal's, or the backend's, which is written down.

        Args:
            part: The call.
            hold: A reservation for it, which this takes over.
            read: What is learned from the logits; None: the logits themselves.
            keep: Whether to write it down now; who does not, has what it learned written down with what it cost.
            apart, on_sent: As of `Client.score`.

        Raises:
            LmaasError: It failed for good.
        """
        journal, key = self.journal, part.call.key
        if journal is not None and key in journal.past.answers:
            return journal.past.answers[key]
        try:
            logits = await self._logits(part, hold, apart=apart, on_sent=on_sent)
            values = logits if read is None else read(part, logits)
        except LmaasError as error:
            finite = None if read is None else salvaged(part, error, read)
            if finite is None:
                if journal is not None:
                    await journal.failed(key, type(error).__name__, self.client.spend.taken([key]))
                raise
            values = finite
        if journal is not None and keep:
            await journal.answered(key, values, self.client.spend.taken([key]))
        return values

    async def _logits(
        self, part: Part, hold: Reservation | None, *, apart: bool, on_sent: Callable[[], None] | None
    ) -> _Logits:
        """The answer to one part, asked for again while others fail too much for the client to try.

        Raises:
            BackendError: The last failure, once patience ends.
        """
        left, asked = hold, 0

        async def ask() -> ScoreReply:
            nonlocal left, asked
            (taken, left), again = (left, None), asked > 0
            asked += 1
            return await self.client.score(part.call, taken, again=again, apart=apart, on_sent=on_sent)

        try:
            reply = await persistently(ask, self.client, self._health)
        except FAILS_FAST as error:
            raise (error.last or error) from error
        self._health.saw_answer()
        return reply.logits

    def key(self, purpose: Purpose, label: object) -> str:
        """Of the one call of that label, which scores nothing."""
        return self._key(purpose, label, slice(0, 1), slice(0, 0))

    def _key(self, purpose: Purpose, label: object, candidates: slice, rows: slice) -> str:
        spans = [candidates.start, candidates.stop, rows.start, rows.stop]
        return digest([self._run, purpose, label, spans])[:_KEY_DIGITS]


def first_failure(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one that came first, out of whatever groups it is in."""
    inner = failures.exceptions[0]
    return first_failure(inner) if isinstance(inner, BaseExceptionGroup) else inner
