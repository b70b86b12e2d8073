"""The paired bootstrap over seeds and test rows: how far a difference may be off because of both.

Each draw takes as many seeds and as many test rows as there are, with replacement, the same for the two that are
compared (Efron & Tibshirani 1993, chapter 13). From the same random numbers each time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.seeding import bit_generator
from lmaas_sdk.tasks.metrics import get_metric

__all__ = ["DRAWS", "Difference", "Drawn", "Paired", "difference_of", "draws_of", "metric_of_draws"]

DRAWS = 4_999  # so that the ends of the interval are values and need no interpolation: the 125th from either side
_BEYOND = 125
_Predictions = Sequence[NDArray[np.int64]]


@dataclass(frozen=True, slots=True, eq=False)
class Paired:
    """Two configurations on one task.

    Args:
        task: Which: it names the random numbers.
        metric: Name of the task's metric.
        labels: (n_rows,) class indices.
        first, second: The predictions of each seed, in the same order of seeds; one array: no seed matters to it.
    """

    task: str
    metric: str
    labels: NDArray[np.int64]
    first: _Predictions
    second: _Predictions

    @property
    def sides(self) -> tuple[_Predictions, _Predictions]:
        return self.first, self.second

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


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """A difference on one task, and the same in each draw of seeds and rows: (DRAWS,)."""

    value: float
    draws: NDArray[np.float64]


def draws_of(one: Paired) -> Drawn:
    """The difference of a pair as measured, and as drawn; those of other tasks are drawn apart from it."""
    metric = get_metric(one.metric)
    means = [float(np.mean([metric(one.labels, found) for found in side])) for side in one.sides]
    seeds = _seeds(one.task, one.n_seeds)
    counts = _counts(one.task, len(one.labels)).astype(np.float32)
    first, second = (_picked(metric_of_draws(one.metric, one.labels, side, counts), seeds) for side in one.sides)
    return Drawn(means[0] - means[1], first - second)


def difference_of(tasks: Sequence[Drawn]) -> Difference:
    """The difference on average over tasks, of which there is at least one."""
    ordered = np.sort(np.mean([one.draws for one in tasks], axis=0))
    value = float(np.mean([one.value for one in tasks]))
    return Difference(value, float(ordered[_BEYOND - 1]), float(ordered[-_BEYOND]))


def _picked(values: NDArray[np.float64], seeds: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mean over the seeds of each draw of (DRAWS, n) values; n 1: the same for every seed."""
    if values.shape[1] == 1:
        return values[:, 0]
    chosen: NDArray[np.float64] = np.take_along_axis(values, seeds, axis=1).mean(axis=1)
    return chosen


def metric_of_draws(
    metric: str, labels: NDArray[np.int64], sides: _Predictions, counts: NDArray[np.float32]
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
        return _sums(counts, predictions == labels[:, None]) / len(labels)
    if metric == "f1":
        both = _sums(counts, (predictions == 1) & (labels == 1)[:, None])
        either = _sums(counts, predictions == 1) + _sums(counts, (labels == 1)[:, None])
        f1: NDArray[np.float64] = 2 * both / np.maximum(either, 1)  # 0 where class 1 is neither present nor predicted
        return f1
    return _one_by_one(get_metric(metric), labels, predictions, counts)


def _sums(counts: NDArray[np.float32], is_so: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How many rows of each draw are so: whole numbers, which float32 holds exactly below 2^24."""
    found: NDArray[np.float64] = (counts @ is_so.astype(np.float32)).astype(np.float64)
    return found


def _one_by_one(
    metric: Callable[[NDArray[np.int64], NDArray[np.int64]], float],
    labels: NDArray[np.int64],
    predictions: NDArray[np.int64],
    counts: NDArray[np.float32],
) -> NDArray[np.float64]:
    found = np.empty((len(counts), predictions.shape[1]))
    for draw, row in enumerate(counts.astype(np.int64)):
        for side in range(predictions.shape[1]):
            found[draw, side] = metric(np.repeat(labels, row), np.repeat(predictions[:, side], row))
    return found


def _seeds(task: str, n_seeds: int) -> NDArray[np.int64]:
    return _below(bit_generator(0, f"bench/seeds/{task}"), n_seeds, (DRAWS, n_seeds))


@functools.lru_cache(maxsize=16)  # every comparison on a task draws the same rows; 5 MB for 1,000 of them
def _counts(task: str, n_rows: int) -> NDArray[np.uint16]:
    """How often each draw took each row: (DRAWS, n_rows)."""
    rows = _below(bit_generator(0, f"bench/rows/{task}"), n_rows, (DRAWS, n_rows))
    counts = np.empty((DRAWS, n_rows), dtype=np.uint16)
    for draw, chosen in enumerate(rows):
        counts[draw] = np.bincount(chosen, minlength=n_rows)
    return counts


def _below(words: np.random.Philox, n: int, shape: tuple[int, int]) -> NDArray[np.int64]:
    """Whole numbers below n: the upper half of a word as a fraction of n, even to n parts in 2^32."""
    raw = words.random_raw(shape[0] * shape[1]) >> np.uint64(32)
    return ((raw * np.uint64(n)) >> np.uint64(32)).view(np.int64).reshape(shape)
