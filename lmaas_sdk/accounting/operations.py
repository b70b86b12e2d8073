"""What waits to be booked by a writer thread, and how its outcome comes back to tasks and threads."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import Any, Generic, TypeVar

from lmaas_sdk.accounting.book import Book
from lmaas_sdk.side_thread import has_own_executor_calls

__all__ = ["Mailbox", "Operation"]

T = TypeVar("T")


class Operation(Generic[T]):
    """One piece of work on the books.

    Args:
        work: Does it, in a transaction, or raises and changes nothing.
        undo: Takes it back, should whoever asked for it no longer wait when it is booked.
        callback: Called in the asking thread once it is booked.

    Attributes:
        result, error: What came of it.
        state: "queued", "taken", "done" or "dropped".
        is_abandoned: Nobody waits any more.
    """

    __slots__ = ("callback", "error", "event", "is_abandoned", "mailbox", "result", "state", "undo", "waiter", "work")

    def __init__(
        self,
        work: Callable[[Book], T],
        undo: Callable[[Book], None] | None = None,
        *,
        callback: Callable[[], None] | None = None,
    ) -> None:
        self.work, self.undo, self.callback = work, undo, callback
        self.result: T | None = None
        self.error: BaseException | None = None
        self.state, self.is_abandoned = "queued", False
        self.event: threading.Event | None = None
        self.mailbox: Mailbox | None = None
        self.waiter: asyncio.Future[None] | None = None

    def apply(self, book: Book) -> None:
        """Does the work; what it raises is kept for whoever asked."""
        try:
            self.result = self.work(book)
        except Exception as error:
            self.error = error

    def outcome(self) -> T:
        """The result, or raises the error."""
        if self.error is not None:
            try:
                raise self.error
            finally:
                self.error = None  # a frame in its traceback refers to this operation
        return self.result  # type: ignore[return-value]  # done without an error: work returned it


class Mailbox:
    """Brings outcomes to one event loop: however many at once, the loop is woken once.

    A loop with an executor call of its own (one in virtual time) sees such a call under way while anything is awaited,
    so that its clock stands still. Any other loop is spared it: it takes three times as long.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._lock = threading.Lock()
        self._has_own_calls = has_own_executor_calls(loop)
        self._arrived: list[Operation[Any]] = []
        self._awaited = 0
        self._tickets = _Tickets()
        self._ticket: Future[None] | None = None

    @property
    def is_closed(self) -> bool:
        """Whether the loop is gone."""
        loop = self._loop()
        return loop is None or loop.is_closed()

    def expect(self, operation: Operation[Any]) -> None:
        """Announces, on the loop's thread, an operation that is about to be queued."""
        operation.mailbox = self
        if not self._has_own_calls:
            return
        self._awaited += 1
        if self._ticket is None:
            self._renew()

    def deliver(self, operations: Iterable[Operation[Any]]) -> None:
        """Hands over operations that are done; from any thread."""
        if not self._has_own_calls:
            self._wake(operations)
            return
        with self._lock:
            self._arrived.extend(operations)
            ticket = self._ticket
            if ticket is None or ticket.done() or self.is_closed:
                return
            ticket.set_result(None)

    def _wake(self, operations: Iterable[Operation[Any]]) -> None:
        with self._lock:
            is_awake = bool(self._arrived)
            self._arrived.extend(operations)
        loop = self._loop()
        if not is_awake and loop is not None:
            with suppress(RuntimeError):  # it was closed, and nobody waits any more
                loop.call_soon_threadsafe(self._hand_out_all)

    def _hand_out_all(self) -> None:
        with self._lock:
            arrived, self._arrived = self._arrived, []
        _hand_out(arrived)

    def _renew(self) -> None:
        loop = asyncio.get_running_loop()
        under_way = loop.run_in_executor(self._tickets, _nothing)
        self._ticket = self._tickets.last
        under_way.add_done_callback(self._hand_out_ended)

    def _hand_out_ended(self, _: asyncio.Future[None]) -> None:
        with self._lock:
            arrived, self._arrived = self._arrived, []
            self._ticket = None
            self._awaited -= len(arrived)
            if self._awaited:
                self._renew()
        _hand_out(arrived)


class _Tickets(Executor):
    """An executor that runs nothing: what it returns is ended by whoever delivers."""

    last: Future[None]

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.last = Future()
        return self.last


def _hand_out(arrived: Iterable[Operation[Any]]) -> None:
    loop = asyncio.get_running_loop()
    for operation in arrived:
        if operation.waiter is not None and not operation.waiter.done():
            operation.waiter.set_result(None)
        if operation.callback is not None and operation.error is None:
            loop.call_soon(operation.callback)  # on its own: what it raises keeps nothing from the others


def _nothing() -> None:
    """Stands for the work that a writer thread does."""
