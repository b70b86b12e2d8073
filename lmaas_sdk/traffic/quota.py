"""A provider's quota as the client counts it: requests and tokens in any minute, requests in a day."""

from __future__ import annotations

from typing import Protocol
from zoneinfo import ZoneInfo

from lmaas_sdk.backend import Limits
from lmaas_sdk.errors import QuotaExceeded
from lmaas_sdk.traffic.windows import DAY_S, MINUTE_S, CalendarDay, SlidingWindow, Taken, Window

__all__ = ["MARGIN_S", "Quota", "QuotaBook", "check_ever_fits"]

# The provider counts requests when they arrive, a little later than they are sent, and the first of a window may be
# slower than the one after it. Windows that are this much longer here keep that from becoming a 429.
MARGIN_S = 0.25


class QuotaBook(Protocol):
    """Who may send now: one for every scope (API key and endpoint), in memory or in a ledger file."""

    async def take(self, ticket: str, tokens: int, limits: Limits) -> float:
        """Takes a request of so many tokens and a place among those under way, or nothing.

        Args:
            ticket: Names the request; the earliest that asks goes first.
            tokens: The most it may take.
            limits: What holds.

        Returns:
            0: it is taken. Else seconds until it is worth asking again; infinity: when somebody here gives back.
        """
        ...

    def settle(self, ticket: str, tokens: int) -> None:
        """It was answered: it took so many tokens and is no longer under way."""
        ...

    def refund(self, ticket: str) -> None:
        """It was refused or not sent, or asks no longer: it counts nothing."""
        ...


class Quota:
    """The windows of one scope. What is taken counts in all of them; whoever asks names the limits that hold for it."""

    def __init__(self) -> None:
        self._windows: dict[_Name, Window] = {}
        self._taken: dict[str, list[tuple[_Name, Taken]]] = {}
        self._asked_by: Limits | None = None
        self._asked: list[tuple[_Name, Window]] = []

    def knows(self, limits: Limits) -> bool:
        """Whether all that was taken so far counts in the windows of these limits."""
        return all(name in self._windows for name in _names(limits))

    def learn(self, limits: Limits) -> None:
        """Counts, from now on, in the windows of these limits too."""
        for name in _names(limits):
            self._window(name)

    def taken_tokens(self, ticket: str) -> int:
        """What a request was counted at; 0 where no tokens are counted."""
        return next((taken.amount for name, taken in self._taken.get(ticket, ()) if name[0] == "tokens"), 0)

    def wait_s(self, tokens: int, limits: Limits, now_s: float) -> float:
        """Seconds until one more request of so many tokens fits; 0 now. Times are seconds since 1970."""
        waits_s = [window.wait_s(_amount(name, tokens), now_s) for name, window in self._of(limits)]
        return max(waits_s, default=0.0)

    def take(self, ticket: str, tokens: int, now_s: float) -> None:
        """Counts a request as of now, whether it fits or not."""
        self._taken[ticket] = [
            (name, window.take(_amount(name, tokens), now_s)) for name, window in self._windows.items()
        ]

    def settle(self, ticket: str, tokens: int) -> None:
        """The request took so many tokens."""
        for name, taken in self._taken.pop(ticket, ()):
            self._windows[name].correct(taken, _amount(name, tokens))

    def refund(self, ticket: str) -> None:
        """The request counts nothing."""
        for name, taken in self._taken.pop(ticket, ()):
            self._windows[name].correct(taken, 0)

    def _of(self, limits: Limits) -> list[tuple[_Name, Window]]:
        """The windows of these limits; those who ask one after the other nearly always have the same."""
        if limits is not self._asked_by:
            self._asked = [(name, self._window(name)) for name in _names(limits)]
            self._asked_by = limits
        return self._asked

    def _window(self, name: _Name) -> Window:
        window = self._windows.get(name)
        if window is None:
            window = self._windows[name] = _new_window(*name)
        return window


_Name = tuple[str, int, str | None]  # what is counted, the limit, and for days the time zone


def _names(limits: Limits) -> list[_Name]:
    names: list[_Name] = []
    if limits.requests_per_minute is not None:
        names.append(("requests", limits.requests_per_minute, None))
    if limits.tokens_per_minute is not None:
        names.append(("tokens", limits.tokens_per_minute, None))
    if limits.requests_per_day is not None:
        names.append(("requests a day", limits.requests_per_day, limits.day_time_zone))
    return names


def _amount(name: _Name, tokens: int) -> int:
    return tokens if name[0] == "tokens" else 1


def _new_window(what: str, limit: int, zone: str | None) -> Window:
    """A minute, a day of the zone's calendar or, without one, any 24 hours."""
    if what != "requests a day":
        return SlidingWindow(limit, MINUTE_S + MARGIN_S)
    return SlidingWindow(limit, DAY_S + MARGIN_S) if zone is None else _QuietMidnight(limit, ZoneInfo(zone))


def check_ever_fits(tokens: int, limits: Limits) -> None:
    """Refuses what no wait would let through.

    Raises:
        QuotaExceeded: More tokens than a minute has, or a limit of none.
    """
    most = limits.tokens_per_minute
    if most is not None and tokens > most:
        raise QuotaExceeded(
            f"the call may take {tokens} tokens and {most} a minute are allowed: send less a call", wait_s=float("inf")
        )
    for name in ("requests_per_minute", "requests_per_day", "concurrency"):
        if getattr(limits, name) == 0:
            raise QuotaExceeded(f"the quota allows no request at all ({name} is 0)", wait_s=float("inf"))


class _QuietMidnight(CalendarDay):
    """A calendar day at whose ends nothing is sent: what is on its way at midnight could count on either side."""

    def wait_s(self, amount: int, now_s: float) -> float:
        wait_s = super().wait_s(amount, now_s)
        if wait_s > 0:
            return wait_s + MARGIN_S
        if (left_s := self.reset_s(now_s)) < MARGIN_S:
            return left_s + MARGIN_S
        return max(0.0, MARGIN_S - self.begun_s(now_s))
