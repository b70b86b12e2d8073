"""How far a metric may be off because it was taken on so many texts and no more: 95 % intervals.

Other texts of the same kind would have given another value. Of intervals made this way 95 in 100 hold the value that
arbitrarily many texts would give.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.seeding import bit_generator
from lmaas_sdk.tasks.metrics import Metric, get_metric, is_finite_number

__all__ = ["Confusion", "Interval", "bootstrap", "confusion_of", "interval_of", "wilson"]

Interval = tuple[float, float]
"""(lower end, upper end)."""

Confusion = tuple[tuple[int, int, int], ...]
"""(label, prediction, number of texts) of every pair that occurs, in order."""

_Z = 1.959963984540054  # the 97.5 % point of the normal distribution
_RESAMPLES = 999  # so that the ends are values and need no interpolation: the 25th from either side
_PER_MILLE_BEYOND = 25


def confusion_of(labels: NDArray[np.int64], predictions: NDArray[np.int64]) -> Confusion:
    """How often each label was predicted as what.

    Args:
        labels, predictions: (n,) class indices; n is 1 or more.
    """
    width = int(predictions.max()) + 1
    counts = np.bincount(labels * width + predictions)
    return tuple((cell // width, cell % width, int(counts[cell])) for cell in np.flatnonzero(counts).tolist())


def interval_of(metric: str, confusion: Confusion) -> Interval | None:
    """The interval of a metric: Wilson's for accuracy and F1, a bootstrap for one of the user's own.

    F1 is 2 J / (1 + J), where J is the share of true positives among the texts of class 1 or predicted so. J is a
    proportion, so Wilson's interval holds for it, and its ends for F1 once they are mapped (Lam, Gopal, Qian 2024,
    arXiv:2309.14621, "Wilson indirect"). Like the interval of accuracy it has a width even where all is right or wrong.

    Returns:
        None where nothing is known of the texts, or `bootstrap` finds none.

    Raises:
        TaskError: There is no such metric.
    """
    if not confusion:
        return None
    if metric == "accuracy":
        right = sum(count for label, prediction, count in confusion if label == prediction)
        return wilson(right, sum(count for *_, count in confusion))
    if metric == "f1":
        true_positives = sum(count for *pair, count in confusion if pair == [1, 1])
        lower, upper = wilson(true_positives, sum(count for *pair, count in confusion if 1 in pair))
        return 2 * lower / (1 + lower), 2 * upper / (1 + upper)
    return bootstrap(get_metric(metric), confusion)


def wilson(right: int, n: int) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927, J. Am. Stat. Assoc. 22, 209-212).

    (right + z^2 / 2 -+ z sqrt(right (n - right) / n + z^2 / 4)) / (n + z^2); of nothing at all: (0, 1).
    """
    if n == 0:
        return 0.0, 1.0
    centre = right + _Z**2 / 2
    half = _Z * math.sqrt(right * (n - right) / n + _Z**2 / 4)
    lower = 0.0 if right == 0 else (centre - half) / (n + _Z**2)  # exactly, where rounding would leave a little
    upper = 1.0 if right == n else (centre + half) / (n + _Z**2)
    return lower, upper


def bootstrap(metric: Metric, confusion: Confusion) -> Interval | None:
    """The percentile bootstrap (Efron & Tibshirani 1993, chapter 13), from the same random numbers each time.

    The metric sees as many texts as there are, drawn with replacement, in an order that means nothing. It has no width
    where all draws agree, as when every prediction is right.

    Returns:
        None where the metric has no finite value on so many draws, 2.5 % or more, that an end may lie among those. A
        draw may lack a class, say; fewer such draws are left out.
    """
    pairs = np.array(confusion, dtype=np.int64)
    labels, predictions = (np.repeat(column, pairs[:, 2]) for column in (pairs[:, 0], pairs[:, 1]))
    words, n, half_a_word = bit_generator(0, "bootstrap/1"), np.uint64(len(labels)), np.uint64(32)
    found = []
    for _ in range(_RESAMPLES):
        # the upper half of a word as a fraction of n: even to n parts in 2^32
        rows = (((words.random_raw(len(labels)) >> half_a_word) * n) >> half_a_word).view(np.int64)
        value = _value(metric, labels.take(rows), predictions.take(rows))
        if value is not None:
            found.append(value)
    if _RESAMPLES - len(found) >= _place(_RESAMPLES):
        return None
    found.sort()
    return found[_place(len(found)) - 1], found[-_place(len(found))]


def _place(count: int) -> int:
    """Which of so many values, counted from either side, is the end."""
    return (count + 1) * _PER_MILLE_BEYOND // 1000


def _value(metric: Metric, labels: NDArray[np.int64], predictions: NDArray[np.int64]) -> float | None:
    try:
        value = metric(labels, predictions)
    except Exception:  # a metric may be anyone's code; what was paid for is not lost because it fails on a draw
        return None
    return float(value) if is_finite_number(value) else None
