"""Which of all the candidates is returned: by the dev set where there is one, else by train loss.

Where the search sees losses in fewer bits than float32, these rank the candidates of its end badly: they differ by less
than what was rounded away. So there the lowest few are scored again, and their losses in float32 decide.

Where a backend answers the same candidate differently each time, the best seen is partly the luckiest seen: of many
that are about as good, the one with the most favourable noise. The mean of the search averages over what was told, and
was not picked for a value of its own. So there means are preferred; without a dev set that of the generation whose
losses are lowest on average, where noise counts for less. (The last mean is no better than the best seen once the noise
is larger than what is left to gain, for then the mean only wanders.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.tuning.noise import Noise
from lmaas_sdk.tuning.predictor import Evaluation

__all__ = ["MOST_RESCORED", "Choice", "ChosenBy", "DevRule", "Selection", "dev_rank"]

Kind = Literal["best", "mean"]
ChosenBy = Literal["dev_metric", "dev_cross_entropy", "train_loss", "search_mean"]
"""`dev_metric`, `dev_cross_entropy`: the best on the dev set by that; without one `train_loss`: the lowest, or where
losses are noisy `search_mean`: the mean of the generation whose losses were lowest on average."""
DevRule = Literal["metric", "cross_entropy"]
MOST_RESCORED = 8


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """A candidate that may be returned.

    Args:
        generation: Where it was found.
        kind: `best`: the generation's best by train loss; `mean`: the centre of the search after it.
        z: (d,) float32.
        train_loss: None for a mean, which is not scored on the training set.
        dev: Its evaluation on the dev set; None without one.
        precise_loss: Its train loss in float32, where `train_loss` is in fewer bits and it was scored again.
    """

    generation: int
    kind: Kind
    z: NDArray[np.float32]
    train_loss: float | None
    dev: Evaluation | None = None
    precise_loss: float | None = None

    def to_row(self) -> dict[str, object]:
        """What there is to say of one among many."""
        row: dict[str, object] = {"generation": self.generation, "kind": self.kind, "train_loss": self.train_loss}
        if self.dev is not None:
            row |= {"dev_metric": self.dev.value, "dev_cross_entropy": self.dev.cross_entropy}
        if self.precise_loss is not None:
            row["precise_loss"] = self.precise_loss
        return row

    def to_dict(self) -> dict[str, object]:
        """Its row, and between what and what its dev metric lies."""
        if self.dev is None:
            return self.to_row()
        return self.to_row() | {"dev_interval": None if self.dev.interval is None else list(self.dev.interval)}


class Selection:
    """Keeps the best seen. On dev: the best by its rule, then the mean; else the lowest train
    loss, of those scored again where there are any; ties go to the earlier generation.

    Where `noise` is there, means alone are compared on dev; without a look at dev at any, the one after the generation
    with the lowest average loss is chosen. Where no mean was offered it is as if there were no noise.

    A run offers what it has and reads `chosen` whenever it likes:

        selection.saw_train(best)                             # every generation
        selection.saw_mean(mean, average_loss=values.mean())  # every generation, once it was told
        selection.saw_dev(judged)                             # whatever was scored on dev, bests and means
        selection.noise.saw_pair(first, second)               # a candidate scored twice, if the card allows noise
        choice, chosen_by = selection.chosen                  # "search_mean": scoring the lowest again decides nothing

    Args:
        rule: What is compared on dev: the `metric`, and cross entropy where that is equal; or `cross_entropy`, which a
            small dev set tells more reliably.

    Attributes:
        noise: Of the train losses; none until a pair differs.
    """

    def __init__(self, rule: DevRule = "metric") -> None:
        self._rule: DevRule = rule
        self.noise = Noise()
        self._lowest: list[Choice] = []
        self._best_again: Choice | None = None
        self._best_dev: dict[Kind, Choice] = {}
        self._mean: tuple[float, Choice] | None = None

    @property
    def lowest(self) -> tuple[Choice, ...]:
        """The lowest few by train loss, the lowest first, in the order of their generations where they are equal."""
        return tuple(self._lowest)

    def saw_train(self, choice: Choice) -> None:
        """Offers a generation's best; generations come in order."""
        self._lowest = sorted([*self._lowest, choice], key=_loss)[:MOST_RESCORED]

    def saw_again(self, losses: Sequence[float]) -> None:
        """Takes the losses of `lowest` in float32, in that order."""
        again = [replace(choice, precise_loss=loss) for choice, loss in zip(self._lowest, losses, strict=True)]
        self._best_again = min(again, key=lambda choice: (choice.precise_loss, choice.generation))

    def saw_mean(self, choice: Choice, *, average_loss: float) -> None:
        """Offers the centre of the search after a generation, and the average of the losses in it."""
        if self._mean is None or average_loss < self._mean[0]:
            self._mean = average_loss, choice

    def saw_dev(self, choice: Choice) -> None:
        """Offers a candidate that was scored on dev."""
        rank, best = self._rank(choice), self._best_dev.get(choice.kind)
        if best is None or rank > self._rank(best):
            self._best_dev[choice.kind] = choice

    @property
    def chosen(self) -> tuple[Choice, ChosenBy] | None:
        """The best so far and what it was chosen by; None before the first generation."""
        on_dev = self._chosen_on_dev
        if on_dev is not None:
            return on_dev, "dev_metric" if self._rule == "metric" else "dev_cross_entropy"
        if self.noise.is_there and self._mean is not None:
            return self._mean[1], "search_mean"
        best = self._best_again or next(iter(self._lowest), None)
        return None if best is None else (best, "train_loss")

    @property
    def _chosen_on_dev(self) -> Choice | None:
        mean = self._best_dev.get("mean")
        if self.noise.is_there and mean is not None:
            return mean
        return max(self._best_dev.values(), key=self._rank, default=None)

    def _rank(self, choice: Choice) -> tuple[float, float, bool]:
        if choice.dev is None:
            raise ValueError("a choice without a dev evaluation cannot be ranked on dev")
        return *dev_rank(choice.dev, self._rule), choice.kind == "mean"


def _loss(choice: Choice) -> float:
    return np.inf if choice.train_loss is None else choice.train_loss


def dev_rank(evaluation: Evaluation, rule: DevRule) -> tuple[float, float]:
    """What an evaluation on dev is compared by; higher is better."""
    if rule == "cross_entropy":
        return -evaluation.cross_entropy, evaluation.value
    return evaluation.value, -evaluation.cross_entropy
