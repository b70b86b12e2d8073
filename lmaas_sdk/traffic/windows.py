"""Windows of a quota: how much of it is used, and how long it takes until more fits.

The one implementation for the client, the server and the mock. Time is passed in: seconds of any clock that both sides
of a window share, and for calendar days seconds since 1970.
"""

from __future__ import annotations

import math
from collections import deque
from datetime import date, datetime, time, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

__all__ = ["DAY_S", "MINUTE_S", "CalendarDay", "SlidingWindow", "Taken", "Window"]

MINUTE_S = 60.0
DAY_S = 86_400.0


class Taken:
    """What was taken from a window, so that it can be corrected while it counts.

    Attributes:
        at_s: When.
        amount: How much of it counts.
        is_over: It counts no longer.
    """

    __slots__ = ("amount", "at_s", "is_over")

    def __init__(self, at_s: float, amount: int) -> None:
        self.at_s, self.amount = at_s, amount
        self.is_over = False


class Window(Protocol):
    """So many units in a stretch of time."""

    limit: int

    def wait_s(self, amount: int, now_s: float) -> float:
        """Seconds until `amount` more fits; 0 now, infinity when it never does."""
        ...

    def take(self, amount: int, now_s: float) -> Taken:
        """Counts `amount` as of now, whether it fits or not."""
        ...

    def correct(self, taken: Taken, amount: int) -> None:
        """Counts another amount in its place; 0 gives it back for good. What no longer counts stays as it was."""
        ...

    def remaining(self, now_s: float) -> int:
        """Units that fit now."""
        ...

    def reset_s(self, now_s: float) -> float:
        """Seconds until all units are free again."""
        ...


class SlidingWindow:
    """At most `limit` units in any stretch of `span_s` seconds: what is taken at t counts in [t, t + span_s).

    Every amount is remembered for as long as it counts, so the limit is exact, which buckets and fixed windows are not.
    """

    def __init__(self, limit: int, span_s: float = MINUTE_S) -> None:
        self.limit = limit
        self._span_s = span_s
        self._taken: deque[Taken] = deque()
        self._given_back = 0  # of these, so many count no longer
        self._used = 0

    def wait_s(self, amount: int, now_s: float) -> float:
        if amount > self.limit:
            return math.inf
        self._expire(now_s)
        excess = self._used + amount - self.limit
        if excess <= 0:
            return 0.0
        for taken in self._taken:
            excess -= taken.amount
            if excess <= 0:
                return taken.at_s + self._span_s - now_s
        return math.inf

    def take(self, amount: int, now_s: float) -> Taken:
        self._expire(now_s)
        if self._taken and now_s < self._taken[-1].at_s:
            now_s = self._taken[-1].at_s  # a clock that is set back must not make what was taken before it end sooner
        taken = Taken(now_s, amount)
        self._taken.append(taken)
        self._used += amount
        return taken

    def correct(self, taken: Taken, amount: int) -> None:
        if taken.is_over:
            return
        self._used += amount - taken.amount
        taken.amount = amount
        if amount == 0:
            taken.is_over = True
            self._given_back += 1
            if 2 * self._given_back > len(self._taken):
                self._sweep()

    def remaining(self, now_s: float) -> int:
        self._expire(now_s)
        return max(0, self.limit - self._used)

    def reset_s(self, now_s: float) -> float:
        self._expire(now_s)
        last = next((taken for taken in reversed(self._taken) if taken.amount), None)
        return 0.0 if last is None else last.at_s + self._span_s - now_s

    def _expire(self, now_s: float) -> None:
        while self._taken and self._taken[0].at_s + self._span_s <= now_s:
            taken = self._taken.popleft()
            self._used -= taken.amount
            if taken.is_over:
                self._given_back -= 1
            taken.is_over = True

    def _sweep(self) -> None:
        """Forgets what was given back: each time half of all, so it costs as much as taking it did."""
        self._taken = deque(taken for taken in self._taken if not taken.is_over)
        self._given_back = 0


class CalendarDay:
    """At most `limit` units in a calendar day of a time zone, which has 23 or 25 hours where clocks change.

    A clock that is set back does not open a day again. Times are seconds since 1970.
    """

    def __init__(self, limit: int, zone: ZoneInfo) -> None:
        self.limit = limit
        self._zone = zone
        self._begins_s = self._ends_s = -math.inf
        self._used = 0

    def wait_s(self, amount: int, now_s: float) -> float:
        if amount > self.limit:
            return math.inf
        self._turn(now_s)
        return 0.0 if self._used + amount <= self.limit else self._ends_s - now_s

    def take(self, amount: int, now_s: float) -> Taken:
        self._turn(now_s)
        self._used += amount
        return Taken(max(now_s, self._begins_s), amount)

    def correct(self, taken: Taken, amount: int) -> None:
        if taken.at_s >= self._begins_s:
            self._used += amount - taken.amount
            taken.amount = amount

    def remaining(self, now_s: float) -> int:
        self._turn(now_s)
        return max(0, self.limit - self._used)

    def reset_s(self, now_s: float) -> float:
        self._turn(now_s)
        return self._ends_s - now_s

    def _turn(self, now_s: float) -> None:
        if now_s < self._ends_s:
            return
        today = datetime.fromtimestamp(now_s, self._zone).date()
        begins_s, self._ends_s = self._midnight_s(today), self._midnight_s(today + timedelta(days=1))
        if begins_s > self._begins_s:
            self._begins_s, self._used = begins_s, 0

    def _midnight_s(self, day: date) -> float:
        return datetime.combine(day, time.min, self._zone).timestamp()
