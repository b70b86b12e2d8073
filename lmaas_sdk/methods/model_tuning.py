"""Model tuning: all weights fine-tuned by gradients, a local reference for what a prompt can reach."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.spend import Purpose
from lmaas_sdk.backend import Backend, Limits
from lmaas_sdk.client import Client
from lmaas_sdk.methods.connection import Connection, spending
from lmaas_sdk.methods.descent import Descent, Learned, TrainingRecord
from lmaas_sdk.methods.method import Kept, MethodPredictor, task_of
from lmaas_sdk.methods.saved import SavedPredictor
from lmaas_sdk.methods.trainable import trainable
from lmaas_sdk.tasks import Dataset, Task
from lmaas_sdk.tasks.template import Fields
from lmaas_sdk.traffic.cache import ReplyCache
from lmaas_sdk.traffic.retry import RetryPolicy
from lmaas_sdk.tuning.predictor import Predictor

__all__ = ["ModelTuning", "ModelTuningPredictor"]

_WHAT = "model tuning"


class ModelTuning:
    """Fine-tunes every weight under the task's template and label words, with no classification head of its own.

    So the model starts from what it knows of the words (Gao et al. 2021, arXiv:2012.15723); the defaults are the
    paper's (Sun et al. 2022, section 4.1).

    Args:
        backend: A model in this process; it goes on answering with the weights it has.
        budget: What predictions are paid from, and whose wall time ends the training; None: no limit.
        epochs, learning_rate, batch_size, seed, dev_every, patience: As of `Descent`.
        retry, quotas, cache: As of `Client`.

    Raises:
        Unsupported: The backend can only be called; nothing was sent.
        TypeError: An option is of another type; the message names it.
        ValueError: An option is out of its range or unknown.
    """

    name: ClassVar[str] = "model-tuning"

    def __init__(  # noqa: PLR0913  (all by name)
        self,
        backend: Backend,
        *,
        budget: Budget | None = None,
        epochs: int = 200,
        learning_rate: float = 1e-5,
        batch_size: int = 16,
        seed: int = 42,
        dev_every: int = 10,
        patience: int | None = None,
        retry: RetryPolicy | None = None,
        quotas: str | Limits | Mapping[str, Limits] | None = None,
        cache: ReplyCache | bool = True,
    ) -> None:
        self._connection = Connection(backend, budget, retry, quotas, cache)
        self._model = trainable(backend, _WHAT)
        self.descent = Descent(epochs, learning_rate, batch_size, seed=seed, dev_every=dev_every, patience=patience)

    async def fit(self, train: Dataset, dev: Dataset | None = None) -> ModelTuningPredictor:
        """Trains in this process, off the event loop's thread; nothing of it is a call.

        Args:
            train: Examples to learn from.
            dev: Others to choose the epoch by; without them it is the last.

        Raises:
            TaskError: The data are unusable, or a label word does not fit the model.
            ValueError: `patience` is given and no dev set.
            BudgetTooSmall: The wall time is over before one epoch is.
            NotFinite: The training diverged.
        """
        task, client = task_of(train, dev), self._connection.client()
        self.descent.check_data(train, dev)
        weights, record = await self._learned(train, dev, client)
        tuned = await asyncio.to_thread(self._model.with_weights, weights)  # digested: seconds, of a large model
        return ModelTuningPredictor(client.with_backend(tuned), task, weights, record)

    async def _learned(self, train: Dataset, dev: Dataset | None, client: Client) -> tuple[Learned, TrainingRecord]:
        """Trains, and drops the training, which is several times as large as the model, before another is made."""
        async with spending(client):
            counted = await client.register(train.text_set)
            training = await self._model.training(
                train.text_set, train.labels, learning_rate=self.descent.learning_rate
            )
            return await self.descent.run(training, train, dev, tokens=counted.token_counts, budget=client.budget)


class ModelTuningPredictor(MethodPredictor):
    """Predicts with weights of its own.

    Args:
        client: Of the backend that has these weights.
        task: What is asked.
        weights: Every weight of the model, by name.
        training: How they were learned; None: they come from a file.
    """

    name: ClassVar[str] = ModelTuning.name

    def __init__(self, client: Client, task: Task, weights: Learned, training: TrainingRecord | None = None) -> None:
        super().__init__(client, task)
        self.weights, self.training = weights, training
        self._predictor = Predictor(client, task)

    async def score(self, items: Sequence[Fields], purpose: Purpose) -> tuple[NDArray[np.float32], int]:
        return await self._predictor.score(self.task.text_set(items), purpose)

    async def worst(self, items: Sequence[Fields], purpose: Purpose) -> Amounts:
        """As of `Foreseeing`."""
        return await self._predictor.worst(self.task.text_set(items), purpose)

    def kept(self) -> Kept:
        return {}, self.weights

    @classmethod
    def restored(cls, saved: SavedPredictor, client: Client) -> ModelTuningPredictor:
        """What `saved` was made of.

        Raises:
            Unsupported: The backend can only be called, so it takes no weights.
            PredictorFileError: It holds settings, which model tuning has none of.
            ValueError: The weights are none of this model's.
        """
        tuned = trainable(client.backend, _WHAT).with_weights(saved.arrays)
        saved.expect(shapes={name: array.shape for name, array in saved.arrays.items()})
        return cls(client.with_backend(tuned), saved.task, saved.arrays)
