"""One run: ask, send, tell, look at dev, until something ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.errors import BackendError, BudgetExceeded, LmaasError, PaymentRequired, QuotaExceeded
from lmaas_sdk.traffic.concurrency import most_at_once
from lmaas_sdk.tuning.events import DevScored, Event, GenerationDone
from lmaas_sdk.tuning.objective import losses
from lmaas_sdk.tuning.optimizer import Batch, Optimizer
from lmaas_sdk.tuning.pace import has_time
from lmaas_sdk.tuning.plan import RunCosts
from lmaas_sdk.tuning.predictor import evaluation
from lmaas_sdk.tuning.preparation import LabelledTexts
from lmaas_sdk.tuning.presets import Preset
from lmaas_sdk.tuning.scheduler import Scheduler
from lmaas_sdk.tuning.selection import Choice, ChosenBy, Selection
from lmaas_sdk.tuning.worker import Worker

if TYPE_CHECKING:
    from lmaas_sdk.tuning.result import Stopped

__all__ = ["Run"]

_WARNINGS_EVERY = 10  # pycma's stop() is not free
_NOT_PRECISE = "the choice is by train losses in fewer bits than float32"


class Run:
    """The loop behind `Tuner.fit`.

    Args:
        preset: The settings.
        train, dev: The data; dev may be None.
        scheduler: Sends training calls.
        side_scheduler: Sends the calls that choose, on dev or training set, paid from what was set aside for them.
        costs: The worst case of every step.
        generations: Most generations; None: until time or money ends.
        tell: Takes every event.
        is_stopped: Asked before every generation after the first, and before the last look at dev.

    Attributes:
        failure: The backend's error that ended the search, if one did.
        warnings: The optimiser's reasons to stop, and what could not be done.
    """

    def __init__(  # noqa: PLR0913  (made in one place, by Tuner)
        self,
        preset: Preset,
        *,
        train: LabelledTexts,
        dev: LabelledTexts | None,
        scheduler: Scheduler,
        side_scheduler: Scheduler,
        costs: RunCosts,
        generations: int | None,
        tell: Callable[[Event], None],
        is_stopped: Callable[[], bool],
    ) -> None:
        self._preset = preset
        self._train, self._dev = train, dev
        self._scheduler, self._side_scheduler = scheduler, side_scheduler
        self._costs, self._generations = costs, generations
        self._tell = tell
        self._is_stopped = is_stopped
        self._began = asyncio.get_running_loop().time()
        self._generation = self._dev_looked_at = 0
        self._lowest = np.inf
        self._longest_s = 0.0
        self._last: tuple[Choice, NDArray[np.float64]] | None = None
        self.selection = Selection()
        self.losses: list[tuple[float, ...]] = []
        self.history: list[GenerationDone | DevScored] = []
        self.evaluations = 0
        self.warnings: set[str] = set()
        self.failure: BackendError | None = None

    async def search(self, make_optimizer: Callable[[], Optimizer]) -> Stopped:
        """Runs generations until something ends them; what was found stands in the attributes.

        Raises:
            LmaasError: What ended it before the first generation was done.
        """
        async with Worker() as worker:
            optimizer = await worker.run(make_optimizer)
            stopped = await self._generations_until_the_end(worker, optimizer)
        if stopped == "budget" and not self._is_stopped():
            await self._look_once_more()
        await self._compare_precisely(stopped)
        return "interrupted" if self._is_stopped() else stopped

    async def _generations_until_the_end(self, worker: Worker, optimizer: Optimizer) -> Stopped:
        try:
            while self._goes_on():
                await self._one_generation(worker, optimizer)
        except (BudgetExceeded, PaymentRequired, QuotaExceeded, BackendError) as end:
            if self._last is None:
                raise  # there is nothing to return
            return self._ended_by(end)
        return "budget"

    def _goes_on(self) -> bool:
        if self._last is None:
            return True
        if self._is_stopped():
            return False
        if self._generations is not None and self._generation >= self._generations:
            return False
        client = self._scheduler.client
        card = client.backend.card
        return has_time(
            client.budget.remaining_s(),
            generation_s=self._longest_s,
            generation=self._costs.generation,
            after=self._costs.after,
            slots=client.limits("score").concurrency or most_at_once(card),
            servers=card.replicas,
        )

    def _ended_by(self, end: LmaasError) -> Stopped:
        if isinstance(end, QuotaExceeded):
            return "quota"
        if isinstance(end, BudgetExceeded | PaymentRequired):
            return "budget"
        self.failure = end if isinstance(end, BackendError) else None
        return "interrupted"

    @property
    def chosen(self) -> tuple[Choice, ChosenBy]:
        """The candidate to return, and what it was chosen by."""
        if self.selection.chosen is None:
            raise RuntimeError("nothing was scored yet")
        return self.selection.chosen

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run began."""
        return asyncio.get_running_loop().time() - self._began

    async def _one_generation(self, worker: Worker, optimizer: Optimizer) -> None:
        began_s = self.elapsed_s
        batch = await worker.run(optimizer.ask)
        logits = await self._scheduler.score(
            self._train.scorable, batch.X.astype(np.float32), "train", label=batch.generation
        )
        values, mean = await worker.run(lambda: self._learn(optimizer, batch, logits))
        self.evaluations += len(batch)
        self._generation += 1
        self._longest_s = max(self._longest_s, self.elapsed_s - began_s)
        self._record(batch, values, mean, optimizer.sigma)
        if self._dev is not None and self._generation % self._preset.dev_every == 0:
            await self._score_dev()

    def _learn(
        self, optimizer: Optimizer, batch: Batch, logits: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        values = self._losses(logits)
        optimizer.tell(batch.generation, dict(enumerate(values.tolist())))
        if batch.generation % _WARNINGS_EVERY == 0:
            self.warnings.update(optimizer.warnings())
        return values, optimizer.mean

    def _losses(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        dataset = self._train.dataset
        return losses(self._preset.objective, logits, dataset.labels, metric=dataset.task.metric)

    def _record(self, batch: Batch, values: NDArray[np.float64], mean: NDArray[np.float64], sigma: float) -> None:
        best = int(values.argmin())
        choice = Choice(batch.generation, "best", batch.X[best].astype(np.float32), float(values[best]))
        self.selection.saw_train(choice)
        self._last = (choice, mean)
        self.losses.append(tuple(values.tolist()))
        self._lowest = min(self._lowest, float(values[best]))
        self._emit(
            GenerationDone(
                generation=batch.generation,
                evaluations=self.evaluations,
                best_loss=float(values[best]),
                median_loss=float(np.median(values)),
                lowest_loss=self._lowest,
                sigma=sigma,
                spent=self._scheduler.client.spend.total,
                elapsed_s=self.elapsed_s,
            )
        )

    async def _look_once_more(self) -> None:
        """Looks at dev after the last generation. What cannot be paid for or answered is left out, and said."""
        if self._dev is None or self._dev_looked_at == self._generation:
            return
        try:
            await self._score_dev()
        except (BudgetExceeded, QuotaExceeded, BackendError) as end:
            self.warnings.add(f"the last look at dev was not made: {end}")

    async def _score_dev(self) -> None:
        """Scores the generation's best and the mean of the search."""
        if self._dev is None or self._last is None:
            return
        best, mean = self._last
        candidates = [best, Choice(best.generation, "mean", mean.astype(np.float32), None)]
        Z = np.stack([candidate.z for candidate in candidates])
        scorable = self._dev.scorable
        logits = await self._side_scheduler.score(scorable, Z, "dev", label=best.generation)
        self._dev_looked_at = self._generation
        for candidate, answer in zip(candidates, logits, strict=True):
            judged = replace(candidate, dev=evaluation(answer, self._dev.dataset, shortened=scorable.shortened))
            self.selection.saw_dev(judged)
            self._emit(DevScored(judged, self._scheduler.client.spend.total, self.elapsed_s))

    async def _compare_precisely(self, stopped: Stopped) -> None:
        """Has float32 decide, where train losses do and the search saw fewer bits; that it cannot be done is said."""
        has_rivals = len(self.selection.lowest) > 1 and self.chosen[1] == "train_loss"
        if not self._scheduler.sees_fewer_bits or not has_rivals:
            return
        why_not: object = "the run was cut short" if self._dev is None else "dev was not looked at"
        if stopped == "budget" and self._dev is None and not self._is_stopped():
            try:
                await self._score_again()
            except (BudgetExceeded, QuotaExceeded, BackendError) as end:
                why_not = end
            else:
                return
        self.warnings.add(f"{_NOT_PRECISE}: {why_not}")

    async def _score_again(self) -> None:
        """Scores the lowest few on the training set in float32."""
        Z = np.stack([choice.z for choice in self.selection.lowest])
        scorable = replace(self._train.scorable, precise=True)
        logits = await self._side_scheduler.score(scorable, Z, "train", label="again")
        self.evaluations += len(Z)
        self.selection.saw_again(self._losses(logits).tolist())

    def _emit(self, event: GenerationDone | DevScored) -> None:
        self.history.append(event)
        self._tell(event)
