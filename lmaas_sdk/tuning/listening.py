"""How the events of a run come to those who want them: by a callback, or by iterating over them."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypeVar

from lmaas_sdk.logs import log_event
from lmaas_sdk.tuning.interruption import ended

__all__ = ["Listening", "RunEvents"]

_LONGEST_S = 60.0  # that one event may hold up the end of a run
_P = ParamSpec("_P")
_E = TypeVar("_E")
_R = TypeVar("_R")
_logger = logging.getLogger("lmaas_sdk.tuning")


class Listening(Generic[_P]):
    """Brings events to a callback, in order, while some work goes on.

    A plain function is called at once, on the loop's thread. What an async one returns is awaited by a task of this
    object's own, one event after the other: the work goes on meanwhile, and events wait for a callback that is slow.
    When the work is over they are all delivered before `during` returns, unless one of them takes longer than a minute:
    then it and the rest are dropped, and that is logged.

    Args:
        listener: The callback.
    """

    def __init__(self, listener: Callable[_P, Awaitable[None] | None]) -> None:
        self._listener = listener
        self._waiting: asyncio.Queue[Awaitable[None] | None] = asyncio.Queue()  # None: that was all
        self._delivered = 0
        self._failure: Exception | None = None
        self._work: asyncio.Task[Any] | None = None

    def tell(self, *args: _P.args, **named: _P.kwargs) -> None:
        """Takes an event. It never raises: what it is called by is no place for an error of the callback."""
        if self._failure is not None:
            return
        try:
            told = self._listener(*args, **named)
        except Exception as error:  # `during` raises it
            self._fail(error)
        else:
            if inspect.isawaitable(told):
                self._waiting.put_nowait(told)

    async def during(self, work: Coroutine[Any, Any, _R]) -> _R:
        """Runs the work, in which `tell` may be called. No task is left when this returns.

        Raises:
            Exception: What the callback raised: the work was cancelled then, and has ended.
            BaseException: What the work raised, after its last event was delivered.
        """
        task = asyncio.create_task(work)
        self._work = task
        delivery = asyncio.create_task(self._deliver())
        try:
            await asyncio.wait((task,))
            self._waiting.put_nowait(None)
            await self._delivered_all(delivery)
        finally:
            await ended(task, delivery)
            self._drop()
            if not task.cancelled():
                task.exception()  # read, so that nobody reports it as never retrieved
        if self._failure is not None:
            raise self._failure
        return task.result()

    async def _deliver(self) -> None:
        while (told := await self._waiting.get()) is not None:
            try:
                await told
            except asyncio.CancelledError:
                if _is_being_cancelled():
                    raise
                self._fail(RuntimeError("what on_event awaited was cancelled"))
            except Exception as error:  # `during` raises it
                self._fail(error)
            if self._failure is not None:
                return
            self._delivered += 1

    def _fail(self, failure: Exception) -> None:
        self._failure = failure
        if self._work is not None:
            self._work.cancel()

    async def _delivered_all(self, delivery: asyncio.Task[None]) -> None:
        before = -1
        while not delivery.done() and before != self._delivered:
            before = self._delivered
            await asyncio.wait((delivery,), timeout=_LONGEST_S)
        if not delivery.done():
            log_event(
                _logger,
                logging.WARNING,
                "events_dropped",
                "%(events)d events of a run were not delivered: on_event took longer than %(longest_s).0f s for one",
                events=self._waiting.qsize(),  # one of them marks the end; the one that takes so long is none of them
                longest_s=_LONGEST_S,
            )

    def _drop(self) -> None:
        while not self._waiting.empty():
            told = self._waiting.get_nowait()
            if inspect.iscoroutine(told):
                told.close()  # else it would be reported as never awaited


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class RunEvents(Generic[_E, _R]):
    """A run that is iterated over: `async with tuner.events(train) as run: async for event in run: ...`.

    The run goes on while an event is looked at. It ends with the block: whoever leaves it before the last event, by
    `break`, an error or a cancellation, cancels the run, and what it had sent is booked; `Tuner.stop` ends it with a
    result. When the block is left no task is.

    Args:
        begin: Makes the run, given what takes its events.

    Raises:
        BaseException: Iterating raises what the run raised, after its last event; so does leaving the block, if nobody
            has iterated that far and nothing else is raised.
    """

    def __init__(self, begin: Callable[[Callable[[_E], None]], Coroutine[Any, Any, _R]]) -> None:
        self._begin = begin
        self._events: asyncio.Queue[tuple[_E] | None] = asyncio.Queue()  # None: that was all
        self._run: asyncio.Task[_R] | None = None
        self._is_told = False  # that the run is over, and how

    @property
    def result(self) -> _R:
        """What the run returned.

        Raises:
            RuntimeError: It is not over, or was cancelled.
            BaseException: What the run raised.
        """
        if self._run is None or not self._run.done():
            raise RuntimeError("the run is under way: its result is there after its last event")
        if self._run.cancelled():
            raise RuntimeError("the run was cancelled and has no result: iterate to its last event, or use stop()")
        return self._run.result()

    async def __aenter__(self) -> Self:
        if self._run is not None:
            raise RuntimeError("these are the events of one run: ask for others")
        self._run = asyncio.create_task(self._begin(lambda event: self._events.put_nowait((event,))))
        self._run.add_done_callback(lambda _: self._events.put_nowait(None))
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _E:
        if self._run is None:
            raise RuntimeError("the run has not begun: iterate inside of `async with`")
        event = await self._events.get()
        if event is not None:
            return event[0]
        self._events.put_nowait(None)  # for whoever asks again
        self._is_told = True
        self._run.result()
        raise StopAsyncIteration

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._run is None:
            return
        await ended(self._run)
        failure = None if self._run.cancelled() else self._run.exception()
        if failure is not None and error is None and not self._is_told:
            raise failure
