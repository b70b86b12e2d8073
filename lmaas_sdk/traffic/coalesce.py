"""Identical calls at the same time are one call: who comes later waits for the one that is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

__all__ = ["Coalescer"]

T = TypeVar("T")


class _Shared(Generic[T]):
    """A call under way, in a task of its own, and how many wait for it."""

    __slots__ = ("askers", "task")

    def __init__(self, start: Callable[[], Awaitable[T]]) -> None:
        self.askers = 0
        self.task: asyncio.Task[T] = asyncio.create_task(_run(start))


class Coalescer(Generic[T]):
    """Calls under way, by digest.

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
                shared = self._started(digest, start)
            try:
                return await self._outcome(digest, shared), joins
            except self._own_affairs:
                if not joins:
                    raise

    def _started(self, digest: str, start: Callable[[], Awaitable[T]]) -> _Shared[T]:
        shared = self._under_way[digest] = _Shared(start)
        shared.task.add_done_callback(lambda _: self._forget(digest, shared))
        return shared

    async def _outcome(self, digest: str, shared: _Shared[T]) -> T:
        shared.askers += 1
        try:
            return await asyncio.shield(shared.task)
        finally:
            shared.askers -= 1
            if not shared.askers and not shared.task.done():
                self._forget(digest, shared)  # who comes now begins anew
                await _end(shared.task)

    def _forget(self, digest: str, shared: _Shared[T]) -> None:
        if self._under_way.get(digest) is shared:
            del self._under_way[digest]


async def _run(start: Callable[[], Awaitable[T]]) -> T:
    return await start()


async def _end(task: asyncio.Task[T]) -> None:
    """Cancels a task and waits for its end, through further cancellations of the one who waits.

    The task's own outcome is of no use to anybody: the only one who asked has gone.
    """
    task.cancel()
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if not task.cancelled():
        task.exception()  # read, so that nobody reports it as never retrieved
    if cancelled is not None:
        raise cancelled
