"""Scoring one generation: what is sent, what is not, and what the optimiser is told in the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.tuning.duplicates import Duplicates, Twins
from lmaas_sdk.tuning.journal import Moment
from lmaas_sdk.tuning.missing import Missing
from lmaas_sdk.tuning.objective import Objective
from lmaas_sdk.tuning.optimizer import Batch
from lmaas_sdk.tuning.preparation import LabelledTexts, worst_of_generation
from lmaas_sdk.tuning.racing import Racing, rungs
from lmaas_sdk.tuning.scheduler import Part, Scheduler
from lmaas_sdk.tuning.scheduling import LatencyRecord, Needs, Scheduling
from lmaas_sdk.tuning.scoreboard import Scoreboard
from lmaas_sdk.tuning.told import Told
from lmaas_sdk.tuning.volley import Volley

__all__ = ["GenerationScorer"]


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
        self.latencies = LatencyRecord(scheduling.slow_factor)
        capabilities = scheduler.client.backend.card.capabilities
        self.duplicates = Duplicates(deterministic=capabilities.deterministic)

    async def score(self, batch: Batch, needs: Needs, moment: Callable[[], Moment]) -> tuple[Told, Moment]:
        """The outcome of a generation and when it was there: from the journal, or from the backend and journalled.

        Args:
            batch: The candidates, those held ready in case of failures last.
            needs: What the optimiser can go on with.
            moment: Where the run stands now.

        Raises:
            LmaasError: The generation could not be scored; what was sent is booked.
        """
        journal, Z = self.scheduler.journal, batch.X.astype(np.float32)
        names = self.duplicates.names(Z)
        known = None if journal is None else journal.past.told.pop(batch.generation, None)
        if known is not None:
            self.duplicates.learn(names, known[0])
            return known
        one = _OneGeneration(self, Z, needs, generation=batch.generation)
        told = await one.score(names)
        self.duplicates.learn(names, told)
        now = moment()
        if journal is not None:
            spend = self.scheduler.client.spend
            paid = sum((spend.taken(key) for key in one.keys), Amounts())
            await journal.told(batch.generation, told, keys=one.keys, paid=paid, at=now)
        return told, now


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

    async def score(self, names: Sequence[bytes]) -> Told:
        """Sends what has to be sent, and decides about what is missing.

        Args:
            names: By what the candidates are told apart.
        """
        first = self._needs.population + self._of.scheduling.over_ask
        asked, twins = self._of.duplicates.apart(names[:first])
        self._board.know(twins.known)
        async with self._set_aside(len(asked)):
            if asked:
                await self._send(asked, label=str(self._generation))
            await self._send_spares(range(first, len(self._Z)), twins)
        scored = self._board.scored
        self._board.know({twin: scored[one] for twin, one in twins.of.items() if one in scored})
        behind = self._board.behind(self._raced - set(self._missing.fates))
        values, fates = self._missing.told(scored, behind, needs=self._needs, scheduling=self._of.scheduling)
        return Told(values, fates, self._board.evaluations)

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
        aside = await client.budget.hold_aside("race", worst)
        try:
            self._scheduler = scheduler.paying_from(client.with_budget(aside, spare=client.budget))
            yield
        finally:
            aside.release()

    async def _send_spares(self, spares: Sequence[int], twins: Twins) -> None:
        """Scores others in the place of those that failed, while there are any."""
        while spares and self._missing.failed:
            lacking = self._needs.population - len(self._board.scored) - len(twins.of) - len(self._raced)
            now, spares = spares[:lacking], spares[lacking:]
            if lacking <= 0:
                return
            await self._volley(now, None, label=f"{self._generation}/spares {now[0]}")

    async def _send(self, candidates: Sequence[int], *, label: str) -> None:
        racing, labels = self._of.racing, self._of.train.dataset.labels
        if racing is None:
            await self._volley(candidates, None, label=label)
            return
        alive = tuple(candidates)
        self._raced.update(alive)
        steps = rungs(racing, labels, seed=self._of.seed, generation=self._generation)
        for number, rows in enumerate(steps):
            if not alive:
                return
            await self._volley(alive, rows, label=f"{label}/rung {number}")
            alive = tuple(index for index in alive if index not in self._missing.fates)
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
