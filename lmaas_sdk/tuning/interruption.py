"""A run that is told to stop: it waits a little for what is under way, and no longer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar, runtime_checkable

__all__ = ["Interrupted", "Stoppable", "ended", "unless_stopped"]

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


async def unless_stopped(work: Coroutine[Any, Any, _T], stop: asyncio.Event, *, grace_s: float = GRACE_S) -> _T:
    """What `work` returns.

    Args:
        work: What to do; it is cancelled, and its end waited for, if this is or if it takes too long.
        stop: Set when it should come to an end.
        grace_s: How long it may then still take: for answers that are paid for already.

    Raises:
        Interrupted: It took longer.
    """
    task, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            await asyncio.wait((task,), timeout=grace_s)
        if not task.done():
            raise Interrupted
        return task.result()
    finally:
        await ended(task, stopping)
        if not task.cancelled():
            task.exception()  # read, so that nobody reports it as never retrieved


async def ended(*tasks: asyncio.Task[Any]) -> None:
    """Cancels tasks and waits for their end, through further cancellations of the one who waits."""
    for task in tasks:
        task.cancel()
    was_cancelled = False
    while not all(task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError:
            was_cancelled = True
    if was_cancelled:
        raise asyncio.CancelledError
