"""From what was drawn to a range that holds the next draw with a chance of 90 %."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lmaas_sdk.planning.ranges import Range

__all__ = ["range_of"]

_MANY = 100  # draws from which quantiles tell more than a mean and a deviation
_TAIL = 0.05
_NORMAL_95 = 1.6448536269514722


def range_of(drawn: Sequence[float], *, is_whole: bool = False) -> Range:
    """The prediction interval of the next draw: of many by quantiles, of few by Student's t.

    Args:
        drawn: What it may be, one at least.
        is_whole: Whether it is a whole number.
    """
    if min(drawn) == max(drawn):
        return Range.exactly(drawn[0])
    values = np.asarray(drawn, dtype=np.float64)
    mean = float(values.mean())
    if len(values) >= _MANY:
        low, high = (float(end) for end in np.quantile(values, (_TAIL, 1 - _TAIL), method="weibull"))
    else:
        away = _t_95(len(values) - 1) * float(values.std(ddof=1)) * math.sqrt(1 + 1 / len(values))
        low, high = max(mean - away, 0.0), mean + away
    if is_whole:
        low, high = math.floor(low), math.ceil(high)
    return Range(min(low, mean), mean, max(high, mean))


def _t_95(freedom: int) -> float:
    """The 95 % quantile of Student's t (Abramowitz & Stegun 1964, 26.7.5)."""
    x = _NORMAL_95
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    more: float = sum(term / freedom**power for power, term in enumerate(terms, start=1))
    return x + more
