"""Whose generation goes out next, where several runs share a backend: weighted fair turns.

Start-time fair queueing (Goyal, Vin and Cheng 1997): a turn begins, in virtual time, where the run's last one ended, or
now if that is past; it ends when what the run has spent since, divided by its priority, has been added. The waiting run
whose turn begins first is next. Whoever joins late or did nothing for a while begins now, without credit for the past;
whoever was at work meanwhile may begin a little before now, so that he is ahead of those who are not behind.

As many turns are on at once as it takes to use up the quota of a minute, by Little's law, or the backend's places where
there is no such quota, and under a quota one at a time waits to send its first call: more of them would only stand in
line where priorities count for nothing. A run that has just ended its turn and would be first with the next is waited
for a little, as it is still thinking about what it learned; else nobody could have two turns in a row (anticipatory
scheduling, Iyer and Druschel 2001).
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.backend import Limits
from lmaas_sdk.tuning.turn_pace import TurnPace

__all__ = ["Flow", "Turns"]

_CREDIT = 2  # turns of the least priority: how far the turns of those may lie apart who share nothing but the rest
_THINKS = 2  # times as long as its turn was may a run take until it is idle: it looks at dev, say


class Turns:
    """The turns on one backend.

    Args:
        limits: The quotas.
        places: Calls that may be under way at once.
    """

    def __init__(self, limits: Limits, places: int) -> None:
        self._pace = TurnPace(limits, places)
        self._line: list[tuple[float, int, _Asker]] = []
        self._numbers = itertools.count()
        self._on = 0
        self._unsent = 0  # turns that are on and have sent nothing yet
        self._now = 0.0  # virtual time: where the latest turn began
        self._least_priority = math.inf
        self._timer: asyncio.TimerHandle | None = None

    @property
    def pace(self) -> TurnPace:
        """How long turns take."""
        return self._pace

    def joins(self, priority: float) -> None:
        """A run of this priority will ask for turns."""
        self._least_priority = min(self._least_priority, priority)

    def begin_of(self, at_least: float, *, was_idle: bool) -> float:
        """Where a turn begins.

        Args:
            at_least: Where the run's last one ended.
            was_idle: Whether the run has had nothing to do since.
        """
        before_now = 0.0 if was_idle else _CREDIT * self._pace.took / self._least_priority
        return max(self._now - before_now, at_least)

    async def wait(self, begin: float, took: float | None, *, is_kept: bool) -> None:
        """Returns when the turn is on.

        Args:
            begin: Where it begins.
            took: What the run has cost since its last turn; None: this is its first.
            is_kept: Whether the run was waited for.
        """
        asker = _Asker(asyncio.get_running_loop().create_future(), took)
        if not self._line:
            self._pace.nobody_waits(_clock_s())
        heapq.heappush(self._line, (begin, next(self._numbers), asker))
        self._on -= is_kept  # it stands in line like all others
        self._let_in()
        try:
            await asker.entered
        except asyncio.CancelledError:
            if not asker.entered.cancelled():
                self.sent()
                self.free()  # it was let in, and does not come
            raise

    def look(self) -> None:
        """Lets in whoever may begin now."""
        self._let_in()

    def sent(self) -> None:
        """The turn that was let in last has sent something, or never will."""
        self._unsent -= 1
        self._let_in()

    def free(self) -> None:
        """A turn is over, and nobody is waited for."""
        self._on -= 1
        self._let_in()

    def patience_s(self, begin: float) -> float:
        """Seconds to wait for a run whose next turn would begin there, before another one is let in."""
        self._drop_who_left()
        if not self._line or self._line[0][0] <= begin:
            return 0.0
        return self._pace.patience_s

    def _let_in(self) -> None:
        self._drop_who_left()
        while self._line and self._has_room():
            begin, _, asker = heapq.heappop(self._line)
            self._now = max(self._now, begin)
            self._on += 1
            self._unsent += 1
            self._pace.let_in(asker.took, _clock_s())
            asker.entered.set_result(None)
            self._drop_who_left()

    def _has_room(self) -> bool:
        if self._on >= self._pace.slots or (self._pace.is_limited and self._unsent):
            return False
        wait_s = self._pace.wait_s(_clock_s())
        if wait_s > 0 and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._on_time)
        return wait_s <= 0

    def _on_time(self) -> None:
        self._timer = None
        self._let_in()

    def _drop_who_left(self) -> None:
        while self._line and self._line[0][2].entered.done():
            heapq.heappop(self._line)


@dataclass(slots=True, eq=False)
class _Asker:
    """Who stands in line, and what the run has cost since its last turn."""

    entered: asyncio.Future[None]
    took: float | None


def _clock_s() -> float:
    return asyncio.get_running_loop().time()


class Flow:
    """One run's turns.

    Args:
        turns: Those of its backend.
        priority: Its part of them, in relation to the others'.
        spent: What it has spent so far.
    """

    def __init__(self, turns: Turns, priority: float, spent: Callable[[], Amounts]) -> None:
        self._turns, self._priority, self._spent = turns, priority, spent
        turns.joins(priority)
        self._begin = 0.0
        self._idle_from_s = -math.inf
        self._spent_then: Amounts | None = None  # when the last turn was asked for
        self._kept: asyncio.TimerHandle | None = None
        self._turn = _Turn(0.0, is_on=False)
        self._in_flight, self._since_s = 0, 0.0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Waits for the run's turn; entered around a generation."""
        took = self._took
        self._begin, self._spent_then = self._next_begin, self._spent()
        await self._turns.wait(self._begin, took, is_kept=self._is_kept())
        before, self._turn = self._spent(), _Turn(_clock_s())
        try:
            yield
        finally:
            self._over(self._turn, self._spent() - before)

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """Entered while an attempt is with the backend."""
        turn = self._turn
        if not self._in_flight:
            self._since_s = _clock_s()
        self._in_flight += 1
        turn.calls += 1
        if turn.is_on and turn.unsent_s is None:
            turn.unsent_s = self._since_s - turn.began_s
            self._turns.sent()
        try:
            yield
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                turn.at_backend_s += _clock_s() - self._since_s

    def end(self) -> None:
        """The run asks for no more turns."""
        if self._is_kept():
            self._turns.free()

    @property
    def _took(self) -> float | None:
        """What it has cost since its last turn."""
        return None if self._spent_then is None else self._turns.pace.cost(self._spent() - self._spent_then)

    @property
    def _next_begin(self) -> float:
        ended = self._begin + (self._took or 0.0) / self._priority
        return self._turns.begin_of(ended, was_idle=_clock_s() > self._idle_from_s)

    def _over(self, turn: _Turn, amounts: Amounts) -> None:
        turn.is_on = False
        if turn.unsent_s is None:
            self._turns.sent()
        else:
            self._turns.pace.saw(amounts, calls=turn.calls, at_backend_s=turn.at_backend_s, unsent_s=turn.unsent_s)
        now_s = _clock_s()
        self._idle_from_s = now_s + _THINKS * (now_s - turn.began_s)
        patience_s = self._turns.patience_s(self._next_begin)
        if patience_s > 0:
            self._kept = asyncio.get_running_loop().call_later(patience_s, self.end)
            self._turns.look()
        else:
            self._turns.free()

    def _is_kept(self) -> bool:
        """Whether it was waited for until now."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.cancel()
        return kept is not None


@dataclass(slots=True, eq=False)
class _Turn:
    """One turn.

    Args:
        began_s: When.
        unsent_s: Seconds until its first call went out; None: none has.
        calls: Attempts.
        at_backend_s: How long the backend had any of them.
        is_on: Whether it is not over.
    """

    began_s: float
    unsent_s: float | None = None
    calls: int = 0
    at_backend_s: float = 0.0
    is_on: bool = True
