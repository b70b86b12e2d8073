"""What a method is: `await method.fit(train, dev)` gives a predictor, which predicts, is judged and is saved."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, final, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.spend import Purpose, Spend, check_purpose
from lmaas_sdk.client import Client
from lmaas_sdk.errors import NotFinite, TaskError
from lmaas_sdk.made_for import MadeFor
from lmaas_sdk.methods.saved import SavedPredictor
from lmaas_sdk.tasks import Dataset, Task
from lmaas_sdk.tasks.dataset import check_are_texts
from lmaas_sdk.tasks.template import Fields
from lmaas_sdk.tuning.predictor import Evaluation, check_evaluable, evaluation
from lmaas_sdk.tuning.preparation import given_datasets

__all__ = ["Foreseeing", "Kept", "Method", "MethodPredictor", "task_of"]

Kept = tuple[Mapping[str, Any], Mapping[str, NDArray[np.float32]]]
"""The settings and the arrays of a predictor, as of `SavedPredictor`."""


class Method(Protocol):
    """A way to make a predictor of labelled examples.

    Attributes:
        name: Of the method, in files and tables.
    """

    name: ClassVar[str]

    async def fit(self, train: Dataset, dev: Dataset | None = None) -> MethodPredictor:
        """Makes a predictor.

        Args:
            train: Labelled examples; they carry their task.
            dev: Others to choose by, for a method that chooses.

        Raises:
            BudgetTooSmall: The budget cannot pay for what it takes at least; nothing was sent.
            TaskError: The data are unusable; nothing was sent.
            BudgetExceeded, QuotaExceeded, BackendError: It ended before there was anything to predict with.
        """
        ...


@runtime_checkable
class Foreseeing(Protocol):
    """A predictor that tells beforehand what scoring takes, as an ensemble asks of its members."""

    async def worst(self, items: Sequence[Fields], purpose: Purpose) -> Amounts:
        """The most that `score` may take of these texts; to ask is free."""
        ...


class MethodPredictor(ABC):
    """Predicts with what a method has found; one of a method of your own says how it scores and what it keeps.

    Args:
        client: Sends and pays.
        task: What is asked.

    Attributes:
        name: Of the method.
        shortened: Texts, of all so far, that lost words to fit the model.
    """

    name: ClassVar[str]

    def __init__(self, client: Client, task: Task) -> None:
        self.client, self.task = client, task
        self.shortened = 0

    @abstractmethod
    async def score(self, items: Sequence[Fields], purpose: Purpose) -> tuple[NDArray[np.float32], int]:
        """The logits of the classes for some texts, and how many of the texts lost words to fit the model.

        Args:
            items: The fields of each text; there is at least one.
            purpose: What for.

        Returns:
            (n_texts, n_labels) float32, and a count.
        """

    @abstractmethod
    def kept(self) -> Kept:
        """What a file has to hold beside method, model and task: settings and arrays, as of `SavedPredictor`."""

    @property
    def spend(self) -> Spend:
        """All that was posted for this predictor, by purpose: in `fit` and since."""
        return self.client.spend

    @final
    async def predict(self, items: Sequence[Fields]) -> list[str]:
        """The label of each text.

        Raises:
            TaskError: They are no list of texts, or one does not fill the template; nothing was sent.
            BudgetExceeded: The texts do not fit into the budget together; nothing was sent, unless by an ensemble with
                members of a method of your own that do not tell beforehand what they take (`Foreseeing`).
            NotFinite: A logit is no number; the calls were paid.
        """
        logits = await self.logits(items)
        return [self.task.labels[index] for index in logits.argmax(axis=1)]

    @final
    async def logits(self, items: Sequence[Fields]) -> NDArray[np.float32]:
        """The logits of the classes for each text: (n_texts, n_labels) float32. Raises as `predict`."""
        check_are_texts(items)
        if not (given := list(items)):
            return np.empty((0, len(self.task.labels)), np.float32)
        return (await self.scored(given, "predict"))[0]

    @final
    async def evaluate(self, dataset: Dataset, *, purpose: Purpose = "test") -> Evaluation:
        """The task's metric on a labelled set.

        Args:
            dataset: Of the task.
            purpose: As which its calls are booked.

        Raises:
            ValueError: The set is empty, or there is no such purpose.
            TaskError: It is of another task.
            BudgetExceeded: It does not fit into the budget whole; nothing was sent, as of `predict`.
            NotFinite: As of `predict`.
        """
        check_evaluable(dataset, self.task)
        check_purpose(purpose)
        logits, shortened = await self.scored(dataset.fields, purpose)
        return evaluation(logits, dataset, shortened=shortened)

    @final
    async def scored(self, items: Sequence[Fields], purpose: Purpose) -> tuple[NDArray[np.float32], int]:
        """What `score` says, counted and looked at. Raises as `predict`, but for what is no list of texts."""
        logits, shortened = await self.score(items, purpose)
        self.shortened += shortened
        if np.isnan(logits).any():  # argmax would take it for the likeliest class
            raise NotFinite(f"a logit of {self.name!r} is no number: fit again, by a lower learning_rate if it has one")
        return logits, shortened

    @final
    def saved(self) -> SavedPredictor:
        """All that this predictor is but for its connection."""
        return SavedPredictor(self.name, MadeFor.of(self.client.backend.card), self.task, *self.kept())

    @final
    def save(self, path: str | Path) -> Path:
        """Writes the predictor to one file, which `load_predictor` reads, and returns its path.

        Raises:
            PredictorFileError: It cannot be written there.
        """
        return self.saved().save(path)


def task_of(train: Dataset, dev: Dataset | None) -> Task:
    """The task that the sets given to a `fit` are of.

    Raises:
        TypeError: One is no `Dataset`.
        TaskError: They are of two tasks.
    """
    for name, dataset in given_datasets({"train": train, "dev": dev}).items():
        if dataset.task != train.task:
            raise TaskError(f"the {name} set is of task {dataset.task.name!r}, the train set of {train.task.name!r}")
    return train.task
