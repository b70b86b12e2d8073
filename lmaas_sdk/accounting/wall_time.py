"""Wall time that counts only while somebody is at work."""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["WallTime"]


class WallTime:
    """Seconds between `start` and `stop`; what overlaps counts once.

    Args:
        limit_s: Most seconds; None is no limit.
        clock: Seconds that only move forward.

    Raises:
        TypeError: The limit is not a number.
        ValueError: The limit is negative or not finite.
    """

    __slots__ = ("_clock", "_runs", "_since_s", "_used_s", "limit_s")

    def __init__(self, limit_s: float | None, clock: Callable[[], float]) -> None:
        _check(limit_s)
        self.limit_s = limit_s
        self._clock = clock
        self._runs, self._since_s, self._used_s = 0, 0.0, 0.0

    @property
    def is_on(self) -> bool:
        """Whether time counts now."""
        return self._runs > 0

    @property
    def used_s(self) -> float:
        """Seconds counted so far."""
        return self._used_s + (self._clock() - self._since_s if self.is_on else 0.0)

    @property
    def left_s(self) -> float | None:
        """Seconds that may still pass; None: no limit, or time does not count now."""
        return self.limit_s - self.used_s if self.limit_s is not None and self.is_on else None

    def start(self) -> None:
        if not self.is_on:
            self._since_s = self._clock()
        self._runs += 1

    def stop(self) -> None:
        used_s = self.used_s
        self._runs -= 1
        if not self.is_on:
            self._used_s = used_s


def _check(limit_s: float | None) -> None:
    if limit_s is None:
        return
    if isinstance(limit_s, bool) or not isinstance(limit_s, (int, float)):
        raise TypeError(f"wall_s is a number of seconds or None, not {limit_s!r}")
    if not (math.isfinite(limit_s) and limit_s >= 0):
        raise ValueError(f"wall_s is finite and at least 0 seconds, not {limit_s!r}: None is no limit")
