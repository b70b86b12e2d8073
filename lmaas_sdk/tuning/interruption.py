"""A run that is told to stop: it waits a little for what is under way, and no longer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar, runtime_checkable

from lmaas_sdk.settled import settled

__all__ = ["Interrupted", "Stop", "Stoppable", "ended", "unless_stopped"]

GRACE_S = 10.0
_T = TypeVar("_T")


@runtime_checkable
class Stoppable(Protocol):
    """What can be told to end with what it has found."""

    def stop(self) -> None:
        """Ends what is under way, soon."""
        ...


class Interrupted(Exception):
    """The run was told to stop, and what it was doing was not done in time."""


class Stop(asyncio.Event):
    """Set when a run should come to an end; who waits for that needs no task of his own."""

    def __init__(self) -> None:
        super().__init__()
        self._told: list[Callable[[], None]] = []

    def set(self) -> None:
        super().set()
        told, self._told = self._told, []
        for tell in told:
            tell()

    @contextmanager
    def telling(self, tell: Callable[[], None]) -> Iterator[None]:
        """Inside, `tell` is called when this is set; at once, if it is."""
        if self.is_set():
            tell()
        else:
            self._told.append(tell)
        try:
            yield
        finally:
            if tell in self._told:
                self._told.remove(tell)


async def unless_stopped(work: Coroutine[Any, Any, _T], stop: Stop, *, grace_s: float = GRACE_S) -> _T:
    """What `work` returns.

    Args:
        work: What to do; it is cancelled, and its end waited for, if this is or if it takes too long.
        stop: Set when it should come to an end.
        grace_s: How long it may then still take: for answers that are paid for already.

    Raises:
        Interrupted: It took longer.
    """
    loop = asyncio.get_running_loop()
    task, woken = asyncio.create_task(work), loop.create_future()
    timers: list[asyncio.TimerHandle] = []

    def wake(_: object = None) -> None:
        if not woken.done():
            woken.set_result(None)

    task.add_done_callback(wake)  # `asyncio.wait` does the same, and takes as long as all the rest
    try:
        with stop.telling(lambda: timers.append(loop.call_later(grace_s, wake))):
            await woken
        if not task.done():
            raise Interrupted
        return task.result()
    finally:
        for timer in timers:
            timer.cancel()
        await ended(task)
        if not task.cancelled():
            task.exception()  # read, so that nobody reports it as never retrieved


async def ended(*tasks: asyncio.Task[Any]) -> None:
    """Cancels tasks and waits for their end, through further cancellations of the one who waits."""
    for task in tasks:
        task.cancel()
    if await settled(*tasks):
        raise asyncio.CancelledError
