"""Whose chunk is computed next: clients in turn, one chunk ready while others compute.

It orders the units of calls and never merges calls: what is computed together was fixed by each call alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, TypeVar

from lmaas_backends.roberta.cost_model import CostModel, Overhead
from lmaas_backends.roberta.engine_thread import EngineThread
from lmaas_backends.roberta.idempotency import CallDroppedError
from lmaas_backends.roberta.waiting_room import Occupancy, Ticket, WaitingRoom
from lmaas_backends.roberta.wire_errors import RefusalError
from lmaas_backends.roberta.work import Step, Work, WorkLanes

__all__ = ["Batcher", "Observer"]

_ReplyT = TypeVar("_ReplyT")
_WAITING_S = 30.0
_REMEMBERED_CLIENTS = 64  # that have nothing waiting
_SWEPT_EVERY_S = 0.25
_TURN_S = 0.002  # handing a unit over costs a tenth of this


class Observer(Protocol):
    """Is told what was computed."""

    def waited(self, seconds: float) -> None:
        """A call's first unit was taken up after so long."""
        ...

    def prepared(self, seconds: float) -> None:
        """Units of a call were made ready for a lane within so long."""
        ...

    def computed(self, positions: int, flops: int, seconds: float) -> None:
        """A unit was computed."""
        ...


@dataclass(slots=True, eq=False)
class _Call:
    """A call whose units wait or compute."""

    work: Work[Any]
    dropped: Callable[[], bool]
    came: float
    done: asyncio.Future[None]
    waiting: deque[int] = field(init=False)
    left: int = field(init=False)
    is_fresh: bool = True

    def __post_init__(self) -> None:
        self.waiting = deque(range(len(self.work.units)))
        self.left = len(self.waiting)

    @property
    def is_dead(self) -> bool:
        """Whether its units need not be computed any more: it failed, or nobody waits for it."""
        if not self.done.done() and self.dropped():
            self.done.set_exception(CallDroppedError())
        return self.done.done()

    def next_units(self, seconds: Callable[[int], float]) -> list[int]:
        """Takes one waiting unit, and more while all of them are expected to take less than `_TURN_S`."""
        units = [self.waiting.popleft()]
        expected_s = seconds(self.work.units[units[0]])
        while self.waiting and (expected_s := expected_s + seconds(self.work.units[self.waiting[0]])) < _TURN_S:
            units.append(self.waiting.popleft())
        return units


class _Turns:
    """The waiting calls of every client; the client that was served least is next, and its calls come in order.

    Whoever comes back starts where it stopped, or at the level of those who waited meanwhile: time away is no claim,
    and leaving for a moment wipes out no debt (start-time fair queueing: Goyal, Vin and Cheng 1996).
    """

    def __init__(self) -> None:
        self._clients: OrderedDict[str, deque[_Call]] = OrderedDict()
        self._served: dict[str, float] = {}
        self._level = 0.0

    @property
    def waits(self) -> bool:
        """Whether any unit waits."""
        return bool(self._clients)

    def add(self, client: str, call: _Call) -> None:
        if client not in self._clients:
            self._clients[client] = deque()
            self._served[client] = max(self._served.get(client, 0.0), self._level)
        self._clients[client].append(call)

    def take(self, seconds: Callable[[int], float]) -> tuple[_Call, list[int]] | None:
        """The next units, of one call: one, or several that take no time worth a turn each; None: nothing waits.

        Args:
            seconds: Tells how long so many positions take. Calls that are dead are left out.
        """
        while self._clients:
            client = min(self._clients, key=self._served.__getitem__)
            call = self._clients[client][0]
            units = [] if call.is_dead else call.next_units(seconds)
            self._level = self._served[client]
            self._served[client] += sum(call.work.units[unit] for unit in units)
            if not units or not call.waiting:
                self._clients[client].popleft()
            self._clients.move_to_end(client)  # of equals, whoever was served longest ago is next
            if not self._clients[client]:
                self._leave(client)
            if units:
                return call, units
        return None

    def sweep(self) -> None:
        """Leaves out all calls that are dead, so that those who asked for them give their room back."""
        for client in [*self._clients]:
            self._clients[client] = deque(call for call in self._clients[client] if not call.is_dead)
            if not self._clients[client]:
                self._leave(client)

    def _leave(self, client: str) -> None:
        del self._clients[client]
        if len(self._served) > 2 * len(self._clients) + _REMEMBERED_CLIENTS:
            self._served = {
                name: served for name, served in self._served.items() if name in self._clients or served > self._level
            }


class Batcher:
    """Computes calls on an engine's lanes. Use it as an async context manager; leaving it drops what still waits.

    Args:
        lanes: Where units are computed.
        thread: The engine's, where they are prepared.
        observer: Is told of everything that was computed.
        clock: Seconds, for waiting.
        most_tokens: Of the calls that wait or compute; a larger call is let in alone. None: what takes 30 s by the
            speed that is measured.
    """

    def __init__(
        self,
        lanes: WorkLanes,
        thread: EngineThread,
        *,
        observer: Observer,
        clock: Callable[[], float],
        most_tokens: int | None = None,
    ) -> None:
        self._lanes, self._thread, self._observer, self._clock = lanes, thread, observer, clock
        self.cost, self._overhead = CostModel(), Overhead()
        self.room = WaitingRoom(self._most_tokens if most_tokens is None else lambda: most_tokens, self._wait_s, clock)
        self._turns = _Turns()
        self._free_places = lanes.places
        self._busy_since: float | None = None
        self._swept_at = -_SWEPT_EVERY_S
        self._is_over = False
        self._dispatcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Batcher:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over = True
        if self._dispatcher is not None:
            self._dispatcher.cancel()
            await asyncio.wait([self._dispatcher])

    def enter(self, ticket: Ticket, tokens: int) -> Occupancy:
        """Takes room for a call, which `leave` gives back.

        Raises:
            RefusalError: overloaded, with the seconds after which there will be room for this call.
        """
        entered = self.room.enter(ticket, tokens)
        if isinstance(entered, Occupancy):
            return entered
        self._sweep()
        raise RefusalError(
            "overloaded",
            f"{self.room.tokens} tokens are waiting or being computed, and this call has {tokens}",
            retry_after_s=entered,
        )

    def _sweep(self) -> None:
        """Now and then, while calls are refused: those whose askers have gone hold room until their turn comes."""
        if self._clock() - self._swept_at >= _SWEPT_EVERY_S:
            self._swept_at = self._clock()
            self._turns.sweep()

    def leave(self, place: Occupancy) -> None:
        """Gives a call's room back; once for each place."""
        self.room.leave(place)

    async def run(self, client: str, work: Work[_ReplyT], dropped: Callable[[], bool] = lambda: False) -> _ReplyT:
        """Computes a call when its turn comes.

        Args:
            client: Whose call it is.
            work: The call.
            dropped: Asked before each unit whether nobody waits any more.

        Raises:
            CallDroppedError: `dropped` said so.
            Exception: Whatever the work raised.
        """
        call = _Call(work, dropped, self._clock(), asyncio.get_running_loop().create_future())
        self._turns.add(client, call)
        self._dispatch_soon()
        try:
            await call.done
        finally:
            call.done.cancel()  # so that its units are left out, should our caller have gone
        return await self._thread.run(work.reply)

    def _dispatch_soon(self) -> None:
        if not self._is_over and (self._dispatcher is None or self._dispatcher.done()):
            self._dispatcher = asyncio.get_running_loop().create_task(self._dispatch())

    async def _dispatch(self) -> None:
        """Takes up units, as long as there are places and units for them."""
        while self._free_places and (taken := self._turns.take(self.cost.seconds)) is not None:
            self._free_places -= 1
            await self._prepared(*taken)

    async def _prepared(self, call: _Call, units: list[int]) -> None:
        """Has units made ready and hands them to a lane."""
        if call.is_fresh:
            call.is_fresh = False
            self._observer.waited(self._clock() - call.came)
        began = time.perf_counter()
        try:
            steps = await self._thread.run(lambda: [call.work.prepare(unit) for unit in units])
            self._observer.prepared(time.perf_counter() - began)
            timed = _TimedSteps(steps, lambda: call.done.done() or call.dropped())
            computing = self._lanes.submit(timed.run)
        except Exception as error:
            self._ended(call, units, error)
            return
        loop = asyncio.get_running_loop()

        def tell(done: Future[None]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: it was told to end, and waits for no unit
                loop.call_soon_threadsafe(self._computed, call, units, done.exception(), timed.seconds)

        computing.add_done_callback(tell)

    def _computed(self, call: _Call, units: list[int], error: BaseException | None, seconds: list[float]) -> None:
        try:
            for unit, unit_s in zip(units, seconds, strict=False):  # fewer where one failed
                self.cost.observe(call.work.units[unit], unit_s)
                self._observer.computed(call.work.units[unit], call.work.flops(unit), unit_s)
            if self._busy_since is not None and seconds:
                self._overhead.observe((self._clock() - self._busy_since) * self._lanes.count, sum(seconds))
            self._busy_since = self._clock() if self._turns.waits else None
        finally:
            self._ended(call, units, error)

    def _ended(self, call: _Call, units: list[int], error: BaseException | None) -> None:
        """Units are over: their place is free, and their call perhaps done."""
        self._free_places += 1
        self._dispatch_soon()
        call.left -= len(units)
        if call.done.done():
            return
        if error is not None:
            call.done.set_exception(error)
        elif not call.left:
            call.done.set_result(None)

    def _most_tokens(self) -> int:
        return max(1, int(_WAITING_S / self._wait_s(1)))

    def _wait_s(self, tokens: int) -> float:
        """Expected time until so many tokens are computed, in units of the size that is usual."""
        return tokens * self.cost.a_position_s * self._overhead.factor / self._lanes.count


class _TimedSteps:
    """Steps one after another on a lane, each timed, as long as somebody waits for them."""

    def __init__(self, steps: list[Step], dropped: Callable[[], bool]) -> None:
        self._steps, self._dropped = steps, dropped
        self.seconds: list[float] = []

    def run(self) -> None:
        for step in self._steps:
            if self._dropped():
                raise CallDroppedError
            began = time.perf_counter()
            step()
            self.seconds.append(time.perf_counter() - began)
