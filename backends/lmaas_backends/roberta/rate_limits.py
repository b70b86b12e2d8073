"""Quotas of one API key: requests and tokens in any minute, requests in a day.

A request is admitted by all of them or refused by one, and a refused request counts nowhere.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from datetime import time as time_of_day
from typing import Protocol
from zoneinfo import ZoneInfo

from lmaas_backends.roberta.wire_errors import RefusalError
from lmaas_sdk.backend import Limits

__all__ = ["Clocks", "DayWindow", "Quota", "SlidingWindow", "Window"]

_MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class Clocks:
    """The two clocks: `monotonic` for durations, `wall` (seconds since 1970) for calendar days."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


class Window(Protocol):
    """So many units in a stretch of time."""

    @property
    def limit(self) -> int:
        """Units that fit into an empty window."""
        ...

    def wait_s(self, amount: int) -> float:
        """Seconds until `amount` more fits; 0 now, infinity never."""

    def take(self, amount: int) -> None:
        """Counts `amount` as of now."""

    def remaining(self) -> int:
        """Units that fit now."""

    def reset_s(self) -> float:
        """Seconds until all units are free again."""


class SlidingWindow:
    """At most `limit` units in any stretch of 60 s: what is taken at t counts in [t, t + 60).

    Every admission is remembered for a minute, so the limit is exact, which buckets and fixed minutes are not.
    """

    def __init__(self, limit: int, now: Callable[[], float]) -> None:
        self.limit = limit
        self._now = now
        self._taken: deque[tuple[float, int]] = deque()
        self._used = 0

    def wait_s(self, amount: int) -> float:
        """Seconds until `amount` more fits; 0 now, infinity when it is more than the limit."""
        self._expire()
        excess = self._used + amount - self.limit
        if excess <= 0:
            return 0.0
        for taken_at, taken in self._taken:
            excess -= taken
            if excess <= 0:
                return taken_at + _MINUTE_S - self._now()
        return math.inf

    def take(self, amount: int) -> None:
        """Counts `amount` as of now, whether it fits or not."""
        self._taken.append((self._now(), amount))
        self._used += amount

    def remaining(self) -> int:
        """Units that fit now."""
        self._expire()
        return max(0, self.limit - self._used)

    def reset_s(self) -> float:
        """Seconds until the unit taken last is free again; 0 when all are."""
        self._expire()
        return self._taken[-1][0] + _MINUTE_S - self._now() if self._taken else 0.0

    def _expire(self) -> None:
        now = self._now()
        while self._taken and self._taken[0][0] + _MINUTE_S <= now:
            self._used -= self._taken.popleft()[1]


class DayWindow:
    """At most `limit` units in a calendar day of a time zone.

    A wall clock that is set back does not open a day again.
    """

    def __init__(self, limit: int, zone: ZoneInfo, wall: Callable[[], float]) -> None:
        self.limit = limit
        self._zone, self._wall = zone, wall
        self._day = self._today()
        self._used = 0

    def wait_s(self, amount: int) -> float:
        """Seconds until `amount` more fits: 0, those to midnight, or infinity when it is more than the limit."""
        if amount > self.limit:
            return math.inf
        return 0.0 if amount <= self.remaining() else self.reset_s()

    def take(self, amount: int) -> None:
        """Counts `amount` on the present day, whether it fits or not."""
        self._turn()
        self._used += amount

    def remaining(self) -> int:
        """Units that fit today."""
        self._turn()
        return max(0, self.limit - self._used)

    def reset_s(self) -> float:
        """Seconds to the zone's next midnight."""
        self._turn()
        midnight = datetime.combine(self._day + timedelta(days=1), time_of_day.min, self._zone)
        return midnight.timestamp() - self._wall()

    def _today(self) -> datetime:
        now = datetime.fromtimestamp(self._wall(), self._zone)
        return now.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)

    def _turn(self) -> None:
        if (today := self._today()) > self._day:
            self._day, self._used = today, 0


class Quota:
    """The windows of one API key."""

    def __init__(self, limits: Limits, clocks: Clocks) -> None:
        self._requests: dict[str, Window] = {}
        self._tokens: dict[str, Window] = {}
        if limits.requests_per_minute is not None:
            self._requests["requests"] = SlidingWindow(limits.requests_per_minute, clocks.monotonic)
        if limits.requests_per_day is not None:
            zone = ZoneInfo(limits.day_time_zone or "UTC")
            self._requests["requests-day"] = DayWindow(limits.requests_per_day, zone, clocks.wall)
        if limits.tokens_per_minute is not None:
            self._tokens["tokens"] = SlidingWindow(limits.tokens_per_minute, clocks.monotonic)

    def check(self, tokens: int = 0) -> None:
        """Refuses what would not be admitted now; counts nothing.

        Raises:
            RefusalError: rate_limited, with the seconds to wait; invalid_query when no wait would help.
        """
        amounts = [(name, window, 1) for name, window in self._requests.items()]
        amounts += [(name, window, tokens) for name, window in self._tokens.items()]
        name, window, amount = max(amounts, key=lambda row: row[1].wait_s(row[2]), default=("", None, 0))
        wait_s = 0.0 if window is None else window.wait_s(amount)
        if window is None or wait_s <= 0:
            return
        if math.isinf(wait_s):
            raise RefusalError("invalid_query", f"one call takes {amount} {name} and the limit is {window.limit}")
        raise RefusalError(
            "rate_limited",
            f"the limit of {window.limit} {_spoken(name)} is used up: {window.remaining()} left, {amount} asked for",
            retry_after_s=wait_s,
            headers=self.headers(),
        )

    def admit(self, tokens: int) -> None:
        """Counts one request of so many tokens, or refuses it.

        Raises:
            RefusalError: As `check`; nothing was counted.
        """
        self.check(tokens)
        for window in self._requests.values():
            window.take(1)
        for window in self._tokens.values():
            window.take(tokens)

    def headers(self) -> dict[str, str]:
        """The x-ratelimit-* headers: limit, remaining and reset (whole seconds, rounded up) of each window."""
        told = {}
        for name, window in (self._requests | self._tokens).items():
            told[f"x-ratelimit-limit-{name}"] = str(window.limit)
            told[f"x-ratelimit-remaining-{name}"] = str(window.remaining())
            told[f"x-ratelimit-reset-{name}"] = str(math.ceil(window.reset_s()))
        return told


def _spoken(name: str) -> str:
    return "requests a day" if name == "requests-day" else f"{name} a minute"
