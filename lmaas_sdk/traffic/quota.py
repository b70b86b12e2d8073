"""A provider's quota as the client counts it: requests and tokens in any minute, requests in a day."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, final
from zoneinfo import ZoneInfo

from lmaas_sdk.backend import Limits
from lmaas_sdk.errors import QuotaExceeded
from lmaas_sdk.traffic.windows import DAY_S, MINUTE_S, CalendarDay, SlidingWindow, Taken, Window

__all__ = ["MARGIN_S", "Quota", "QuotaBook", "TwoDays", "check_ever_fits"]

# The provider counts a request when it arrives. Where the first of a minute takes longer on its way than the one that
# follows a minute after it, they are closer together there than here. A window that is longer here by as much as their
# ways may differ keeps that from becoming a 429: a quarter of a second is several round trips around the world and a
# wait for the ledger's disk, and costs 0.4 % of what a minute allows.
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
            0: it is taken. Else seconds until it is worth asking again; infinity: until somebody gives back.
        """
        ...

    def pause_s(self, wait_s: float) -> float:
        """Seconds after which to ask again, of a wait: fewer where others give back without telling."""
        ...

    def settle(self, ticket: str, tokens: int) -> None:
        """It was answered: it took so many tokens and is no longer under way."""
        ...

    def refund(self, ticket: str) -> None:
        """It was refused or not sent, or asks no longer: it counts nothing."""
        ...


@final
@dataclass(frozen=True, slots=True)
class TwoDays(Limits):
    """Limits of two time zones: a provider's days and a user's are not the same, and both have to be kept.

    Args:
        other_per_day, other_time_zone: As `requests_per_day` and `day_time_zone`.
    """

    other_per_day: int | None = None
    other_time_zone: str | None = None


_Kind = tuple[str, str | None]  # what is counted, and for days the time zone
_Counted = tuple[Window, bool]  # and whether tokens are counted, not requests
_REQUESTS, _TOKENS, _A_DAY = "requests", "tokens", "requests a day"
_OF_REQUESTS = ("requests_per_minute", "requests_per_day", "concurrency", "other_per_day")


class Quota:
    """The windows of one scope. What is taken counts in all of them; whoever asks names the limits that hold for it.

    A window counts, and whoever asks brings the limit, so that those who have other limits see the same count.
    """

    def __init__(self) -> None:
        self._counted: dict[_Kind, _Counted] = {}
        self._taken: dict[str, list[tuple[Window, bool, Taken]]] = {}
        self._asked_by: Limits | None = None
        self._asked: list[_Counted] = []

    @property
    def under_way(self) -> int:
        """Requests that were taken and are neither settled nor refunded."""
        return len(self._taken)

    def knows(self, limits: Limits) -> bool:
        """Whether what these limits are about is counted."""
        return limits is self._asked_by or all(kind in self._counted for kind in _limit_of_each(limits))

    def learn(self, limits: Limits) -> None:
        """Counts, from now on, what these limits are about, too."""
        for kind in _limit_of_each(limits):
            if kind not in self._counted:
                self._counted[kind] = (_new_window(kind), kind[0] == _TOKENS)

    def taken_tokens(self, ticket: str) -> int:
        """What a request was counted at; 0 where no tokens are counted."""
        return next((taken.amount for _, in_tokens, taken in self._taken.get(ticket, ()) if in_tokens), 0)

    def wait_s(self, tokens: int, limits: Limits, now_s: float) -> float:
        """Seconds until one more request of so many tokens fits; 0 now. Times are seconds since 1970."""
        if limits is not self._asked_by:  # those who ask one after the other nearly always have the same
            self._set(limits)
        longest_s = 0.0
        for window, in_tokens in self._asked:
            longest_s = max(longest_s, window.wait_s(tokens if in_tokens else 1, now_s))
        return longest_s

    def take(self, ticket: str, tokens: int, now_s: float) -> None:
        """Counts a request as of now, whether it fits or not."""
        self._taken[ticket] = [
            (window, in_tokens, window.take(tokens if in_tokens else 1, now_s))
            for window, in_tokens in self._counted.values()
        ]

    def settle(self, ticket: str, tokens: int) -> None:
        """The request took so many tokens."""
        for window, in_tokens, taken in self._taken.pop(ticket, ()):
            if in_tokens:
                window.correct(taken, tokens)

    def refund(self, ticket: str) -> None:
        """The request counts nothing."""
        for window, _, taken in self._taken.pop(ticket, ()):
            window.correct(taken, 0)

    def _set(self, limits: Limits) -> None:
        self.learn(limits)
        limit_of_each = _limit_of_each(limits)
        self._asked = [self._counted[kind] for kind in limit_of_each]
        for (window, _), limit in zip(self._asked, limit_of_each.values(), strict=True):
            window.limit = limit
        self._asked_by = limits


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
    is_none = 0 in (limits.requests_per_minute, limits.requests_per_day, limits.concurrency)
    if is_none or (isinstance(limits, TwoDays) and limits.other_per_day == 0):
        name = next(name for name in _OF_REQUESTS if getattr(limits, name, None) == 0)
        raise QuotaExceeded(f"the quota allows no request at all ({name} is 0)", wait_s=float("inf"))


def _limit_of_each(limits: Limits) -> dict[_Kind, int]:
    """What there is a limit of, and the limit; of two for the same the smaller one."""
    given: list[tuple[_Kind, int | None]] = [
        ((_REQUESTS, None), limits.requests_per_minute),
        ((_TOKENS, None), limits.tokens_per_minute),
        ((_A_DAY, limits.day_time_zone), limits.requests_per_day),
    ]
    if isinstance(limits, TwoDays):
        given.append(((_A_DAY, limits.other_time_zone), limits.other_per_day))
    smallest: dict[_Kind, int] = {}
    for kind, limit in given:
        if limit is not None:
            smallest[kind] = min(limit, smallest.get(kind, limit))
    return smallest


def _new_window(kind: _Kind) -> Window:
    """A minute, a day of the zone's calendar or, without one, any 24 hours; who asks brings the limit."""
    what, zone = kind
    if what != _A_DAY:
        return SlidingWindow(0, MINUTE_S + MARGIN_S)
    return SlidingWindow(0, DAY_S + MARGIN_S) if zone is None else _QuietMidnight(0, ZoneInfo(zone))


class _QuietMidnight(CalendarDay):
    """A calendar day at whose ends nothing is sent: what is on its way at midnight could count on either side."""

    def wait_s(self, amount: int, now_s: float) -> float:
        wait_s = super().wait_s(amount, now_s)
        if wait_s > 0:
            return wait_s + MARGIN_S
        if now_s > self._ends_s - MARGIN_S:
            return self._ends_s - now_s + MARGIN_S
        return max(0.0, self._begins_s + MARGIN_S - now_s)
