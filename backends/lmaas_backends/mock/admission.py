"""The mock's quotas, run exactly as its card advertises them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from lmaas_sdk.backend import Limits
from lmaas_sdk.errors import InvalidQuery, RateLimited

__all__ = ["Admission", "check_limits"]

_MINUTE_S = 60.0
_DAY_S = 86_400.0


def check_limits(limits: Limits) -> None:
    """Refuses quotas that admit nothing, and time zones that do not exist.

    Raises:
        ValueError: The message names the quota.
    """
    for name in ("requests_per_minute", "tokens_per_minute", "requests_per_day", "concurrency"):
        amount = getattr(limits, name)
        if amount is not None and amount < 1:
            raise ValueError(f"limits.{name} is at least 1, or None for no limit, not {amount!r}")
    if limits.day_time_zone is not None:
        _zone(limits.day_time_zone)


class Admission:
    """Decides on the spot whether a request is taken up; it never waits.

    A quota per minute looks back over exactly the last 60 s; one per day over the last 24 h, or from local midnight on
    where the limits name a time zone. What is refused uses up nothing.

    Args:
        limits: The quotas.
        opened: The wall time at which `clock_s` read `opened_s`; only a day with a time zone asks for it.
        opened_s: What the clock read then.
    """

    def __init__(self, limits: Limits, *, opened: datetime, opened_s: float) -> None:
        self._limits, self._opened, self._opened_s = limits, opened, opened_s
        self._minute = _Window(_MINUTE_S, limits.requests_per_minute)
        self._tokens = _Window(_MINUTE_S, limits.tokens_per_minute)
        calendar = None if limits.day_time_zone is None else _zone(limits.day_time_zone)
        self._day: _Window | _CalendarDay
        if calendar is None:
            self._day = _Window(_DAY_S, limits.requests_per_day)
        else:
            self._day = _CalendarDay(calendar, limits.requests_per_day, self._wall)

    def admit(self, *, tokens: int, in_flight: int, now_s: float) -> None:
        """Takes a request up, or refuses it.

        Raises:
            RateLimited: With the seconds until the same request would be admitted if no other came; too many requests
                at once have no such time.
            InvalidQuery: The request alone is above the tokens per minute, so that it can never be admitted.
        """
        limits = self._limits
        if limits.concurrency is not None and in_flight >= limits.concurrency:
            raise RateLimited(f"{in_flight} requests in flight and {limits.concurrency} allowed at once")
        if limits.tokens_per_minute is not None and tokens > limits.tokens_per_minute:
            raise InvalidQuery(
                f"the call takes {tokens} tokens and {limits.tokens_per_minute} a minute are allowed: send it in parts"
            )
        asked = ((self._minute, 1), (self._tokens, tokens), (self._day, 1))
        wait_s = max(window.wait_s(amount, now_s) for window, amount in asked)
        if wait_s > 0:
            raise RateLimited(f"a quota is used up: try again in {wait_s:.3f} s", retry_after_s=wait_s)
        for window, amount in asked:
            window.add(amount, now_s)

    def _wall(self, now_s: float) -> datetime:
        return self._opened + timedelta(seconds=now_s - self._opened_s)


class _Window:
    """An exact sliding window: at any instant, at most `limit` in the `span_s` seconds before it."""

    def __init__(self, span_s: float, limit: int | None) -> None:
        self._span_s, self._limit = span_s, limit
        self._taken: deque[tuple[float, int]] = deque()  # (when it leaves the window, amount)
        self._total = 0

    def wait_s(self, amount: int, now_s: float) -> float:
        """Seconds until `amount` more fits: 0 when it fits now."""
        if self._limit is None:
            return 0.0
        while self._taken and self._taken[0][0] <= now_s:
            self._total -= self._taken.popleft()[1]
        excess, free_s = self._total + amount - self._limit, now_s
        for leaves_s, freed in self._taken:
            if excess <= 0:
                break
            excess, free_s = excess - freed, leaves_s
        return free_s - now_s

    def add(self, amount: int, now_s: float) -> None:
        if self._limit is not None:
            self._taken.append((now_s + self._span_s, amount))
            self._total += amount


@dataclass(slots=True)
class _CalendarDay:
    """A quota that starts anew at local midnight."""

    zone: ZoneInfo
    limit: int | None
    wall: Callable[[float], datetime]
    used: int = 0
    midnight: datetime | None = None

    def wait_s(self, amount: int, now_s: float) -> float:
        now = self.wall(now_s)
        if self.midnight is None or now >= self.midnight:
            tomorrow = now.astimezone(self.zone).date() + timedelta(days=1)
            self.midnight, self.used = datetime.combine(tomorrow, time(), self.zone), 0
        if self.limit is None or self.used + amount <= self.limit:
            return 0.0
        return self.midnight.timestamp() - now.timestamp()

    def add(self, amount: int, _now_s: float) -> None:
        self.used += amount


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"limits.day_time_zone is a zone like 'Europe/Berlin', not {name!r}") from error
