"""The mock's quotas, run exactly as its card advertises them."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from lmaas_sdk.backend import Limits
from lmaas_sdk.errors import InvalidQuery, RateLimited
from lmaas_sdk.traffic.windows import DAY_S, MINUTE_S, CalendarDay, SlidingWindow, Window

__all__ = ["Admission", "check_limits"]


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
        self._limits = limits
        self._offset_s = opened.timestamp() - opened_s
        self._windows: list[tuple[Window, bool]] = []  # and whether tokens are counted, not requests
        if limits.requests_per_minute is not None:
            self._windows.append((SlidingWindow(limits.requests_per_minute, MINUTE_S), False))
        if limits.tokens_per_minute is not None:
            self._windows.append((SlidingWindow(limits.tokens_per_minute, MINUTE_S), True))
        if limits.requests_per_day is not None:
            self._windows.append((_day(limits.requests_per_day, limits.day_time_zone), False))

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
        asked = [
            (window, tokens if in_tokens else 1, self._time_s(window, now_s)) for window, in_tokens in self._windows
        ]
        wait_s = max((window.wait_s(amount, at_s) for window, amount, at_s in asked), default=0.0)
        if wait_s > 0:
            raise RateLimited(f"a quota is used up: try again in {wait_s:.3f} s", retry_after_s=wait_s)
        for window, amount, at_s in asked:
            window.take(amount, at_s)

    def _time_s(self, window: Window, now_s: float) -> float:
        """Seconds since 1970 for a calendar; for the rest the loop's clock, whose small numbers are exact."""
        return now_s + self._offset_s if isinstance(window, CalendarDay) else now_s


def _day(limit: int, zone: str | None) -> Window:
    return SlidingWindow(limit, DAY_S) if zone is None else CalendarDay(limit, _zone(zone))


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"limits.day_time_zone is a zone like 'Europe/Berlin', not {name!r}") from error
