"""How many turns of several runs a backend bears at once, and how far apart."""

from __future__ import annotations

import math

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.backend import Limits
from lmaas_sdk.traffic.quota import MARGIN_S
from lmaas_sdk.traffic.windows import MINUTE_S

__all__ = ["TurnPace"]

_NEWEST = 1 / 8  # the part of the newest observation in an average, as of round trips in TCP (RFC 6298)
_WAITED_FOR = 1 / 20  # of a turn's time at the backend, where no quota makes the wait free


class TurnPace:
    """How many turns a backend bears, as the latest have shown.

    Where a quota of a minute was seen to make a turn wait, turns begin as far apart as the quota lets them through, for
    as long as somebody waits for one. The quota is used up all the same, and who comes first by priority can go first:
    in a burst everybody's turn comes, and between bursts nobody's.

    Args:
        limits: The quotas.
        places: Calls that may be under way at once.

    Attributes:
        has_quota: Whether there is a quota of a minute.
        is_limited: Whether there is one of a minute or of a day.
        took: What a turn costs.
    """

    def __init__(self, limits: Limits, places: int) -> None:
        self._requests_s = _apart_s(limits.requests_per_minute)
        self._tokens_s = _apart_s(limits.tokens_per_minute)
        self.has_quota = bool(self._requests_s or self._tokens_s)
        self._is_by_day = limits.requests_per_day is not None and not self.has_quota
        self.is_limited = self.has_quota or self._is_by_day
        self._places = places
        self._at_backend_s: float | None = None
        self.took, self._calls = 0.0, 1.0  # of a turn
        self._is_bound = False
        self._next_s = 0.0

    def cost(self, amounts: Amounts) -> float:
        """What was spent: in seconds of a minute's quota, else in requests of a day's, else in tokens."""
        if not self.has_quota:
            return float(amounts.calls if self._is_by_day else amounts.tokens)
        return max(amounts.calls * self._requests_s, amounts.tokens * self._tokens_s)

    @property
    def slots(self) -> int:
        """How many turns may be on at once."""
        most = max(1, math.ceil(self._places / self._calls))
        if not self.has_quota:
            return most
        if not self._at_backend_s or not self.took:
            return 1  # the first shows what it takes
        return min(most, math.ceil(self._at_backend_s / self.took))

    @property
    def patience_s(self) -> float:
        """Seconds to wait for a run that would be first again."""
        return self.took if self.has_quota else _WAITED_FOR * (self._at_backend_s or 0.0)

    def wait_s(self, now_s: float) -> float:
        """Seconds until another turn may begin."""
        return self._next_s - now_s if self._is_bound else 0.0

    def nobody_waits(self, now_s: float) -> None:
        """Nobody has been waiting for a turn until now."""
        if now_s >= self._next_s:
            self._is_bound = False

    def let_in(self, took: float | None, now_s: float) -> None:
        """A turn begins, of a run that has cost so much since its last one."""
        if self.has_quota:
            self._next_s = max(self._next_s, now_s) + (self.took if took is None else took)

    def saw(self, amounts: Amounts, *, calls: int, at_backend_s: float, unsent_s: float) -> None:
        """A turn is over.

        Args:
            amounts: What it cost.
            calls: In how many calls.
            at_backend_s: How long any of them was with the backend.
            unsent_s: How long it took until the first of them was.
        """
        if not calls:
            return  # all of it was known
        took = self.cost(amounts)
        if self._at_backend_s is None:
            self._at_backend_s, self.took, self._calls = at_backend_s, took, float(calls)
        self._at_backend_s += _NEWEST * (at_backend_s - self._at_backend_s)
        self.took += _NEWEST * (took - self.took)
        self._calls += _NEWEST * (calls - self._calls)
        self._is_bound |= self.has_quota and unsent_s > self.took


def _apart_s(a_minute: int | None) -> float:
    """Seconds between two, of so many a minute; 0: any number is allowed."""
    return (MINUTE_S + MARGIN_S) / a_minute if a_minute else 0.0
