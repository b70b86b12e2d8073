"""How fast something goes, and when it will be done: by the calendar, day quotas included."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from datetime import datetime, tzinfo

__all__ = ["Outlook", "calendar_time", "per_time", "span"]

_RECENT_S = 300.0  # the rate is that of the last minutes,
_RECENT = 10  # or of the last so many reports where these took longer
_DAY_S = 86_400.0
_SHORTEST_OF_A_DAY_S = 3600.0  # no quota but that of a day has anybody wait so long
_NAMED_DAYS = 6  # so many days ahead, the name of a weekday says which one it is


class Outlook:
    """Rate and end.

    The rate is a moving average over the time in which something could be done, waits for the quota of a day apart. A
    day in which such a quota was used up tells how far one gets in a day.

    Args:
        wall: Seconds since 1970.
    """

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self.began_s = wall()
        self.done, self.total = 0.0, math.inf
        self._seen = deque([(0.0, 0.0)])
        self._lost_s = 0.0  # in waits of the past for a day to end
        self._wait: tuple[float, float] | None = None  # the latest of these, from when to when
        self._a_day, self._before_today = 0.0, 0.0
        self._waits_until_s = -math.inf

    @property
    def now_s(self) -> float:
        """Seconds since 1970."""
        return self._wall()

    def goes_on(self, done: float) -> None:
        """So much had been done before."""
        self.done = self._before_today = done
        self._seen = deque([(self._active_s, done)])

    def saw(self, done: float) -> None:
        """So much is done."""
        self.done, self._waits_until_s = done, -math.inf
        self._seen.append((self._active_s, done))
        while len(self._seen) > _RECENT + 1 and self._seen[-1][0] - self._seen[1][0] >= _RECENT_S:
            self._seen.popleft()

    def waits(self, seconds: float, *, for_quota: bool) -> None:
        """A wait begins.

        Args:
            seconds: How long.
            for_quota: Whether a quota ends it; if so and it is long, it is that of a day.
        """
        now_s = self.now_s
        self._waits_until_s = max(self._waits_until_s, now_s + seconds)
        if not for_quota or seconds < _SHORTEST_OF_A_DAY_S:
            return
        if self._wait is not None and (now_s < self._wait[1] or self.done == self._before_today):
            self._wait = self._wait[0], max(self._wait[1], now_s + seconds)  # told by another call
            return
        if self._wait is not None:
            self._lost_s += self._wait[1] - self._wait[0]
        self._wait = now_s, now_s + seconds
        self._a_day, self._before_today = self.done - self._before_today, self.done

    @property
    def per_s(self) -> float | None:
        """What is done in a second, on average; None: nobody knows yet."""
        (since_s, before), (until_s, after) = self._seen[0], self._seen[-1]
        return (after - before) / (until_s - since_s) if until_s > since_s and after > before else None

    @property
    def ends_s(self) -> float | None:
        """When it will be done, in seconds since 1970; None: nobody knows, or it is."""
        left, per_s = self.total - self.done, self.per_s
        if per_s is None or not 0 < left < math.inf:
            return None
        now_s = max(self.now_s, self._waits_until_s)
        if self._wait is None or self._a_day <= 0:
            return now_s + left / per_s
        tomorrow_s = self._wait[1]
        if self.now_s >= tomorrow_s:
            today = max(0.0, self._a_day - (self.done - self._before_today))
            if left <= today:
                return now_s + left / per_s
            left, tomorrow_s = left - today, tomorrow_s + _DAY_S
        days = math.ceil(left / self._a_day) - 1
        return max(now_s, tomorrow_s) + days * _DAY_S + (left - days * self._a_day) / per_s

    @property
    def _active_s(self) -> float:
        """Seconds in which something could be done."""
        lost_s = self._lost_s
        if self._wait is not None:
            lost_s += min(self.now_s, self._wait[1]) - self._wait[0]
        return self.now_s - self.began_s - lost_s


def calendar_time(moment_s: float, now_s: float, zone: tzinfo | None = None) -> str:
    """A moment for people: "14:05", "Tue 14:05", "Tue 3 Nov 14:05", "3 Nov 2027".

    Args:
        moment_s, now_s: Seconds since 1970.
        zone: None: that of this machine.
    """
    moment, now = (datetime.fromtimestamp(at_s, zone) for at_s in (moment_s, now_s))
    days = (moment.date() - now.date()).days
    if days == 0:
        return f"{moment:%H:%M}"
    if 0 < days <= _NAMED_DAYS:
        return f"{moment:%a %H:%M}"
    if moment.year == now.year:
        return f"{moment:%a} {moment.day} {moment:%b %H:%M}"
    return f"{moment.day} {moment:%b %Y}"


def span(seconds: float) -> str:
    """A length of time for people: "12 s", "12 min", "5.2 h", "3.1 days"."""
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    if round(seconds / 60) < 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < _DAY_S else f"{seconds / _DAY_S:.1f} days"


def per_time(per_s: float) -> str:
    """A rate for people: "12.3/s", "4.5/min", "6/h"."""
    for unit, seconds in (("s", 1), ("min", 60)):
        if per_s * seconds >= 1:
            return f"{_three_digits(per_s * seconds)}/{unit}"
    return f"{_three_digits(per_s * 3600)}/h"


def _three_digits(number: float) -> str:
    return f"{number:,.0f}" if number >= 99.95 else f"{number:.3g}"
