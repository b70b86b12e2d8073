"""The one thread that writes a ledger file: it takes whatever is queued and books it in one transaction."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from lmaas_sdk.accounting.operations import Mailbox, Operation
from lmaas_sdk.errors import LedgerError
from lmaas_sdk.logs import log_event

__all__ = ["Writer"]

_log = logging.getLogger("lmaas_sdk.accounting")
_MOST_AT_ONCE = 512


class Writer:
    """A thread with a queue.

    Args:
        name: What is written, for messages.
        commit: Books a batch in one transaction, or raises and books nothing of it.
        finish: Called on the thread when it ends; whether all was booked until then.
    """

    def __init__(
        self, name: str, commit: Callable[[Sequence[Operation[Any]]], None], finish: Callable[[bool], None]
    ) -> None:
        self._name, self._commit, self._finish = name, commit, finish
        self._queue: SimpleQueue[Operation[Any] | None] = SimpleQueue()
        self._undone: list[Operation[Any]] = []  # goes first, before a later operation could miss it
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        self._is_closing = self._is_over = False
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name=f"ledger {name}", daemon=True)
        self._ends: tuple[Operation[Any], Operation[Any]] | None = None

    def start(self, opening: Operation[Any], closing: Operation[Any]) -> None:
        """Starts the thread.

        Args:
            opening: What it does first; where that fails, it ends.
            closing: What it does, in a transaction of its own, once `close` is called and all else is booked.
        """
        self._ends = (opening, closing)
        self._thread.start()

    def submit(self, operation: Operation[Any]) -> None:
        """Queues an operation, from any thread.

        Raises:
            LedgerError: Nothing can be booked any more.
        """
        with self._lock:
            if self._is_closing or self._failure is not None or os.getpid() != self._pid:
                raise self._refusal()
            self._queue.put(operation)

    def abandon(self, operation: Operation[Any]) -> None:
        """Nobody waits for it any more: it is not begun, or undone."""
        with self._lock:
            state, operation.is_abandoned = operation.state, True
            if state == "queued":
                operation.state = "dropped"
        if state == "done" and operation.error is None and operation.undo is not None:
            with suppress(LedgerError):  # closing does it, or nothing can be booked any more
                self.submit(Operation(operation.undo))

    def close(self) -> None:
        """Nothing is taken any more; what is queued is booked, then the operation that closes."""
        with self._lock:
            if not self._is_closing:
                self._is_closing = True
                self._queue.put(None)

    def join(self) -> None:
        """Waits for the thread to end."""
        if self._thread.is_alive() and os.getpid() == self._pid:
            self._thread.join()

    def _refusal(self) -> LedgerError:
        if os.getpid() != self._pid:
            return LedgerError(f"{self._name} was opened in another process: open it anew after a fork")
        if self._failure is None:
            return LedgerError(f"{self._name} is closed: open it again")
        if isinstance(self._failure, LedgerError):  # a new one each time: raising adds to an error's traceback
            error = LedgerError(str(self._failure))
            error.__cause__ = self._failure.__cause__
            return error
        error = LedgerError(f"{self._name} cannot be written, so nothing is sent any more: {self._failure!r}")
        error.__cause__ = self._failure
        return error

    def _run(self) -> None:
        assert self._ends is not None  # noqa: S101  (start sets it)
        opening, closing = self._ends
        self._settle([opening])
        if opening.error is None:
            while batch := self._next():
                self._settle(batch)
            self._book([closing])
        else:
            self.close()
        self._finish(self._failure is None and opening.error is None)
        self._hand_over([closing])

    def _next(self) -> list[Operation[Any]]:
        """What is done next, in one transaction; nothing: it is over."""
        batch, self._undone = self._undone, []
        while not self._is_over and len(batch) < _MOST_AT_ONCE:
            try:
                operation = self._queue.get_nowait() if batch else self._queue.get()
            except Empty:
                break
            if operation is None:
                self._is_over = True
            else:
                batch.append(operation)
        return batch

    def _settle(self, batch: list[Operation[Any]]) -> None:
        with self._lock:
            taken = [operation for operation in batch if operation.state == "queued"]
            for operation in taken:
                operation.state = "taken"
        if taken:
            self._book(taken)
        self._hand_over(batch)

    def _book(self, batch: Sequence[Operation[Any]]) -> None:
        if self._failure is None:
            try:
                self._commit(batch)
            except BaseException as error:  # whatever it is, nobody may wait for ever, and nothing more be booked
                self._failure = error
                self._tell_failure(batch, error)
        if self._failure is not None:
            for operation in batch:
                operation.error = self._refusal()

    def _tell_failure(self, batch: Sequence[Operation[Any]], error: BaseException) -> None:
        if self._ends is not None and batch[0] is self._ends[0]:
            return  # it was never opened, as the error tells whoever opens it
        message = "%(file)s cannot be written any more: %(problem)s"
        log_event(_log, logging.ERROR, "ledger_unwritable", message, file=self._name, problem=repr(error))

    def _hand_over(self, batch: Sequence[Operation[Any]]) -> None:
        boxes: dict[Mailbox, list[Operation[Any]]] = {}
        with self._lock:
            for operation in batch:
                if operation.state == "taken":
                    operation.state = "done"
                    self._undo_abandoned(operation)
        for operation in batch:
            if operation.event is not None:
                operation.event.set()
            elif operation.mailbox is not None:
                boxes.setdefault(operation.mailbox, []).append(operation)
            elif operation.error is not None and self._failure is None:
                message, problem = "%(file)s refused a booking: %(problem)s", str(operation.error)
                log_event(_log, logging.ERROR, "booking_refused", message, file=self._name, problem=problem)
        for mailbox, operations in boxes.items():
            mailbox.deliver(operations)

    def _undo_abandoned(self, operation: Operation[Any]) -> None:
        is_nobodys = operation.is_abandoned or (operation.mailbox is not None and operation.mailbox.is_closed)
        if is_nobodys and operation.undo is not None and operation.error is None:
            self._undone.append(Operation(operation.undo))
