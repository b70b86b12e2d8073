"""The paired bootstrap over seeds and test rows: how far a difference may be off because of both.

Each draw takes as many seeds and as many test rows as there are, with replacement, the same for the two that are
compared (Efron & Tibshirani 1993, chapter 13). From the same random numbers each time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.seeding import bit_generator
from lmaas_sdk.tasks.metrics import get_metric

__all__ = ["DRAWS", "Difference", "Paired", "difference_of", "metric_of_draws"]

DRAWS = 4_999  # so that the ends of the interval are values and need no interpolation: the 125th from either side
_BEYOND = 125
_Predictions = Sequence[NDArray[np.int64]]


@dataclass(frozen=True, slots=True, eq=False)
class Paired:
    """Two configurations on one task.

    Args:
        metric: Name of the task's metric.
        labels: (n_rows,) class indices.
        first, second: The predictions of each seed, in the same order of seeds; one array: no seed matters to it.
    """

    metric: str
    labels: NDArray[np.int64]
    first: _Predictions
    second: _Predictions

    @property
    def n_seeds(self) -> int:
        return max(len(self.first), len(self.second))


@dataclass(frozen=True, slots=True)
class Difference:
    """The first minus the second, on the scale of the metric.

    Args:
        value: As measured.
        low, high: The middle 95 % of the draws.
    """

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high}


def difference_of(tasks: Sequence[Paired]) -> Difference:
    """The difference on average over tasks; each draw takes other seeds and rows of each.

    Args:
        tasks: At least one.
    """
    value = float(np.mean([_of(one) for one in tasks]))
    draws = np.mean([_draws_of(one, f"bench/{number}") for number, one in enumerate(tasks)], axis=0)
    ordered = np.sort(draws)
    return Difference(value, float(ordered[_BEYOND - 1]), float(ordered[-_BEYOND]))


def _of(one: Paired) -> float:
    metric = get_metric(one.metric)
    first, second = (
        np.mean([metric(one.labels, predictions) for predictions in side]) for side in (one.first, one.second)
    )
    return float(first - second)


def _draws_of(one: Paired, stream: str) -> NDArray[np.float64]:
    """The difference in each draw: (DRAWS,)."""
    n_seeds, n_rows = one.n_seeds, len(one.labels)
    words = bit_generator(0, stream)
    seeds = _below(words, n_seeds, (DRAWS, n_seeds))
    counts = _counts(words, n_rows)
    first, second = (
        _picked(metric_of_draws(one.metric, one.labels, side, counts), seeds) for side in (one.first, one.second)
    )
    return first - second


def _picked(values: NDArray[np.float64], seeds: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mean over the seeds of each draw of (DRAWS, n) values; n 1: the same for every seed."""
    if values.shape[1] == 1:
        return values[:, 0]
    chosen: NDArray[np.float64] = np.take_along_axis(values, seeds, axis=1).mean(axis=1)
    return chosen


def metric_of_draws(
    metric: str, labels: NDArray[np.int64], sides: _Predictions, counts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """A metric where each row stands as often as a draw took it.

    Args:
        metric: Its name.
        labels: (n_rows,).
        sides: n arrays of (n_rows,) predictions.
        counts: (n_draws, n_rows).

    Returns:
        (n_draws, n).
    """
    predictions = np.stack(sides, axis=1)  # (n_rows, n)
    if metric == "accuracy":
        share: NDArray[np.float64] = counts @ (predictions == labels[:, None]).astype(float) / len(labels)
        return share
    if metric == "f1":
        both = counts @ ((predictions == 1) & (labels == 1)[:, None]).astype(float)
        either = counts @ (predictions == 1).astype(float) + (counts @ (labels == 1).astype(float))[:, None]
        f1: NDArray[np.float64] = 2 * both / np.maximum(either, 1)  # 0 where class 1 is neither present nor predicted
        return f1
    return _one_by_one(get_metric(metric), labels, predictions, counts)


def _one_by_one(
    metric: Callable[[NDArray[np.int64], NDArray[np.int64]], float],
    labels: NDArray[np.int64],
    predictions: NDArray[np.int64],
    counts: NDArray[np.float64],
) -> NDArray[np.float64]:
    found = np.empty((len(counts), predictions.shape[1]))
    for draw, row in enumerate(counts.astype(np.int64)):
        for side in range(predictions.shape[1]):
            found[draw, side] = metric(np.repeat(labels, row), np.repeat(predictions[:, side], row))
    return found


def _counts(words: np.random.Philox, n_rows: int) -> NDArray[np.float64]:
    """How often each draw took each row: (DRAWS, n_rows)."""
    rows = _below(words, n_rows, (DRAWS, n_rows))
    shifted = rows + np.arange(DRAWS)[:, None] * n_rows
    return np.bincount(shifted.ravel(), minlength=DRAWS * n_rows).reshape(DRAWS, n_rows).astype(np.float64)


def _below(words: np.random.Philox, n: int, shape: tuple[int, int]) -> NDArray[np.int64]:
    """Whole numbers below n: the upper half of a word as a fraction of n, even to n parts in 2^32."""
    raw = words.random_raw(shape[0] * shape[1]) >> np.uint64(32)
    return ((raw * np.uint64(n)) >> np.uint64(32)).view(np.int64).reshape(shape)
