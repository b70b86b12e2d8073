"""One run: ask, send, tell, look at dev, until the budget ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.errors import BudgetExceeded, QuotaExceeded
from lmaas_sdk.tuning.events import DevScored, Event, GenerationDone
from lmaas_sdk.tuning.objective import losses
from lmaas_sdk.tuning.optimizer import Batch, Optimizer
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


class Run:
    """The loop behind `Tuner.fit`.

    Args:
        preset: The settings.
        train, dev: The data; dev may be None.
        scheduler: Sends training calls.
        dev_scheduler: Sends dev calls, paid from what was set aside for them.
        generations: Most generations; None: until time or money ends.
        tell: Takes every event.
    """

    def __init__(
        self,
        preset: Preset,
        *,
        train: LabelledTexts,
        dev: LabelledTexts | None,
        scheduler: Scheduler,
        dev_scheduler: Scheduler,
        generations: int | None,
        tell: Callable[[Event], None],
    ) -> None:
        self._preset = preset
        self._train, self._dev = train, dev
        self._scheduler, self._dev_scheduler = scheduler, dev_scheduler
        self._generations = generations
        self._tell = tell
        self._began = 0.0
        self._generation = 0
        self._lowest = np.inf
        self._last: tuple[Choice, NDArray[np.float64]] | None = None
        self.selection = Selection()
        self.losses: list[tuple[float, ...]] = []
        self.history: list[GenerationDone | DevScored] = []
        self.evaluations = 0
        self.warnings: set[str] = set()

    async def search(self, make_optimizer: Callable[[], Optimizer]) -> Stopped:
        """Runs generations until something ends them; what was found stands in the attributes."""
        self._began = asyncio.get_running_loop().time()
        async with Worker() as worker:
            optimizer = await worker.run(make_optimizer)
            try:
                while self._generations is None or self._generation < self._generations:
                    await self._one_generation(worker, optimizer)
                await self._score_dev_at_end()
            except (BudgetExceeded, QuotaExceeded) as end:
                if self._last is None:
                    raise  # without a single generation there is nothing to return
                return "quota" if isinstance(end, QuotaExceeded) else "budget"
        return "budget"

    @property
    def chosen(self) -> tuple[Choice, ChosenBy]:
        """The candidate to return, and what it was chosen by."""
        if self.selection.chosen is None:
            raise RuntimeError("nothing was scored yet")
        return self.selection.chosen

    @property
    def generations(self) -> list[GenerationDone]:
        """The generations that are done."""
        return [event for event in self.history if isinstance(event, GenerationDone)]

    async def _one_generation(self, worker: Worker, optimizer: Optimizer) -> None:
        batch = await worker.run(optimizer.ask)
        logits = await self._scheduler.score(
            self._train.scorable, batch.X.astype(np.float32), "train", label=batch.generation
        )
        values, mean = await worker.run(lambda: self._learn(optimizer, batch, logits))
        self.evaluations += len(batch)
        self._generation += 1
        self._record(batch, values, mean, optimizer.sigma)
        if self._dev is not None and self._generation % self._preset.dev_every == 0:
            await self._score_dev()

    def _learn(
        self, optimizer: Optimizer, batch: Batch, logits: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        dataset = self._train.dataset
        values = losses(self._preset.objective, logits, dataset.labels, metric=dataset.task.metric)
        optimizer.tell(batch.generation, dict(enumerate(values.tolist())))
        if batch.generation % _WARNINGS_EVERY == 0:
            self.warnings.update(optimizer.warnings())
        return values, optimizer.mean

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

    async def _score_dev_at_end(self) -> None:
        if self._dev is not None and self._generation % self._preset.dev_every != 0:
            await self._score_dev()

    async def _score_dev(self) -> None:
        """Scores the generation's best and the mean of the search."""
        if self._dev is None or self._last is None:
            return
        best, mean = self._last
        candidates = [best, Choice(best.generation, "mean", mean.astype(np.float32), None)]
        Z = np.stack([candidate.z for candidate in candidates])
        scorable = self._dev.scorable
        logits = await self._dev_scheduler.score(scorable, Z, "dev", label=best.generation)
        for candidate, answer in zip(candidates, logits, strict=True):
            judged = replace(candidate, dev=evaluation(answer, self._dev.dataset, shortened=scorable.shortened))
            self.selection.saw_dev(judged)
            self._emit(DevScored(judged, self._scheduler.client.spend.total, self.elapsed_s))

    def _emit(self, event: GenerationDone | DevScored) -> None:
        self.history.append(event)
        self._tell(event)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the search began."""
        return asyncio.get_running_loop().time() - self._began
