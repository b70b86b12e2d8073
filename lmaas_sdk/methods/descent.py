"""Gradient descent on labelled examples: which texts a step sees, when dev is looked at, and which epoch is kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.errors import BudgetExceeded, NotFinite, TaskError
from lmaas_sdk.methods.trainable import Training
from lmaas_sdk.seeding import permutation, whole_number
from lmaas_sdk.tasks import Dataset
from lmaas_sdk.tuning.predictor import Evaluation, evaluation
from lmaas_sdk.tuning.subspace import positive_number

__all__ = ["Descent", "Learned", "Stopped", "TrainingRecord", "diverged"]

Learned = Mapping[str, NDArray[np.float32]]
Stopped = Literal["done", "plateau", "budget"]
"""What ended a training: its last epoch, its patience with dev, or time."""


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """What a training did. None of it was a call, so no ledger has it.

    Args:
        epochs, steps: Whole epochs, and steps of Adam.
        tokens: Positions that went forward and backward, padding and dev not among them.
        losses: The mean train loss of each epoch, every batch before its step.
        chosen: The epoch that was kept.
        dev: Its evaluation on the dev set; None without one.
        stopped: `done`: all epochs; `plateau`: dev got no better for as long as `patience` says; `budget`: the wall
            time was over.
    """

    epochs: int
    steps: int
    tokens: int
    losses: tuple[float, ...]
    chosen: int
    dev: Evaluation | None
    stopped: Stopped


@dataclass(frozen=True, slots=True)
class Descent:
    """How a training goes.

    Args:
        epochs: At most so many times through the training set.
        learning_rate: Of Adam.
        batch_size: Texts of a step; the last of an epoch may have fewer.
        seed: Of the order in each epoch.
        dev_every: Epochs between two looks at dev.
        patience: Looks at dev that may be no better than the best before it ends; None: it does not end by that.

    Raises:
        TypeError: An option is of another type; the message names it.
        ValueError: An option is out of its range.
    """

    epochs: int
    learning_rate: float
    batch_size: int
    seed: int
    dev_every: int
    patience: int | None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "dev_every"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), at_least=1))
        object.__setattr__(self, "learning_rate", positive_number("learning_rate", self.learning_rate))
        object.__setattr__(self, "seed", whole_number("seed", self.seed))
        if self.patience is not None:
            object.__setattr__(self, "patience", whole_number("patience", self.patience, at_least=1))

    def check_data(self, train: Dataset, dev: Dataset | None) -> None:
        """Refuses sets that nothing can be learned from, or chosen by.

        Raises:
            EmptyClass: A class has no training example.
            TaskError: The dev set is empty.
            ValueError: There is `patience` and no dev set.
        """
        train.require_every_class()
        if dev is not None and not len(dev):
            raise TaskError("the dev set has no examples: leave it out, or read it again")
        if dev is None and self.patience is not None:
            raise ValueError("patience counts looks at the dev set, and there is none: give dev=, or patience=None")

    def batches(self, epoch: int, count: int) -> list[list[int]]:
        """The rows of each step of an epoch: one shuffle, the same for the same seed everywhere."""
        order = permutation(self.seed, f"descent/1/{epoch}", count).tolist()
        return [order[start : start + self.batch_size] for start in range(0, count, self.batch_size)]

    async def run(
        self, training: Training, train: Dataset, dev: Dataset | None, *, tokens: tuple[int, ...], budget: Budget
    ) -> tuple[Learned, TrainingRecord]:
        """Trains to the end, and returns what was learned by the epoch that is best on dev, or without dev by the last.

        The best metric wins, of equal ones the lower cross entropy, then the earlier epoch. Cancelled, it ends after
        the step under way.

        Args:
            training: Just begun.
            train, dev: Checked by `check_data`.
            tokens: Of each training text.
            budget: Its wall time ends the training; what was learned until then is returned.

        Raises:
            BudgetExceeded: The wall time was over before one epoch was.
            NotFinite: The loss is no number any more.
        """
        way = _Way(self, training, dev)
        for epoch in range(1, self.epochs + 1):
            try:
                way.losses.append(await way.epoch(self.batches(epoch, len(train)), tokens, budget))
            except BudgetExceeded:
                if not way.losses:
                    raise
                way.stopped = "budget"
                break
            if dev is not None and (epoch % self.dev_every == 0 or epoch == self.epochs):
                await way.look(dev)
            if way.stopped == "plateau":
                break
        return await way.end()


@dataclass(slots=True)
class _Way:
    """How far a training has come."""

    descent: Descent
    training: Training
    dev: Dataset | None
    losses: list[float] = field(default_factory=list)
    steps: int = 0
    tokens: int = 0
    stopped: Stopped = "done"
    _best: tuple[int, Learned, Evaluation] | None = None
    _looks_since: int = 0

    async def epoch(self, batches: list[list[int]], tokens: tuple[int, ...], budget: Budget) -> float:
        """Takes the steps; the mean loss of the texts."""
        total = 0.0
        for rows in batches:
            budget.check_open()
            loss = await self.training.step(rows)
            if not math.isfinite(loss):
                raise diverged(f"the loss is {loss} at step {self.steps + 1}", self.descent.learning_rate)
            total += loss * len(rows)
            self.steps += 1
            self.tokens += sum(tokens[row] for row in rows)
        return total / sum(map(len, batches))

    async def look(self, dev: Dataset) -> None:
        """Keeps what was learned so far if it is better on dev than what is kept."""
        found = evaluation(await self.training.logits(dev.text_set), dev)
        if self._best is None or _rank(found) > _rank(self._best[2]):
            self._best = len(self.losses), await self.training.learned(), found
            self._looks_since = 0
            return
        self._looks_since += 1
        if self._looks_since == self.descent.patience:
            self.stopped = "plateau"

    async def end(self) -> tuple[Learned, TrainingRecord]:
        epochs = len(self.losses)
        chosen, learned, found = self._best or (epochs, await self.training.learned(), None)
        record = TrainingRecord(
            epochs, self.steps, self.tokens, tuple(self.losses), chosen=chosen, dev=found, stopped=self.stopped
        )
        return learned, record


def diverged(what: str, learning_rate: float) -> NotFinite:
    """The error of a training whose numbers are none any more.

    Args:
        what: Which of them, and at which step.
        learning_rate: It was too high.
    """
    return NotFinite(f"{what}: the training diverged; take a learning_rate below {learning_rate:g}")


def _rank(found: Evaluation) -> tuple[float, float]:
    return found.value, -found.cross_entropy
