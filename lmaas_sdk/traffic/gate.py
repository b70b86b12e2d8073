"""The way out to one endpoint: one request after the other asks for its quota and its place, first come first served.

Only the first in line asks; nobody is overtaken, so a large request is not starved by small ones behind it.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from lmaas_sdk.backend import Limits
from lmaas_sdk.errors import QuotaExceeded
from lmaas_sdk.traffic.concurrency import AdaptiveConcurrency
from lmaas_sdk.traffic.quota import QuotaBook, check_ever_fits
from lmaas_sdk.traffic.waits import WaitMeter

__all__ = ["Gate", "Permit"]

_tickets = itertools.count()
_PROCESS = uuid.uuid4().hex[:12]
_NO_LIMITS = Limits()
_SLACK_S = 0.001  # a wait that was begun must not be found too long because of the last digits of a clock


@dataclass(slots=True, eq=False)
class _Asker:
    """Who stands in line.

    Args:
        ticket: Its name.
        tokens: The most that its request may take.
        limits: The quota that holds for it.
        until_waited_s: How long the first in line may have waited for the quota in all, until this one gives up.
        before_wait: Told of its waits for the quota.
        turn: Done when it has not to stand there any longer; None: it was the first.
        refusal: Why it gives up.
        has_asked: Whether the book may know it.
        meter: Counts its waits for the quota, those in line behind others who wait for it included.
        is_waiting: Whether one is being counted.
        told_until_s: When the last wait ends that `before_wait` was told of.
    """

    ticket: str
    tokens: int
    limits: Limits
    until_waited_s: float
    before_wait: Callable[[float], None] | None
    meter: WaitMeter
    turn: asyncio.Future[None] | None = None
    refusal: QuotaExceeded | None = None
    has_asked: bool = False
    is_waiting: bool = False
    told_until_s: float = -math.inf

    def waits(self) -> None:
        """From now on it waits for the quota."""
        if not self.is_waiting:
            self.is_waiting = True
            self.meter.begin("quota")

    def waits_no_more(self) -> None:
        """It waits for the quota no longer."""
        if self.is_waiting:
            self.is_waiting = False
            self.meter.end("quota")


class Gate:
    """Lets requests of one scope through.

    Args:
        book: Counts what the provider's quota has left.
        concurrency: How many may be under way at once, as the provider's answers teach it.
    """

    def __init__(self, book: QuotaBook, concurrency: AdaptiveConcurrency) -> None:
        self._book, self._concurrency = book, concurrency
        self._line: deque[_Asker] = deque()
        self._changed = asyncio.Event()
        # Seconds that were waited for the quota by whoever was first; the wait under way, from when to when.
        self._waited_s = 0.0
        self._waits: tuple[float, float] | None = None

    def is_free(self, limits: Limits) -> bool:
        """Whether a request may enter now, and no quota has to be asked."""
        return limits == _NO_LIMITS and not self._line and self._concurrency.has_room

    async def enter(
        self,
        tokens: int,
        limits: Limits,
        *,
        patience_s: float | None = None,
        before_wait: Callable[[float], None] | None = None,
        meter: WaitMeter | None = None,
    ) -> Permit:
        """Waits for its turn, its quota and its place.

        Args:
            tokens: The most that the request may take.
            limits: The quota that holds for it.
            patience_s: Most seconds to wait for the quota, those in line behind others who wait for it included; None:
                as long as it takes. A wait for a place has no known end and is not counted.
            before_wait: Called before every wait for the quota with its seconds; what it raises ends the wait. A wait
                that turns out longer is another one when the first is over, so that none is told twice.
            meter: Counts what is waited for the quota.

        Raises:
            QuotaExceeded: The wait would take longer than that, or for ever; at once, and nothing was taken.
        """
        check_ever_fits(tokens, limits)
        if limits.concurrency is not None:
            self._concurrency.allow(limits.concurrency)
        until_s, ticket = self._until_waited_s(patience_s), f"{_PROCESS}-{next(_tickets)}"
        asker = _Asker(ticket, tokens, limits, until_s, before_wait, meter or WaitMeter())
        if self._line:
            self._check_line(asker)
            asker.turn = asyncio.get_running_loop().create_future()
        self._line.append(asker)
        try:
            if asker.turn is not None:
                if self._waits is not None:
                    asker.waits()
                await _turn_of(asker, asker.turn)
            await self._admitted(asker)
        except BaseException:
            self._withdraw(asker)
            raise
        finally:
            self._leave(asker)
        return Permit(self, asker.ticket, tokens)

    async def _admitted(self, asker: _Asker) -> None:
        while True:
            self._changed.clear()
            if not self._concurrency.has_room:
                self._withdraw(asker)  # who could not go must not stand before other processes
                await self._changed.wait()
                continue
            asker.has_asked = True
            wait_s = await self._book.take(asker.ticket, asker.tokens, asker.limits)
            if wait_s <= 0:
                self._concurrency.enter()
                return
            if math.isinf(wait_s):
                await self._pause(wait_s)
            else:
                self._give_up(asker, wait_s)
                await self._pause(wait_s, most_s=_told_s(asker, wait_s))

    def _withdraw(self, asker: _Asker) -> None:
        """Has the book forget that it asked."""
        if asker.has_asked:
            asker.has_asked = False
            self._book.refund(asker.ticket)

    async def _pause(self, wait_s: float, *, most_s: float = math.inf) -> None:
        """Until it is time to ask again, or something was given back."""
        clock = asyncio.get_running_loop().time
        begun_s = clock()
        if not math.isinf(wait_s):
            self._waits = begun_s, begun_s + wait_s
            for asker in self._line:
                asker.waits()
        pause_s = min(self._book.pause_s(wait_s), most_s)
        try:
            async with asyncio.timeout(None if math.isinf(pause_s) else pause_s):
                await self._changed.wait()
        except TimeoutError:
            pass
        finally:
            if self._waits is not None:
                self._waits = None
                self._waited_s += clock() - begun_s
                for asker in self._line:
                    asker.waits_no_more()

    def _until_waited_s(self, patience_s: float | None) -> float:
        if patience_s is None:
            return math.inf
        ago_s = 0.0 if self._waits is None else asyncio.get_running_loop().time() - self._waits[0]
        return self._waited_s + ago_s + patience_s

    def _check_line(self, asker: _Asker) -> None:
        """Refuses who would have to wait too long already for the first in line."""
        if self._waits is not None:
            begun_s, ends_s = self._waits
            if self._waited_s + ends_s - begun_s > asker.until_waited_s + _SLACK_S:
                raise _too_long(ends_s - asyncio.get_running_loop().time())

    def _give_up(self, first: _Asker, wait_s: float) -> None:
        """Ends the waiting of all whose patience ends before the wait of the first.

        Raises:
            QuotaExceeded: The first has not the patience for it.
        """
        may_wait_s = self._waited_s + wait_s - _SLACK_S
        if first.until_waited_s < may_wait_s:
            raise _too_long(wait_s)
        for asker in self._line:
            if asker.until_waited_s < may_wait_s and asker.refusal is None:
                asker.refusal = _too_long(wait_s)
                _wake(asker)

    def _leave(self, asker: _Asker) -> None:
        asker.waits_no_more()
        if self._line[0] is not asker:
            self._line.remove(asker)
            return
        self._line.popleft()
        if self._line:
            _wake(self._line[0])


class Permit:
    """One request's leave to go out. Exactly one of its methods is called, and none of them waits."""

    __slots__ = ("_gate", "_number", "_ticket", "_tokens")

    def __init__(self, gate: Gate, ticket: str, tokens: int) -> None:
        self._gate: Gate | None = gate
        self._ticket, self._tokens = ticket, tokens
        self._number = gate._concurrency.number

    def settle(self, tokens: int | None) -> None:
        """It was answered and took so many tokens; None: nobody knows, so what was asked for stays counted."""
        gate = self._used()
        gate._concurrency.leave(self._number, answered=tokens is not None)
        gate._book.settle(self._ticket, self._tokens if tokens is None else tokens)
        gate._changed.set()

    def refused(self) -> None:
        """The provider said that it is too much (429): it counts nothing, and fewer go out at once for a while."""
        gate = self._used()
        gate._concurrency.refused(self._number)
        gate._book.refund(self._ticket)
        gate._changed.set()

    def give_back(self) -> None:
        """It was not sent, or nobody took it."""
        gate = self._used()
        gate._concurrency.leave(self._number, answered=False)
        gate._book.refund(self._ticket)
        gate._changed.set()

    def _used(self) -> Gate:
        gate, self._gate = self._gate, None
        if gate is None:
            raise RuntimeError("a permit is used once")
        return gate


async def _turn_of(asker: _Asker, turn: asyncio.Future[None]) -> None:
    await turn
    if asker.refusal is not None:
        raise asker.refusal


def _told_s(asker: _Asker, wait_s: float) -> float:
    """Tells of a wait that begins; seconds of `wait_s` that have been told of by then."""
    now_s = asyncio.get_running_loop().time()
    left_s = asker.told_until_s - now_s
    if left_s > _SLACK_S:
        return min(wait_s, left_s)
    if wait_s > _SLACK_S:
        asker.told_until_s = now_s + wait_s
        if asker.before_wait is not None:
            asker.before_wait(wait_s)
    return wait_s


def _wake(asker: _Asker) -> None:
    if asker.turn is not None and not asker.turn.done():
        asker.turn.set_result(None)


def _too_long(wait_s: float) -> QuotaExceeded:
    return QuotaExceeded(
        f"the quota is used up for {wait_s:.1f} s, longer than this call may wait: allow a longer wait (max_wait_s), "
        "or come back later",
        wait_s=wait_s,
    )
