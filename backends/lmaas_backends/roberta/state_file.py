"""A server's state in SQLite: one thread that writes, and commits together what waits together."""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from lmaas_backends.roberta.state_schema import StateFileError, migrate

__all__ = ["StateFile"]

_T = TypeVar("_T")
Work = Callable[[sqlite3.Connection], _T]

_MEMORY = ":memory:"
_LOCKED_WAIT_S = 30.0
_MOST_TOGETHER = 256
_CACHE_KIB = 16 << 10
_MOST_WAL_BYTES = 64 << 20  # that are left on disk after a large answer


@dataclass(eq=False, slots=True)
class _Job:
    """A piece of work, and where its outcome goes."""

    work: Work[Any]
    done: Future[Any] = field(default_factory=Future)
    result: Any = None
    error: BaseException | None = None


class StateFile:
    """A database that outlives this process, or with no path one that does not.

    Several processes on one machine may have the same file open. Each work runs inside a transaction that no other
    writer interrupts, and is committed before its result is given out: what was told is still there after a SIGKILL.

    Use it as an async context manager. `replica` is the id of this opening.

    Args:
        path: Of the file; None: in memory.
        on_undone: Called on the writer's thread after a transaction was undone, whose works may have been run.
    """

    def __init__(self, path: Path | None = None, *, on_undone: Callable[[], None] = lambda: None) -> None:
        self.replica = uuid.uuid4().hex
        self._path, self._on_undone = path, on_undone
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._opened: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="server-state", daemon=True)
        self._alive = None if path is None else FileLock(_mark(path, self.replica))

    async def __aenter__(self) -> StateFile:
        """Opens the file.

        Raises:
            StateFileError: It cannot be used.
        """
        self._thread.start()
        try:
            await asyncio.wrap_future(self._opened)
        except (sqlite3.Error, OSError) as error:
            raise StateFileError(f"the state file {self._path} cannot be used: {error}") from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finishes what was submitted, and lets go of the file."""
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    async def execute(self, work: Work[_T]) -> _T:
        """What `work` returns, once it is committed.

        Raises:
            sqlite3.Error: It could not be committed; nothing of it holds.
            Exception: Whatever `work` raised; nothing of it holds.
        """
        return await asyncio.wrap_future(self.submit(work))

    def submit(self, work: Work[_T]) -> Future[_T]:
        """Has `work` done after all that was submitted before, without waiting for it."""
        job = _Job(work)
        self._jobs.put(job)
        return job.done

    def is_alive(self, replica: str) -> bool:
        """Whether the process that opened the file under this id still has it open."""
        if replica == self.replica or self._path is None:
            return replica == self.replica
        mark = FileLock(_mark(self._path, replica), blocking=False)
        try:
            with mark:
                Path(mark.lock_file).unlink(missing_ok=True)
        except Timeout:
            return True
        return False

    def _run(self) -> None:
        try:
            connection = self._open()
        except BaseException as error:
            self._opened.set_exception(error)
            return
        self._opened.set_result(None)
        try:
            while batch := self._next_batch():
                self._commit(connection, batch)
        finally:
            connection.close()
            self._let_go()

    def _open(self) -> sqlite3.Connection:
        if self._path is not None and self._alive is not None:
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))  # answers are for their askers alone
            self._alive.acquire(blocking=False)
        path = _MEMORY if self._path is None else str(self._path)
        connection = sqlite3.connect(path, timeout=_LOCKED_WAIT_S, isolation_level=None, cached_statements=256)
        try:
            _persuade(lambda: connection.execute("PRAGMA journal_mode = WAL"))
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            connection.execute(f"PRAGMA journal_size_limit = {_MOST_WAL_BYTES}")
            migrate(connection, path)
        except BaseException:
            connection.close()
            self._let_go()
            raise
        return connection

    def _let_go(self) -> None:
        if self._alive is not None:
            self._alive.release()
            Path(self._alive.lock_file).unlink(missing_ok=True)

    def _next_batch(self) -> list[_Job]:
        """All jobs that wait, at least one; none when the file is to be closed."""
        job = self._jobs.get()
        batch: list[_Job] = []
        while job is not None:
            batch.append(job)
            if len(batch) == _MOST_TOGETHER or self._jobs.empty():
                return batch
            job = self._jobs.get()
        if batch:
            self._jobs.put(None)
        return batch

    def _commit(self, connection: sqlite3.Connection, batch: list[_Job]) -> None:
        batch = [job for job in batch if job.done.set_running_or_notify_cancel()]
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job in batch:
                self._do(connection, job)
            connection.execute("COMMIT")
        except Exception as error:
            _roll_back(connection)
            self._on_undone()
            for job in batch:
                job.error = job.error or error
        for job in batch:
            if job.error is None:
                job.done.set_result(job.result)
            else:
                job.done.set_exception(job.error)

    def _do(self, connection: sqlite3.Connection, job: _Job) -> None:
        connection.execute("SAVEPOINT job")
        try:
            job.result = job.work(connection)
        except Exception as error:
            job.error = error
            connection.execute("ROLLBACK TO job")
            self._on_undone()
        connection.execute("RELEASE job")


def _mark(path: Path, replica: str) -> str:
    """A file that is locked for as long as the process that opened the state lives."""
    return f"{path}.{replica}.alive"


def _persuade(step: Callable[[], object]) -> None:
    """Repeats what SQLite refuses at once, without waiting, while another process opens the file too."""
    deadline = time.monotonic() + _LOCKED_WAIT_S
    while True:
        try:
            step()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")
