"""Virtual time: an event loop whose clock jumps to the next timer instead of waiting for it."""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar

__all__ = ["VirtualDeadlock", "VirtualLoop", "run_virtual"]

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

T = TypeVar("T")
_MOST_TASKS_NAMED = 8
_RESOLUTION_S = 1e-9


class VirtualDeadlock(RuntimeError):
    """Everything waits and nothing can ever wake it: no timer is set, no thread is at work, no callback is ready."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time: weeks pass in milliseconds, and timers fire in the order of their times.

    The clock starts at 0 and stands still while anything is ready, or a thread of `run_in_executor` or
    `asyncio.to_thread` is at work: work takes no time, only waiting does. Threads that the loop was not told of,
    sockets and child processes are not waited for; leave those to a loop in real time.

    Args:
        threads: Whether work that is meant for threads gets some. False: it is done on the loop's own, one piece after
            another, which is faster where there is much of it; it must not wait for anything that the loop does.
    """

    def __init__(self, *, threads: bool = True) -> None:
        self._has_threads = threads
        self._now_s = 0.0
        self._threads = 0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now_s

    @property
    def _clock_resolution(self) -> float:
        """A timer is due for asyncio when it is below now and this: after 194 days a nanosecond is lost in the sum."""
        return max(_RESOLUTION_S, math.ulp(self._now_s))

    @_clock_resolution.setter
    def _clock_resolution(self, _of_the_real_clock: float) -> None: ...

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """As asyncio's; until the work is done, virtual time stands still."""
        if not self._has_threads:
            return self._soon(func, *args)
        future: asyncio.Future[T] = super().run_in_executor(executor, func, *args)
        self._threads += 1
        future.add_done_callback(self._thread_done)
        return future

    def _soon(self, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """Does the work in a turn of its own, as nobody expects it to be done before he waits for it."""

        async def turn() -> T:
            return func(*args)

        return self.create_task(turn(), context=Context())  # as empty as a new thread's

    async def shutdown_default_executor(self, *args: Any) -> None:
        """As asyncio's; its waiting for threads is real."""
        self._threads += 1
        try:
            await super().shutdown_default_executor(*args)
        finally:
            self._threads -= 1

    def _thread_done(self, _future: asyncio.Future[Any]) -> None:
        self._threads -= 1

    def _pass_time(self, timeout_s: float | None) -> None:
        """Jumps to the next timer, `timeout_s` away; None: there is none."""
        if timeout_s is None:
            raise VirtualDeadlock(f"nothing is ready, scheduled or in a thread; waiting: {self._waiting()}")
        self._now_s += max(0.0, timeout_s)

    def _waiting(self) -> str:
        names = sorted(f"{task.get_name()} ({task.get_coro()!r})" for task in asyncio.all_tasks(self))
        more = len(names) - _MOST_TASKS_NAMED
        return ", ".join(names[:_MOST_TASKS_NAMED]) + (f" and {more} more" if more > 0 else "")


class _JumpingSelector(selectors.BaseSelector):
    """A real selector that never waits for a timer: where it would, the loop's clock is moved on."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if ready or timeout == 0:
            return ready
        if self._loop._threads:
            return self._real.select(None)  # a thread that ends writes to the loop's own pipe
        self._loop._pass_time(timeout)
        return []

    def register(self, fileobj: FileDescriptorLike, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: FileDescriptorLike, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[FileDescriptorLike, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


def run_virtual(main: Coroutine[Any, Any, T], *, threads: bool = True) -> T:
    """Runs a coroutine to its end in virtual time, as `asyncio.run` does in real time.

    Args:
        main: The coroutine.
        threads: As of `VirtualLoop`.

    Raises:
        VirtualDeadlock: It waits for something that can never happen.
        RuntimeError: An event loop already runs in this thread.
    """
    if _a_loop_runs():
        main.close()  # else it would be reported, somewhere else, as never awaited
        raise RuntimeError("an event loop runs in this thread: call run_virtual from outside of it")
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(threads=threads)) as runner:
        return runner.run(main)


def _a_loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
