"""The rows of a cache file: how an entry is checked, and the statements that read and write."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path

__all__ = ["APPLICATION_ID", "FILE_ERRORS", "CacheRows", "CorruptEntry"]

# What a damaged file or a full disk may raise. SQLite's own messages may quote damaged bytes that are no text.
FILE_ERRORS = (sqlite3.Error, MemoryError, UnicodeDecodeError)

APPLICATION_ID = 0x6C6D6361  # "lmca": tells a cache from any other SQLite file
_VERSION = 1
_TABLES = (
    """CREATE TABLE replies (       -- `used`: the higher, the later it was used
      query TEXT PRIMARY KEY, used INTEGER NOT NULL, check_sum BLOB NOT NULL, reply BLOB NOT NULL
    ) STRICT""",
    "CREATE INDEX replies_by_use ON replies (used)",
    "CREATE TABLE size (bytes INTEGER NOT NULL) STRICT",  # of all entries, so that nobody has to add them up
    "INSERT INTO size VALUES (0)",
)
_ENTRY_BYTES = 200  # of an entry, beside its reply: the query, the check sum and the places in both indices
_CHECK_SUM_BYTES = 16
_OPENING_WAIT_S, _PAUSE_S = 10.0, 0.01
_MOST_WAL_BYTES = 16 << 20  # that are left on disk after a large answer

_SIZE = "SELECT ifnull(CAST(bytes AS INTEGER), 0) FROM size"
_GET = "SELECT check_sum, reply FROM replies WHERE query = ?"
_PUT = """INSERT INTO replies (query, used, check_sum, reply)
  VALUES (?, (SELECT ifnull(max(used), 0) + 1 FROM replies), ?, ?)"""
_TOUCH = "UPDATE replies SET used = (SELECT max(used) + 1 FROM replies) WHERE query = ?"
_DROP = "DELETE FROM replies WHERE query = ? RETURNING length(reply)"
_DROP_OLDEST = """DELETE FROM replies WHERE rowid = (SELECT rowid FROM replies ORDER BY used LIMIT 1)
  RETURNING length(reply)"""


class CorruptEntry(ValueError):
    """The bytes of an entry are not those that were written, or answer another query."""


class CacheRows:
    """An open cache file; for one thread.

    Args:
        path: Where it is; made where it is not.
        max_bytes: Of all entries; the least recently used goes first.

    Raises:
        ValueError: It cannot be opened, or is no cache, or one of another version.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        try:
            self._connection = sqlite3.connect(path, timeout=_OPENING_WAIT_S, isolation_level=None)
        except sqlite3.Error as error:
            raise ValueError(f"{path} cannot be opened as a cache ({error}): give another path") from error
        try:
            self._prepare(path)
        except FILE_ERRORS as error:
            self._connection.close()
            raise ValueError(
                f"{path} cannot be used as a cache ({error}): give another path, or delete it if it was one"
            ) from error
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        with suppress(sqlite3.Error):  # the checkpoint can be done by whoever opens it next
            self._connection.close()

    def wait_for_others(self, most_s: float) -> None:
        """How long to wait, from now on, for another process that writes."""
        self._connection.execute(f"PRAGMA busy_timeout = {round(most_s * 1000)}")

    def get(self, query: str) -> bytes | None:
        """The bytes kept for a query.

        Raises:
            CorruptEntry: They are not those that were put there.
            FILE_ERRORS: They cannot be read.
        """
        rows = self._connection.execute(_GET, (query,)).fetchall()
        if not rows:
            return None
        check_sum, reply = rows[0]
        if not isinstance(reply, bytes) or check_sum != _check_sum(query, reply):
            raise CorruptEntry("its check sum is another")
        return reply

    def put(self, query: str, reply: bytes, *, used: Iterable[str] = ()) -> None:
        """Keeps bytes for a query, in place of what was kept for it.

        Args:
            query: Its digest.
            reply: What to keep; it is left out where it is larger than all may be together.
            used: Queries whose entries were used since the last time, in this order.

        Raises:
            FILE_ERRORS: It cannot be written; nothing has changed.
        """
        with self._transaction():
            self._drop(query)
            self._connection.executemany(_TOUCH, [(other,) for other in used])
            if len(reply) + _ENTRY_BYTES <= self._max_bytes:
                self._connection.execute(_PUT, (query, _check_sum(query, reply), reply))
                self._trim(len(reply) + _ENTRY_BYTES)

    def drop(self, query: str) -> None:
        """Deletes an entry.

        Raises:
            FILE_ERRORS: It cannot be written.
        """
        with self._transaction():
            self._drop(query)

    def touch(self, used: Iterable[str]) -> None:
        """Notes that entries were used, in this order.

        Raises:
            FILE_ERRORS: It cannot be written.
        """
        with self._transaction():
            self._connection.executemany(_TOUCH, [(query,) for query in used])

    def _drop(self, query: str) -> None:
        freed = sum((length or 0) + _ENTRY_BYTES for (length,) in self._connection.execute(_DROP, (query,)).fetchall())
        if freed:
            self._connection.execute("UPDATE size SET bytes = bytes - ?", (freed,))

    def _trim(self, added: int) -> None:
        """Makes room for what was added."""
        size = self._size() + added
        while size > self._max_bytes:
            dropped = self._connection.execute(_DROP_OLDEST).fetchall()
            if not dropped:  # the count and the entries disagree: something has damaged the file
                self._connection.execute("DELETE FROM replies")
                size = 0
            size -= sum((length or 0) + _ENTRY_BYTES for (length,) in dropped)
        self._connection.execute("UPDATE size SET bytes = ?", (size,))

    def _size(self) -> int:
        ((size,),) = self._connection.execute(_SIZE).fetchall() or ((0,),)
        return int(size)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                with suppress(sqlite3.Error):  # the error that led here is the one to tell
                    self._connection.execute("ROLLBACK")
            raise

    def _prepare(self, path: Path) -> None:
        self._connection.execute("PRAGMA trusted_schema = OFF")
        self._connection.execute("PRAGMA cell_size_check = ON")
        if not self._connection.execute("PRAGMA page_count").fetchall()[0][0]:
            self._connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # heeded only while the file is empty
        with self._transaction():  # of two processes that open a new file, one makes the tables
            self._make_tables(path)
        _persuade(lambda: self._connection.execute("PRAGMA journal_mode = WAL").fetchall())
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute(f"PRAGMA journal_size_limit = {_MOST_WAL_BYTES}")
        self._connection.execute(_GET, ("",)).fetchall()
        if self._size() > self._max_bytes:  # it was opened with a larger bound the last time
            with self._transaction():
                self._trim(0)
            self._connection.executescript("PRAGMA incremental_vacuum")  # `execute` would free one page and stop

    def _make_tables(self, path: Path) -> None:
        application, version, tables = (
            self._connection.execute(statement).fetchall()[0][0]
            for statement in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_schema")
        )
        if tables == 0 and application == 0:
            for statement in _TABLES:
                self._connection.execute(statement)
            self._connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._connection.execute(f"PRAGMA user_version = {_VERSION}")
        elif application != APPLICATION_ID:
            raise ValueError(f"{path} is an SQLite file of something else, not a cache of answers: give another path")
        elif version != _VERSION:
            raise ValueError(
                f"{path} is a cache of schema {version}, and this version of lmaas-sdk reads {_VERSION}: "
                "give another path, or delete the file"
            )


def _check_sum(query: str, reply: bytes) -> bytes:
    """Of the reply and the query that it answers: an entry in the place of another has the wrong one."""
    hashed = blake2b(query.encode(), digest_size=_CHECK_SUM_BYTES)
    hashed.update(b"\n")
    hashed.update(reply)
    return hashed.digest()


def _persuade(step: Callable[[], object]) -> None:
    """Repeats what SQLite refuses at once, without waiting, while another process opens the file too."""
    deadline_s = time.monotonic() + _OPENING_WAIT_S
    while True:
        try:
            step()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline_s:
                raise
            time.sleep(_PAUSE_S)
        else:
            return
