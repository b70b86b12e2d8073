"""Identical calls at the same time are one call: who comes later waits for the one that is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Generic, TypeVar

from lmaas_sdk.settled import settled

__all__ = ["Coalescer"]

T = TypeVar("T")


class _Shared(Generic[T]):
    """A call under way.

    Attributes:
        task: The call, in a task of its own.
        waiters: One future for everybody who waits for its end, first come first. None of them ever fails, and one is
            only cancelled with whoever waits, so that the end of a call is not taken for the cancellation of an asker.
        is_abandoned: The last asker has gone, and the call was told to end.
    """

    __slots__ = ("is_abandoned", "task", "waiters")

    def __init__(self, start: Callable[[], Awaitable[T]]) -> None:
        self.waiters: dict[asyncio.Future[None], None] = {}
        self.is_abandoned = False
        self.task: asyncio.Task[T] = asyncio.create_task(_run(start))

    def wake(self) -> None:
        """Tells everybody that the call has ended."""
        if not self.task.cancelled():
            self.task.exception()  # read, so that nobody reports it as never retrieved where all have gone
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)


class Coalescer(Generic[T]):
    """Calls under way, by digest: never more than one of a digest.

    The shared call goes on for as long as somebody waits for it: cancelling the first asker does not cancel the others,
    cancelling the last one cancels the call, and its end is waited for.

    Args:
        own_affairs: Errors that are the first asker's alone (its budget, its patience): whoever joined starts again.
    """

    def __init__(self, own_affairs: tuple[type[Exception], ...] = ()) -> None:
        self._own_affairs = own_affairs
        self._under_way: dict[str, _Shared[T]] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    async def run(self, digest: str, start: Callable[[], Awaitable[T]]) -> tuple[T, bool]:
        """The outcome of a call, and whether this asker only joined another's.

        Args:
            digest: Equal digests, equal calls.
            start: Makes the call where none is under way.

        Raises:
            Exception: What the call raised; its own affairs only for the asker who started it.
        """
        while True:
            shared = self._under_way.get(digest)
            joins = shared is not None
            if shared is None:
                shared = self._begin(digest, start)
            await _end_of(shared)
            if not (joins and self._is_no_answer(shared)):
                return shared.task.result(), joins

    def _begin(self, digest: str, start: Callable[[], Awaitable[T]]) -> _Shared[T]:
        shared: _Shared[T] = _Shared(start)
        self._under_way[digest] = shared
        shared.task.add_done_callback(partial(self._end, digest, shared))
        return shared

    def _end(self, digest: str, shared: _Shared[T], _: asyncio.Task[T]) -> None:
        del self._under_way[digest]
        shared.wake()

    def _is_no_answer(self, shared: _Shared[T]) -> bool:
        """Whether it ended for a reason that only concerns those who asked before."""
        if shared.task.cancelled():
            return True
        error = shared.task.exception()
        return isinstance(error, self._own_affairs) or (error is not None and shared.is_abandoned)


async def _run(start: Callable[[], Awaitable[T]]) -> T:
    return await start()


async def _end_of(shared: _Shared[T]) -> None:
    """Waits for the end of a call; whoever is the last to be cancelled meanwhile cancels the call.

    Who joins a call that was told to end waits for that too, and is none of its askers.
    """
    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    shared.waiters[waiter] = None
    try:
        await waiter
    except asyncio.CancelledError:
        del shared.waiters[waiter]
        if not shared.waiters and not shared.is_abandoned and not shared.task.done():
            shared.is_abandoned = True
            await _end(shared.task)
        raise


async def _end(task: asyncio.Task[T]) -> None:
    """Cancels a task and waits for its end, through further cancellations of the one who waits."""
    task.cancel()
    await settled(task)  # who was cancelled raises that, once nothing is left behind
