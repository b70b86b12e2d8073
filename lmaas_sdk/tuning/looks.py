"""Looks at what the search does not learn from: the dev set, and how far a backend repeats itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.canonical import array_digest
from lmaas_sdk.tuning.events import DevScored
from lmaas_sdk.tuning.journal import Moment
from lmaas_sdk.tuning.objective import Objective, losses
from lmaas_sdk.tuning.predictor import Evaluation, evaluation
from lmaas_sdk.tuning.preparation import LabelledTexts
from lmaas_sdk.tuning.scheduler import Scheduler
from lmaas_sdk.tuning.selection import Choice, Selection

__all__ = ["Looks"]


class Looks:
    """What is scored beside the generations, paid from what was set aside for it.

    Args:
        scheduler: Sends.
        train, dev: The data; dev may be None.
        objective: What the search minimises.
        selection: Is offered everything.
        moment: Where the run stands now.

    Attributes:
        scheduler: May be replaced by one that pays from another budget.
        at: Generations that were done when dev was looked at last.
        latest: The evaluations of that look.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        *,
        train: LabelledTexts,
        dev: LabelledTexts | None,
        objective: Objective,
        selection: Selection,
        moment: Callable[[], Moment],
    ) -> None:
        self.scheduler = scheduler
        self._train, self._dev, self._objective = train, dev, objective
        self._selection, self._moment = selection, moment
        self.at = 0
        self.latest: tuple[Evaluation, ...] = ()

    @property
    def has_dev(self) -> bool:
        """Whether there is a dev set."""
        return self._dev is not None

    def is_new(self, generation: int) -> bool:
        """Whether the look after this generation is not in the journal."""
        journal = self.scheduler.journal
        return journal is None or generation not in journal.past.looked

    async def score_dev(self, candidates: Sequence[Choice], *, done: int) -> list[DevScored]:
        """Scores candidates on the dev set.

        Args:
            candidates: Of the latest generation.
            done: Generations that are done.

        Raises:
            LmaasError: They could not be scored.
        """
        if self._dev is None:
            return []
        scorable, generation = self._dev.scorable, candidates[0].generation
        Z = np.stack([candidate.z for candidate in candidates])
        logits = await self.scheduler.score(scorable, Z, "dev", label=str(generation))
        found = [evaluation(answer, self._dev.dataset, shortened=scorable.shortened) for answer in logits]
        at = await self._noted(generation)
        self.at, self.latest = done, tuple(found)
        scored = [replace(candidate, dev=one) for candidate, one in zip(candidates, found, strict=True)]
        for choice in scored:
            self._selection.saw_dev(choice)
        return [DevScored(choice, at.spent, at.elapsed_s) for choice in scored]

    async def _noted(self, generation: int) -> Moment:
        journal = self.scheduler.journal
        if journal is None:
            return self._moment()
        if generation in journal.past.looked:
            return journal.past.looked[generation]
        at = self._moment()
        await journal.looked(generation, at)
        return at

    async def repeat(self, z: NDArray[np.float32], loss: float, *, generation: int) -> None:
        """Scores a candidate on the training set once more, to see how far apart two values of it are.

        Raises:
            LmaasError: It could not be scored.
        """
        label = f"{generation}/repeat"
        logits = await self.scheduler.score(self._train.scorable, z[None, :], "train", label=label)
        self._selection.noise.saw_pair(loss, float(self._losses(logits)[0]))

    async def score_again(self) -> int:
        """Scores the lowest few on the training set in float32; how many these were.

        Raises:
            LmaasError: They could not be scored.
        """
        lowest = self._selection.lowest
        scorable = replace(self._train.scorable, precise=True)
        Z = np.stack([choice.z for choice in lowest])
        label = f"again {array_digest(Z)[:8]}"  # a run that goes on may have others
        logits = await self.scheduler.score(scorable, Z, "train", label=label)
        self._selection.saw_again(self._losses(logits).tolist())
        return len(lowest)

    def _losses(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        dataset = self._train.dataset
        return losses(self._objective, logits, dataset.labels, metric=dataset.task.metric)
