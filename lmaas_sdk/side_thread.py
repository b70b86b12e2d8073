"""One thread beside an event loop, for what would keep the loop waiting.

Handing work to a `ThreadPoolExecutor` and its outcome back takes two futures with locks of their own, about three times
as long as this; a run does it several times a generation. A loop with executor calls of its own (one in virtual time)
sees such a call under way all the same, so that its clock stands still.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

__all__ = ["SideThread", "has_own_executor_calls"]

_T = TypeVar("_T")


def has_own_executor_calls(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether a loop wants to know of work on threads: its `run_in_executor` is not asyncio's."""
    return type(loop).run_in_executor is not asyncio.BaseEventLoop.run_in_executor


class SideThread:
    """Runs functions one after another; it is started by the first one, and belongs to one event loop at a time.

    Args:
        name: Of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_over = False
        self._tickets = _Tickets(self._put)

    def run(self, function: Callable[[], _T]) -> asyncio.Future[_T]:
        """The function's result, once the thread has come to it; cancelled before that, it is not begun.

        Raises:
            RuntimeError: The thread was ended; or, awaited, the function raised StopIteration, which no future can
                carry, so that nobody would ever hear of it.
        """
        loop = asyncio.get_running_loop()
        if has_own_executor_calls(loop):
            return loop.run_in_executor(self._tickets, lambda: _called(function))
        job: _Job[_T] = _Job(function, loop)
        self._put(job)
        return job.future

    def end(self) -> None:
        """Ends the thread once it has done what it was given; nothing is waited for."""
        self._is_over = True
        self._queue.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    def _put(self, work: Callable[[], None]) -> None:
        if self._is_over:
            raise RuntimeError(f"the thread {self._name!r} was ended: make another one")
        if self._thread is None:
            thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            thread.start()
            self._thread = thread
        self._queue.put(work)

    def _work(self) -> None:
        while (work := self._queue.get()) is not None:
            work()
            del work  # while it waits for more, it keeps nothing alive


@dataclass(slots=True, eq=False)
class _Job(Generic[_T]):
    """A function that is to be called on the thread, and the future on its loop that waits for it."""

    function: Callable[[], _T]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[_T] = field(init=False)

    def __post_init__(self) -> None:
        self.future = self.loop.create_future()

    def __call__(self) -> None:
        if self.future.cancelled():
            return
        try:
            result = _called(self.function)
        except BaseException as error:  # whatever it is, whoever waits is told
            self._tell(self.future.set_exception, error)
        else:
            self._tell(self.future.set_result, result)

    def _tell(self, tell: Callable[[Any], None], outcome: object) -> None:
        with suppress(RuntimeError):  # the loop was closed, and nobody waits any more
            self.loop.call_soon_threadsafe(_unless_done, self.future, tell, outcome)


def _unless_done(future: asyncio.Future[_T], tell: Callable[[Any], None], outcome: object) -> None:
    if not future.done():
        tell(outcome)


class _Tickets(Executor):
    """The thread as an executor."""

    def __init__(self, put: Callable[[Callable[[], None]], None]) -> None:
        self._put = put

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        future: Future[_T] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # as above
                future.set_exception(error)

        self._put(work)
        return future


def _called(function: Callable[[], _T]) -> _T:
    try:
        return function()
    except StopIteration as stop:
        raise RuntimeError("the function raised StopIteration") from stop
