"""Whose generation goes out next, where several runs share a backend: weighted fair turns.

Start-time fair queueing (Goyal, Vin and Cheng 1997): a turn begins, in virtual time, where the run's last one ended, or
now if that is past; it ends when what the run has spent since, divided by its priority, has been added. The waiting run
whose turn begins first is next. Whoever joins late or did nothing for a while begins now, without credit for the past.

As many turns are on at once as it takes to use up the quota of a minute, by Little's law, or the backend's places where
there is no such quota: more would only stand in line where priorities count for nothing. A run that has just ended its
turn and would be first with the next is waited for a little, as it is still thinking about what it learned; else nobody
could have two turns in a row (anticipatory scheduling, Iyer and Druschel 2001).
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.backend import Limits

__all__ = ["Flow", "Turns"]

_MINUTE_S = 60.0
_NEWEST = 1 / 8  # the part of the newest observation in an average, as of round trips in TCP (RFC 6298)
_WAITED_FOR = 1 / 20  # of a turn's time at the backend, where no quota makes the wait free


class Turns:
    """The turns on one backend.

    Args:
        limits: The quotas.
        places: Calls that may be under way at once.
    """

    def __init__(self, limits: Limits, places: int) -> None:
        self._pace = _Pace(limits, places)
        self._line: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._on = 0
        self._now = 0.0  # virtual time: where the latest turn began

    @property
    def slots(self) -> int:
        """How many turns may be on at once."""
        return self._pace.slots

    def begin_of(self, at_least: float) -> float:
        """Where a turn begins that may not begin before `at_least`."""
        return max(self._now, at_least)

    def cost(self, amounts: Amounts) -> float:
        """What a turn took, in seconds of the quota, or in tokens where there is none."""
        return self._pace.cost(amounts)

    async def wait(self, begin: float, *, is_kept: bool) -> None:
        """Returns when the turn is on.

        Args:
            begin: Where it begins.
            is_kept: Whether the run was waited for.
        """
        entered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._line, (begin, next(self._numbers), entered))
        self._on -= is_kept  # it stands in line like all others
        self._let_in()
        try:
            await entered
        except asyncio.CancelledError:
            if not entered.cancelled():
                self.free()  # it was let in, and does not come
            raise

    def free(self) -> None:
        """A turn is over, and nobody is waited for."""
        self._on -= 1
        self._let_in()

    def patience_s(self, begin: float) -> float:
        """Seconds to wait for a run whose next turn would begin there, before another one is let in."""
        while self._line and self._line[0][2].done():
            heapq.heappop(self._line)  # cancelled
        if not self._line or self._line[0][0] <= begin:
            return 0.0
        return self._pace.patience_s

    def saw(self, took: Amounts, *, calls: int, at_backend_s: float) -> None:
        """A turn is over: what it took, in how many calls, and how long the backend had any of them."""
        self._pace.saw(took, calls=calls, at_backend_s=at_backend_s)
        self._let_in()

    def _let_in(self) -> None:
        while self._line and self._on < self.slots:
            begin, _, entered = heapq.heappop(self._line)
            if not entered.done():
                self._now = max(self._now, begin)
                self._on += 1
                entered.set_result(None)


class _Pace:
    """How long turns take, as the latest have shown."""

    def __init__(self, limits: Limits, places: int) -> None:
        self._requests_s = None if not limits.requests_per_minute else _MINUTE_S / limits.requests_per_minute
        self._tokens_s = None if not limits.tokens_per_minute else _MINUTE_S / limits.tokens_per_minute
        self._places = places
        self._at_backend_s: float | None = None
        self._quota_s, self._calls = 0.0, 1.0  # of a turn

    @property
    def _has_quota(self) -> bool:
        return self._requests_s is not None or self._tokens_s is not None

    @property
    def slots(self) -> int:
        most = max(1, math.ceil(self._places / self._calls))
        if not self._has_quota:
            return most
        if self._at_backend_s is None or not self._quota_s:
            return 1  # the first shows what it takes
        return min(most, max(1, math.ceil(self._at_backend_s / self._quota_s)))

    @property
    def patience_s(self) -> float:
        if self._has_quota:
            return self._quota_s
        return _WAITED_FOR * (self._at_backend_s or 0.0)

    def cost(self, amounts: Amounts) -> float:
        if not self._has_quota:
            return float(amounts.tokens)
        return max(amounts.calls * (self._requests_s or 0.0), amounts.tokens * (self._tokens_s or 0.0))

    def saw(self, took: Amounts, *, calls: int, at_backend_s: float) -> None:
        if not calls:
            return  # all of it was known
        if self._at_backend_s is None:
            self._at_backend_s, self._quota_s, self._calls = at_backend_s, self.cost(took), float(calls)
            return
        self._at_backend_s += _NEWEST * (at_backend_s - self._at_backend_s)
        self._quota_s += _NEWEST * (self.cost(took) - self._quota_s)
        self._calls += _NEWEST * (calls - self._calls)


class Flow:
    """One run's turns.

    Args:
        turns: Those of its backend.
        priority: Its part of them, in relation to the others'.
        spent: What it has spent so far.
    """

    def __init__(self, turns: Turns, priority: float, spent: Callable[[], Amounts]) -> None:
        self._turns, self._priority, self._spent = turns, priority, spent
        self._begin = 0.0
        self._spent_then: Amounts | None = None  # when the last turn was asked for
        self._kept: asyncio.TimerHandle | None = None
        self._in_flight, self._calls = 0, 0
        self._since_s = self._at_backend_s = 0.0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Waits for the run's turn; entered around a generation."""
        self._begin, self._spent_then = self._next_begin, self._spent()
        await self._turns.wait(self._begin, is_kept=self._is_kept())
        before, self._calls, self._at_backend_s = self._spent(), 0, 0.0
        try:
            yield
        finally:
            self._turns.saw(self._spent() - before, calls=self._calls, at_backend_s=self._at_backend_s)
            self._over()

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """Entered while an attempt is with the backend."""
        clock = asyncio.get_running_loop().time
        if not self._in_flight:
            self._since_s = clock()
        self._in_flight += 1
        self._calls += 1
        try:
            yield
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._at_backend_s += clock() - self._since_s

    def end(self) -> None:
        """The run asks for no more turns."""
        if self._is_kept():
            self._turns.free()

    @property
    def _next_begin(self) -> float:
        took = Amounts() if self._spent_then is None else self._spent() - self._spent_then
        return self._turns.begin_of(self._begin + self._turns.cost(took) / self._priority)

    def _over(self) -> None:
        patience_s = self._turns.patience_s(self._next_begin)
        if patience_s > 0:
            self._kept = asyncio.get_running_loop().call_later(patience_s, self.end)
        else:
            self._turns.free()

    def _is_kept(self) -> bool:
        """Whether it was waited for until now."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.cancel()
        return kept is not None
