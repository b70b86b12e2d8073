"""Who has a ledger file open, and whether they still live.

Every opening holds a lock on a file beside the ledger. The operating system lets go of it when the process ends,
however it ends, so a lock that can be taken belonged to the dead.
"""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["OwnerLock", "end", "register", "unended"]


class OwnerLock:
    """The lock of one opening of a ledger file.

    Args:
        ledger: The ledger file.
        owner: Names the opening.
    """

    def __init__(self, ledger: Path, owner: str) -> None:
        self.path = ledger.with_name(f"{ledger.name}-owner-{owner}")
        self._lock = FileLock(self.path, thread_local=False)

    def take(self) -> None:
        """Holds it until the process ends, or `drop`."""
        self._lock.acquire(blocking=False)

    def take_again(self) -> None:
        """Holds it anew after somebody has removed its file, of which it still held what nobody else can find."""
        self._lock.release()
        self.take()

    def drop(self, *, remove: bool) -> None:
        """Lets go.

        Args:
            remove: Its owner has ended properly, so that nobody has to look at it again.
        """
        if remove:
            self.path.unlink(missing_ok=True)
        self._lock.release()

    @contextmanager
    def if_dead(self) -> Iterator[bool]:
        """Whether nobody holds it; if so, it is held while the caller puts in order what its owner left.

        Without a file its owner counts as dead: a copy of a ledger has none of its owners. One that is alive all the
        same, since somebody has removed its file, makes it anew with its next transaction.
        """
        if not self.path.exists():
            yield True
            return
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            self._lock.release()


def register(connection: sqlite3.Connection, owner: str, at: float) -> None:
    """Writes down that an owner has opened the ledger, at a time in seconds since 1970."""
    row = (owner, os.getpid(), socket.gethostname(), at)
    connection.execute("INSERT INTO owners (id, pid, host, opened_at) VALUES (?, ?, ?, ?)", row)


def end(connection: sqlite3.Connection, owner: str, *, at: float, how: str) -> None:
    """Writes down that an owner has ended: "closed", or "recovered" by another one."""
    connection.execute("UPDATE owners SET ended_at = ?, ended = ? WHERE id = ?", (at, how, owner))


def has_ended(connection: sqlite3.Connection, owner: str) -> bool:
    """Whether it is written down that an owner has ended."""
    found = connection.execute("SELECT 1 FROM owners WHERE id = ? AND ended IS NOT NULL", (owner,))
    return found.fetchone() is not None


def unended(connection: sqlite3.Connection, *, but: str) -> list[str]:
    """Owners that have not ended, `but` left out."""
    rows = connection.execute("SELECT id FROM owners WHERE ended IS NULL AND id != ? ORDER BY opened_at", (but,))
    return [owner for (owner,) in rows]
