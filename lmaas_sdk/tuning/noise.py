"""How far the values of one and the same candidate lie apart, where a backend does not repeat itself."""

from __future__ import annotations

import math

__all__ = ["Noise"]


class Noise:
    """Estimates the noise of one evaluation from pairs of values of the same candidate.

    The difference d of two independent values has mean 0 and twice the variance of one. So the variance of one is the
    mean of d^2 / 2, with a degree of freedom for every pair (Dahlberg 1940, the error of a double determination).

    It holds for candidates that were *not* picked by one of the two values: the best of a generation owes its place to
    a first value that was low by luck, so its second is higher on average, and d too large. And both values come from
    calls that were really made: an answer from a cache is the first value once more.
    """

    def __init__(self) -> None:
        self._differences: list[float] = []

    def saw_pair(self, first: float, second: float) -> None:
        """Takes two values of one candidate, picked by neither."""
        self._differences.append(first - second)

    @property
    def pairs(self) -> int:
        """How many pairs were seen: the degrees of freedom of `deviation`."""
        return len(self._differences)

    @property
    def is_there(self) -> bool:
        """Whether any pair differs; a backend that repeats itself without claiming so has no noise."""
        return any(self._differences)

    @property
    def deviation(self) -> float | None:
        """Standard deviation of one evaluation; None before the first pair."""
        return math.hypot(*self._differences) / math.sqrt(2 * self.pairs) if self.pairs else None
