"""A prompt in use: predictions, and how good they are."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.spend import Purpose, check_purpose
from lmaas_sdk.backend import Backend
from lmaas_sdk.client import Client
from lmaas_sdk.errors import TaskError
from lmaas_sdk.outside import outside
from lmaas_sdk.tasks import Dataset, Task
from lmaas_sdk.tasks.dataset import check_are_texts
from lmaas_sdk.tasks.intervals import Confusion, confusion_of, interval_of
from lmaas_sdk.tasks.metrics import get_metric
from lmaas_sdk.tasks.template import Fields
from lmaas_sdk.texts import TextSet
from lmaas_sdk.tuning.objective import cross_entropy
from lmaas_sdk.tuning.parts import Scorable
from lmaas_sdk.tuning.prompt import TunedPrompt
from lmaas_sdk.tuning.scheduler import Scheduler
from lmaas_sdk.tuning.uploads import upload

__all__ = ["Evaluation", "Predictor", "check_evaluable", "evaluation"]


@dataclass(frozen=True)  # no slots: an interval is kept once it is worked out
class Evaluation:
    """How good a prompt is on a data set.

    Args:
        metric, value: The task's metric.
        cross_entropy: Mean cross entropy over the label words.
        n_texts: Texts evaluated.
        shortened: How many of them lost words to fit the model.
        confusion: (label, prediction, number of texts) of every pair that occurs; empty: not known.
    """

    metric: str
    value: float
    cross_entropy: float
    n_texts: int
    shortened: int = 0
    confusion: Confusion = field(default=(), repr=False)

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """Between what and what the metric lies at 95 %, had there been more texts of the same kind.

        Wilson's score interval for accuracy and, mapped, for F1; a metric of one's own is worked out on 999 draws of
        these texts, from the same random numbers each time, when this is read first. None where `confusion` is not
        known or the metric has no finite value on 2.5 % of the draws or more.

        Raises:
            TaskError: The metric is not registered here.
        """
        return interval_of(self.metric, self.confusion)


def evaluation(logits: NDArray[np.float32], dataset: Dataset, *, shortened: int = 0) -> Evaluation:
    """Judges one candidate's logits: (n_texts, n_labels)."""
    metric = dataset.task.metric
    predictions = logits.argmax(axis=1).astype(np.int64)
    value = float(get_metric(metric)(dataset.labels, predictions))
    confusion = confusion_of(dataset.labels, predictions)
    return Evaluation(metric, value, cross_entropy(logits, dataset.labels), len(dataset), shortened, confusion)


def check_evaluable(dataset: Dataset, task: Task) -> None:
    """Refuses a set on which what was made for a task cannot be judged.

    Raises:
        ValueError: The set is empty.
        TaskError: It is of another task.
    """
    if not len(dataset):
        raise ValueError(f"the data set {dataset.name!r} has no examples to evaluate on")
    if dataset.task != task:
        raise TaskError(f"the data set is of task {dataset.task.name!r}, the prompt of {task.name!r}")


class Predictor:
    """Predicts with a tuned prompt, or with the manual one.

    Args:
        client: Sends and pays.
        task: The task; a tuned prompt brings its own.
        prompt: None: the manual prompt.

    Attributes:
        client: Sends and pays.
        shortened: Texts, of all so far, that lost words to fit the model.

    Raises:
        PromptFileError: The prompt was made for another model.
    """

    def __init__(self, client: Client, task: Task, prompt: TunedPrompt | None = None) -> None:
        if prompt is not None:
            prompt.check_fits(client.backend.card)
        self.client, self.task, self.prompt = client, task, prompt
        self._scheduler = Scheduler(client, outside().new_id())
        self._numbers = itertools.count()
        self._uploaded = False
        self.shortened = 0

    @classmethod
    def tuned(cls, backend: Backend, prompt: TunedPrompt, *, budget: Budget | None = None) -> Predictor:
        """Predicts with a tuned prompt, such as one read by `TunedPrompt.load`. No budget: no limit."""
        return cls(Client(backend, budget or Budget()), prompt.task, prompt)

    @classmethod
    def manual(cls, backend: Backend, task: Task, *, budget: Budget | None = None) -> Predictor:
        """Predicts with the task's template alone. No budget: no limit."""
        return cls(Client(backend, budget or Budget()), task)

    async def predict(self, items: Sequence[Fields]) -> list[str]:
        """The label of each text."""
        logits = await self.logits(items)
        return [self.task.labels[index] for index in logits.argmax(axis=1)]

    async def logits(self, items: Sequence[Fields]) -> NDArray[np.float32]:
        """The label logits of each text: (n_texts, n_labels) float32.

        Raises:
            TaskError: They are no list of texts, or one does not fill the template; nothing was sent.
        """
        check_are_texts(items)
        if not (given := list(items)):
            return np.empty((0, len(self.task.labels)), np.float32)
        logits, _ = await self.score(self.task.text_set(given), "predict")
        return logits

    async def evaluate(self, dataset: Dataset, *, purpose: Purpose = "test") -> Evaluation:
        """The task's metric on a labelled set.

        Args:
            dataset: Of the task.
            purpose: As which its calls are booked.

        Raises:
            ValueError: The set is empty, or there is no such purpose.
            TaskError: It is of another task.
        """
        check_evaluable(dataset, self.task)
        check_purpose(purpose)
        logits, shortened = await self.score(dataset.text_set, purpose)
        return evaluation(logits, dataset, shortened=shortened)

    async def score(self, texts: TextSet, purpose: Purpose) -> tuple[NDArray[np.float32], int]:
        """The label logits of texts that are written already, and how many of them lost words to fit the model.

        Args:
            texts: The texts, with a mask each, and their label words.
            purpose: What for.

        Returns:
            (n_texts, n_labels) float32, and a count.
        """
        logits, shortened = await self.score_all(texts, None if self.prompt is None else self.prompt.Z, purpose)
        return logits[0], shortened

    async def score_all(
        self, texts: TextSet, Z: NDArray[np.float32] | None, purpose: Purpose
    ) -> tuple[NDArray[np.float32], int]:
        """As `score`, for several candidates of the prompt's subspace at once.

        Args:
            texts, purpose: As of `score`.
            Z: (n_candidates, d) float32; None: the manual prompt, one candidate.

        Returns:
            (n_candidates, n_texts, n_labels) float32, and a count.
        """
        scorable = await self._scorable(texts)
        self.shortened += scorable.shortened
        logits = await self._scheduler.score(scorable, Z, purpose, label=next(self._numbers))
        return logits, scorable.shortened

    async def worst(self, texts: TextSet, purpose: Purpose, *, Z: NDArray[np.float32] | None = None) -> Amounts:
        """The most that `score` may take, or `score_all` for the candidates Z; to ask is free."""
        if Z is None and self.prompt is not None:
            Z = self.prompt.Z
        parts = self._scheduler.parts(await self._scorable(texts), Z, purpose, label="worst")
        return sum((part.call.worst for part in parts), Amounts())

    async def _scorable(self, texts: TextSet) -> Scorable:
        await self._upload_arrays()
        subspace = None if self.prompt is None else self.prompt.subspace
        return await self._scheduler.prepare(texts, subspace, precise=True)

    async def _upload_arrays(self) -> None:
        if self.prompt is not None and not self._uploaded:
            await upload(self.client, self.prompt.arrays)
            self._uploaded = True
