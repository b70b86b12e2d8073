"""Scoring one generation: what is sent, what is not, and what the optimiser is told in the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.canonical import digest
from lmaas_sdk.errors import BudgetExceeded, JournalMismatch
from lmaas_sdk.side_thread import SideThread
from lmaas_sdk.tuning.duplicates import Duplicates, Twins
from lmaas_sdk.tuning.journal import Moment
from lmaas_sdk.tuning.missing import Missing
from lmaas_sdk.tuning.objective import Objective
from lmaas_sdk.tuning.optimizer import Batch
from lmaas_sdk.tuning.parts import Part
from lmaas_sdk.tuning.preparation import LabelledTexts, worst_of_generation
from lmaas_sdk.tuning.racing import Racing, rungs
from lmaas_sdk.tuning.scheduler import Scheduler
from lmaas_sdk.tuning.scheduling import LatencyRecord, Needs, Scheduling
from lmaas_sdk.tuning.scoreboard import Scoreboard
from lmaas_sdk.tuning.told import Told
from lmaas_sdk.tuning.volley import Volley

__all__ = ["GenerationScorer", "Outcome", "as_sent"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a generation.

    Args:
        told: What the optimiser is told.
        at: Where the run stood when that was known.
        Z: (n_candidates, d) float32, as they were sent; the optimiser may have its own for the next ones by now.
        keys: Of all that was sent for it, for the journal; None: the journal has it, or there is none.
    """

    told: Told
    at: Moment
    Z: NDArray[np.float32]
    keys: Sequence[str] | None = None


class GenerationScorer:
    """Scores the generations of one run.

    Args:
        scheduler: Sends, and has the journal.
        train: The training set.
        objective: What is minimised.
        scheduling: What to do about the slow and the failed.
        racing: How candidates are raced; None: all are scored on everything.
        seed: Of the run, for the order of the rows in a race.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        train: LabelledTexts,
        *,
        objective: Objective,
        scheduling: Scheduling,
        racing: Racing | None,
        seed: int,
    ) -> None:
        self.scheduler, self.train, self.objective = scheduler, train, objective
        self.scheduling, self.racing, self.seed = scheduling, racing, seed
        self.latencies = LatencyRecord()
        capabilities = scheduler.client.backend.card.capabilities
        self.duplicates = Duplicates(deterministic=capabilities.deterministic)

    async def score(self, batch: Batch, needs: Needs, moment: Callable[[], Moment]) -> Outcome:
        """What becomes of a generation: from the journal, or from the backend.

        Args:
            batch: The candidates, those held ready in case of failures last.
            needs: What the optimiser can go on with.
            moment: Where the run stands now.

        Raises:
            LmaasError: The generation could not be scored; what was sent is booked.
            JournalMismatch: The journal is of a search that had asked for other candidates.
        """
        journal, Z = self.scheduler.journal, as_sent(batch)
        known = None if journal is None else journal.past.told.pop(batch.generation, None)
        if known is not None:
            self._check_same_search(known[0], Z, batch.generation)
            self.duplicates.learn(Z, known[0])
            return Outcome(*known, Z)
        one = _OneGeneration(self, Z, needs, generation=batch.generation)
        told = await one.score()
        self.duplicates.learn(Z, told)
        if journal is None:
            return Outcome(told, moment(), Z)
        keys = list(dict.fromkeys([*one.keys, *sorted(journal.past.keys_of(batch.generation))]))
        return Outcome(replace(told, asked=self.duplicates.digest(Z)), moment(), Z, keys)

    async def tell(self, generation: int, outcome: Outcome, tell: Callable[[], _T], thread: SideThread) -> _T:
        """Has the optimiser told of an outcome on its thread, once the journal has it; what `tell` returns.

        Raises:
            JournalError: The journal cannot be written; then nothing is told.
        """
        journal = self.scheduler.journal
        if journal is None or outcome.keys is None:
            return await thread.run(tell)
        paid = self.scheduler.client.spend.taken(outcome.keys)
        return await journal.told(generation, outcome.told, keys=outcome.keys, paid=paid, at=outcome.at, tell=tell)

    def _check_same_search(self, told: Told, Z: NDArray[np.float32], generation: int) -> None:
        if told.asked != self.duplicates.digest(Z):
            raise JournalMismatch(
                f"the search asks for other candidates in generation {generation} than the journal's run did: give the "
                "optimizer= that it was begun with, with the same settings and seed"
            )


class _OneGeneration:
    """A generation on its way.

    Attributes:
        keys: Of every call that was sent for it.
    """

    def __init__(self, scorer: GenerationScorer, Z: NDArray[np.float32], needs: Needs, *, generation: int) -> None:
        self._of, self._Z, self._needs, self._generation = scorer, Z, needs, generation
        dataset = scorer.train.dataset
        self._board = Scoreboard(len(Z), dataset.labels, objective=scorer.objective, metric=dataset.task.metric)
        self._missing = Missing()
        self._scheduler = scorer.scheduler
        self._raced: set[int] = set()
        self.keys: list[str] = []

    async def score(self) -> Told:
        """Sends what has to be sent, and decides about what is missing."""
        first = self._needs.population + self._of.scheduling.over_ask
        asked, twins = self._of.duplicates.apart(self._Z, first)
        self._board.know(twins.known)
        async with self._set_aside(len(asked)):
            if asked:
                await self._send(asked, label=str(self._generation))
            self._fare_alike(twins, {})
            await self._send_spares(range(first, len(self._Z)))
        behind = self._board.behind(self._raced - set(self._missing.fates))
        self._fare_alike(twins, behind)
        values, fates = self._missing.told(
            self._board.scored, behind, needs=self._needs, scheduling=self._of.scheduling
        )
        return Told(values, fates, self._board.evaluations)

    def _fare_alike(self, twins: Twins, behind: dict[int, float]) -> None:
        """What became of a candidate became of those that equal it."""
        _copy(self._board.scored, twins.of)
        _copy(self._missing.fates, twins.of)
        _copy(behind, twins.of)

    @asynccontextmanager
    async def _set_aside(self, candidates: int) -> AsyncIterator[None]:
        """A race is paid for before it begins, as it cannot end in the middle; what it saves comes back."""
        racing = self._of.racing
        if racing is None or not candidates:
            yield
            return
        scheduler, client = self._of.scheduler, self._of.scheduler.client
        worst = worst_of_generation(
            scheduler, self._of.train, candidates, racing=racing, seed=self._of.seed, generation=self._generation
        )
        if scheduler.journal is not None:
            bills_once = client.backend.card.capabilities.idempotent
            worst = worst.above(scheduler.journal.past.covered(self._generation, bills_once=bills_once))
        aside = await client.budget.hold_aside("race", worst)
        try:
            self._scheduler = scheduler.paying_from(client.with_budget(aside, spare=client.budget))
            yield
        finally:
            aside.release()

    async def _send_spares(self, spares: Sequence[int]) -> None:
        """Scores others in the place of those that failed, while there are any, and money for them."""
        while spares and self._missing.failed:
            lacking = self._needs.population + len(self._missing.fates) - spares[0]
            now, spares = spares[:lacking], spares[lacking:]
            if lacking <= 0:
                return
            try:
                await self._volley(now, None, label=f"{self._generation}/spares {now[0]}..{now[-1]}")
            except BudgetExceeded:
                return

    async def _send(self, candidates: Sequence[int], *, label: str) -> None:
        racing, labels = self._of.racing, self._of.train.dataset.labels
        if racing is None:
            await self._volley(candidates, None, label=label)
            return
        alive = tuple(candidates)
        self._raced.update(alive)
        steps = rungs(racing, labels, seed=self._of.seed, generation=self._generation)
        for number, rows in enumerate(steps):
            # who is in it is part of the label, and so of the keys: where a call failed, a run that goes on may differ
            await self._volley(alive, rows, label=f"{label}/rung {number} of {digest(alive)[:8]}")
            alive = tuple(index for index in alive if index not in self._missing.fates)
            if not alive:
                return
            keep, must_keep = self._needs.min_tell, self._needs.must_have
            alive = self._board.survivors(alive, racing, keep=keep, must_keep=must_keep)

    async def _volley(self, candidates: Sequence[int], rows: Sequence[int] | None, *, label: str) -> None:
        """Scores some candidates on some texts; None: on all."""
        scheduler = self._scheduler
        parts = scheduler.parts(self._of.train.scorable, self._Z[list(candidates)], "train", label=label, rows=rows)
        volley = Volley(
            scheduler,
            self._of.scheduling,
            latencies=self._of.latencies,
            read=self._board.read,
            is_enough=lambda answered: self._is_enough(parts, answered, candidates),
            label=label,
            keeps=len(parts) > 1 or self._of.racing is not None,  # else all there is to write is what is told next
        )
        try:
            answers = await volley.send(parts, await scheduler.open(parts, label=label))
        finally:
            self.keys += volley.keys
        for part, answer in zip(parts, answers, strict=True):
            of_part = candidates[part.candidates]
            if answer is None or isinstance(answer, BaseException):
                self._missing.lost(of_part, answer)
            else:
                self._missing.not_finite(self._board.put(of_part, part, answer))

    def _is_enough(self, parts: Sequence[Part], answered: Collection[int], candidates: Sequence[int]) -> bool:
        """Whether the rest of these candidates can be done without."""
        unanswered = {
            index
            for number, part in enumerate(parts)
            if number not in answered
            for index in candidates[part.candidates]
        }
        scheduling, needs = self._of.scheduling, self._needs
        wanted = needs.population if scheduling.over_ask else scheduling.quorum * len(candidates)
        # One that the optimiser must have is no exception: with one call in twenty slow, a generation in ten would wait
        # for one of TPA's two points. Told as the other's equal, it is a generation without news for the step size.
        return len(candidates) - len(unanswered) >= max(wanted, needs.min_tell)


def as_sent(batch: Batch) -> NDArray[np.float32]:
    """A copy of the candidates, (n_candidates, d), row by row in memory."""
    return np.array(batch.X, dtype=np.float32, order="C")


def _copy(known: dict[int, _T], twins: Mapping[int, int]) -> None:
    """What is known of a candidate is known of its twins."""
    known |= {twin: known[one] for twin, one in twins.items() if one in known}
