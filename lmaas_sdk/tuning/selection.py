"""Which of all the candidates is returned: by the dev set where there is one, else by train loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.tuning.predictor import Evaluation

__all__ = ["Choice", "Selection"]

Kind = Literal["best", "mean"]
ChosenBy = Literal["dev_metric", "train_loss"]


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """A candidate that may be returned.

    Args:
        generation: Where it was found.
        kind: `best`: the generation's best by train loss; `mean`: the centre of the search after it.
        z: (d,) float32.
        train_loss: None for a mean, which is not scored on the training set.
        dev: Its evaluation on the dev set; None without one.
    """

    generation: int
    kind: Kind
    z: NDArray[np.float32]
    train_loss: float | None
    dev: Evaluation | None = None

    def to_dict(self) -> dict[str, object]:
        row: dict[str, object] = {"generation": self.generation, "kind": self.kind, "train_loss": self.train_loss}
        if self.dev is not None:
            row |= {"dev_metric": self.dev.value, "dev_cross_entropy": self.dev.cross_entropy}
        return row


class Selection:
    """Keeps the best seen. On dev: the best metric, ties by cross entropy, then the mean; else the lowest train
    loss."""

    def __init__(self) -> None:
        self._best_train: Choice | None = None
        self._best_dev: Choice | None = None

    def saw_train(self, choice: Choice) -> None:
        """Offers a generation's best."""
        if self._best_train is None or _loss(choice) < _loss(self._best_train):
            self._best_train = choice

    def saw_dev(self, choice: Choice) -> None:
        """Offers a candidate that was scored on dev."""
        if self._best_dev is None or _dev_rank(choice) > _dev_rank(self._best_dev):
            self._best_dev = choice

    @property
    def chosen(self) -> tuple[Choice, ChosenBy] | None:
        """The best so far and what it was chosen by; None before the first generation."""
        if self._best_dev is not None:
            return self._best_dev, "dev_metric"
        return None if self._best_train is None else (self._best_train, "train_loss")


def _loss(choice: Choice) -> float:
    return np.inf if choice.train_loss is None else choice.train_loss


def _dev_rank(choice: Choice) -> tuple[float, float, bool]:
    if choice.dev is None:
        raise ValueError("a choice without a dev evaluation cannot be ranked on dev")
    return choice.dev.value, -choice.dev.cross_entropy, choice.kind == "mean"
