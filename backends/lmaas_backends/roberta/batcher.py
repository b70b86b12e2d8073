"""Whose chunk is computed next: clients in turn, one chunk ready while others compute.

It orders the units of calls and never merges calls: what is computed together was fixed by each call alone.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, TypeVar

from lmaas_backends.roberta.cost_model import CostModel
from lmaas_backends.roberta.engine_thread import EngineThread
from lmaas_backends.roberta.idempotency import CallDroppedError
from lmaas_backends.roberta.waiting_room import Occupancy, Ticket, WaitingRoom
from lmaas_backends.roberta.wire_errors import RefusalError
from lmaas_backends.roberta.work import Step, Work, WorkLanes

__all__ = ["Batcher", "Observer"]

_ReplyT = TypeVar("_ReplyT")
_WAITING_S = 30.0


class Observer(Protocol):
    """Is told what was computed."""

    def waited(self, seconds: float) -> None:
        """A call's first unit was taken up after so long."""
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


class _Turns:
    """The waiting calls of every client; the client that was served least is next, and its calls come in order."""

    def __init__(self) -> None:
        self._clients: OrderedDict[str, deque[_Call]] = OrderedDict()
        self._served: dict[str, float] = {}

    def add(self, client: str, call: _Call) -> None:
        if client not in self._clients:
            self._clients[client] = deque()
            self._clients.move_to_end(client, last=False)  # of equals, whoever was served longest ago is next
            # Whoever was away has no claim to what it did not use meanwhile.
            self._served[client] = min(self._served.values(), default=0.0)
        self._clients[client].append(call)

    def take(self) -> tuple[_Call, int] | None:
        """The next unit; None: nothing waits. Calls that are dead are left out."""
        while self._clients:
            client = min(self._clients, key=self._served.__getitem__)
            call = self._clients[client][0]
            unit = None if call.is_dead else call.waiting.popleft()
            if unit is not None:
                self._served[client] += call.work.units[unit]
            if unit is None or not call.waiting:
                self._clients[client].popleft()
            self._clients.move_to_end(client)
            if not self._clients[client]:
                del self._clients[client], self._served[client]
            if unit is not None:
                return call, unit
        return None


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
        self.cost = CostModel()
        self.room = WaitingRoom(self._most_tokens if most_tokens is None else lambda: most_tokens, self._wait_s, clock)
        self._turns = _Turns()
        self._free_places = lanes.places
        self._dispatcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Batcher:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        raise RefusalError(
            "overloaded",
            f"{self.room.tokens} tokens are waiting or being computed, and this call has {tokens}",
            retry_after_s=entered,
        )

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
        if self._dispatcher is None or self._dispatcher.done():
            self._dispatcher = asyncio.get_running_loop().create_task(self._dispatch())

    async def _dispatch(self) -> None:
        """Takes up units, as long as there are places and units for them."""
        while self._free_places and (taken := self._turns.take()) is not None:
            self._free_places -= 1
            await self._prepared(*taken)

    async def _prepared(self, call: _Call, unit: int) -> None:
        """Has a unit made ready and hands it to the lanes."""
        if call.is_fresh:
            call.is_fresh = False
            self._observer.waited(self._clock() - call.came)
        try:
            step = await self._thread.run(lambda: call.work.prepare(unit))
        except Exception as error:
            self._ended(call, error)
            return
        began_and_ended: list[float] = []
        loop = asyncio.get_running_loop()
        self._lanes.submit(_timed(step, call.dropped, began_and_ended)).add_done_callback(
            lambda done: loop.call_soon_threadsafe(self._computed, call, unit, done.exception(), began_and_ended)
        )

    def _computed(self, call: _Call, unit: int, error: BaseException | None, times: list[float]) -> None:
        if error is None:
            seconds, positions = times[1] - times[0], call.work.units[unit]
            self.cost.observe(positions, seconds)
            self._observer.computed(positions, call.work.flops(unit), seconds)
        self._ended(call, error)

    def _ended(self, call: _Call, error: BaseException | None) -> None:
        """A unit is over: its place is free, and its call perhaps done."""
        self._free_places += 1
        self._dispatch_soon()
        call.left -= 1
        if call.done.done():
            return
        if error is not None:
            call.done.set_exception(error)
        elif not call.left:
            call.done.set_result(None)

    def _most_tokens(self) -> int:
        return int(_WAITING_S * self._lanes.count / self.cost.a_s)

    def _wait_s(self, tokens: int) -> float:
        """Expected time until so many tokens are computed, in units of the size that is usual."""
        return self.cost.seconds(tokens, round(tokens / self.cost.usual_positions)) / self._lanes.count


def _timed(step: Step, dropped: Callable[[], bool], times: list[float]) -> Step:
    """The step, unless nobody waits for it by then, noting when it began and ended on its own thread."""

    def run() -> None:
        if dropped():
            raise CallDroppedError
        times.append(time.perf_counter())
        step()
        times.append(time.perf_counter())

    return run
