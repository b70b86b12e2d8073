"""What the methods on frozen features share: fetch each text's once, train a head on them here, predict with it."""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self, TypedDict

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.spend import Purpose
from lmaas_sdk.backend import Backend, Limits, Pool
from lmaas_sdk.client import Client
from lmaas_sdk.errors import BudgetExceeded, PredictorFileError, TaskError
from lmaas_sdk.logs import log_event
from lmaas_sdk.methods.connection import Connection, spending
from lmaas_sdk.methods.descent import Stopped
from lmaas_sdk.methods.features import FeatureMemory, Features, FeatureSource, check_gives_features, input_texts
from lmaas_sdk.methods.local_training import (
    Head,
    Labelled,
    Lesson,
    Trained,
    Training,
    check_torch,
    train_head,
)
from lmaas_sdk.methods.method import Kept, MethodPredictor, task_of
from lmaas_sdk.methods.saved import SavedPredictor
from lmaas_sdk.tasks import Dataset, Task, check_metric
from lmaas_sdk.tasks.template import Fields
from lmaas_sdk.texts import Text
from lmaas_sdk.traffic.cache import ReplyCache
from lmaas_sdk.traffic.retry import RetryPolicy
from lmaas_sdk.tuning.blas import one_blas_thread

__all__ = ["FeatureHead", "FeatureOptions", "FeaturePredictor", "Fitted", "Fitting"]

_logger = logging.getLogger("lmaas_sdk.methods")
_SETTINGS = ("chosen_by", "epoch", "template", "width")


class FeatureHead(Head, Protocol):
    """A head that says what it reads, and how wide it is."""

    pool: ClassVar[Pool]

    @property
    def width(self) -> int:
        """Of its hidden layer."""
        ...


class FeatureOptions(TypedDict, total=False):
    """All that a method on features takes beside the backend and its width, as of `Fitting`."""

    budget: Budget | None
    seed: int
    epochs: int
    learning_rate: float
    batch_size: int
    patience: int | None
    template: bool
    retry: RetryPolicy | None
    quotas: str | Limits | Mapping[str, Limits] | None
    cache: ReplyCache | bool


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A trained head, whether it reads the template around a text, and why its training ended."""

    head: FeatureHead
    trained: Trained
    template: bool
    stopped: Stopped = "done"


class Fitting:
    """How a head is fitted.

    Args:
        backend: The model.
        head: What is trained.
        budget: What calls are paid from; None: no limit.
        seed, epochs, learning_rate, batch_size, patience: As of `Training`.
        template: Whether the model reads the task's template, with its mask, around each text.
        retry, quotas, cache: As of `Client`.

    Raises:
        TypeError: An option is of another type; the message names it.
        ValueError: An option is out of its range.
        Unsupported: The model gives no features.
    """

    def __init__(  # noqa: PLR0913  (all but two by name)
        self,
        backend: Backend,
        head: FeatureHead,
        *,
        budget: Budget | None = None,
        seed: int = 42,
        epochs: int = 1000,
        learning_rate: float = 3e-4,
        batch_size: int = 32,
        patience: int | None = None,
        template: bool = False,
        retry: RetryPolicy | None = None,
        quotas: str | Limits | Mapping[str, Limits] | None = None,
        cache: ReplyCache | bool = True,
    ) -> None:
        if not isinstance(template, bool):
            raise TypeError(f"template is True or False, not {template!r:.80} of {type(template).__name__}")
        self._connection = Connection(backend, budget, retry, quotas, cache)
        self._memory = FeatureMemory()
        self._training = Training(epochs, learning_rate, batch_size, seed, patience)
        self._head, self._template = head, template
        check_gives_features(backend.card)

    async def fit(self, train: Dataset, dev: Dataset | None) -> tuple[Client, Fitted, FeatureSource]:
        """What a predictor is made of. The features of train and dev set are paid together, as `features`.

        Raises:
            MissingExtra: torch is not installed; nothing was sent.
            BudgetTooSmall: The budget cannot pay for the features of the training set; nothing was sent.
            TaskError: The data are unusable; nothing was sent.
            ValueError: There is `patience` and no dev set; nothing was sent.
            NotFinite: The training diverged.
        """
        if dev is None and self._training.patience is not None:
            raise ValueError("patience counts epochs by the dev set, and there is none: give dev=, or patience=None")
        task = task_of(train, dev)
        await asyncio.to_thread(_check_sets, train, dev)
        await asyncio.to_thread(check_torch)
        client = self._connection.client()
        source = FeatureSource(client, self._head.pool, self._memory)
        async with spending(client):
            learned = await self._labelled(source, train, dev)
            lesson = Lesson(*learned, task.metric, len(task.labels))
            trained = await train_head(self._head, self._training, lesson, left_s=client.budget.remaining_s())
        is_short = dev is not None and lesson.dev is None
        return client, Fitted(self._head, trained, self._template, "budget" if is_short else trained.stopped), source

    async def _labelled(
        self, source: FeatureSource, train: Dataset, dev: Dataset | None
    ) -> tuple[Labelled, Labelled | None]:
        """Both sets with their features; without dev where the budget does not pay for that, which is logged."""
        try:
            return await self._fetched(source, train, dev)
        except BudgetExceeded as end:
            if dev is None:
                raise
            learned = await self._fetched(source, train, None)  # from memory, where it was answered already
            message = "the budget does not pay for the features of the dev set, so the last epoch is taken (%(reason)s)"
            log_event(_logger, logging.WARNING, "dev_left_out", message, reason=str(end), texts=len(dev))
            return learned

    async def _fetched(
        self, source: FeatureSource, train: Dataset, dev: Dataset | None
    ) -> tuple[Labelled, Labelled | None]:
        items = train.fields if dev is None else train.fields + dev.fields
        texts = await asyncio.to_thread(input_texts, train.task, items, template=self._template)
        features = (await source.fetch(texts, "features")).features
        learned = Labelled(features[: len(train)], train.labels)
        return learned, None if dev is None else Labelled(features[len(train) :], dev.labels)


class FeaturePredictor(MethodPredictor):
    """Predicts with a head on features.

    Args:
        client, task: As of `MethodPredictor`.
        fitted: The head.
        source: Where features come from; None: the client.

    Attributes:
        epoch: After which the weights were taken, counted from 1.
        chosen_by: Why it is that one: "dev", or "last" where there was no dev set or the budget did not pay for it.
        stopped: "budget" where wall time ended the training, or the budget did not pay for the dev set; "plateau" where
            `patience` did; else "done". A file does not keep it.

    Raises:
        Unsupported: The model gives no features.
    """

    def __init__(self, client: Client, task: Task, fitted: Fitted, source: FeatureSource | None = None) -> None:
        super().__init__(client, task)
        self.epoch, self.chosen_by = fitted.trained.epoch, fitted.trained.chosen_by
        self.stopped = fitted.stopped
        self._fitted = fitted
        self._source = source or FeatureSource(client, fitted.head.pool)

    @classmethod
    @abstractmethod
    def head(cls, width: int) -> FeatureHead:
        """The head of this method, of such a width."""

    async def score(self, items: Sequence[Fields], purpose: Purpose) -> tuple[NDArray[np.float32], int]:
        fetched = await self._source.fetch(await self._texts(items), purpose)
        return await asyncio.to_thread(self._logits, fetched.features), fetched.shortened

    async def worst(self, items: Sequence[Fields], purpose: Purpose) -> Amounts:
        """As of `Foreseeing`; what is kept costs nothing."""
        return await self._source.worst(await self._texts(items), purpose)

    async def _texts(self, items: Sequence[Fields]) -> tuple[Text, ...]:
        return await asyncio.to_thread(input_texts, self.task, items, template=self._fitted.template)

    def _logits(self, features: Sequence[Features]) -> NDArray[np.float32]:
        with one_blas_thread():
            return self._fitted.head.logits(self._fitted.trained.weights, features)

    def kept(self) -> Kept:
        fitted = self._fitted
        settings = (self.chosen_by, self.epoch, fitted.template, fitted.head.width)
        return dict(zip(_SETTINGS, settings, strict=True)), fitted.trained.weights

    @classmethod
    def restored(cls, saved: SavedPredictor, client: Client) -> Self:
        """What `saved` was made of; torch is not needed.

        Raises:
            PredictorFileError: It holds what this method does not.
            Unsupported: The model gives no features.
        """
        chosen_by, epoch, template, width = (saved.settings.get(name) for name in _SETTINGS)
        if chosen_by not in ("dev", "last"):
            raise PredictorFileError(f"chosen_by is dev or last, not {chosen_by!r:.80}")
        if type(template) is not bool:
            raise PredictorFileError(f"template is True or False, not {template!r:.80}")
        head = cls.head(_positive("width", width))
        parameters = head.parameters(saved.made_for.hidden_size, len(saved.task.labels))
        saved.expect(settings=_SETTINGS, shapes={name: parameter.shape for name, parameter in parameters.items()})
        trained = Trained(saved.arrays, _positive("epoch", epoch), chosen_by)
        return cls(client, saved.task, Fitted(head, trained, template))


def _check_sets(train: Dataset, dev: Dataset | None) -> None:
    train.require_every_class()
    check_metric(train.task.metric, train.labels)
    if dev is not None and not len(dev):
        raise TaskError("the dev set has no examples: leave it out, or read it again")


def _positive(name: str, value: Any) -> int:
    if type(value) is not int or value < 1:
        raise PredictorFileError(f"{name} is a whole number of at least 1, not {value!r:.80}")
    return value
