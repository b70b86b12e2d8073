"""Answers kept in an SQLite file, for later runs and for other processes.

Whatever happens to the file, no wrong answer comes out of it: every entry carries a check sum over its bytes and the
query they answer, and is read strictly. Whatever happens to the disk, no call fails for it: it goes without the cache.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from lmaas_sdk.backend import FeatureReply, ScoreReply
from lmaas_sdk.logs import log_event
from lmaas_sdk.traffic.cache_rows import FILE_ERRORS, CacheRows
from lmaas_sdk.traffic.reply_bytes import reply_from_bytes, reply_to_bytes

__all__ = ["FileCache", "open_cache"]

T = TypeVar("T")
_Reply = ScoreReply | FeatureReply

_MOST_USED_UNTOLD = 256
_logger = logging.getLogger("lmaas_sdk.traffic")


def open_cache(path: str | Path, max_bytes: int = 1 << 30, *, busy_timeout_s: float = 2.0) -> FileCache:
    """A cache in a file, for `async with`; it is made where it is not there.

    Args:
        path: The file. SQLite keeps two others beside it while it is open. Several processes may share it.
        max_bytes: Of all answers together; the least recently used goes first, and one that is larger than this alone
            is not kept.
        busy_timeout_s: How long to wait for other processes that write it. Who waited in vain does not wait again
            until the file can be written.

    Raises:
        ValueError: `max_bytes` is negative. On entering: the file cannot be opened, is no cache, or is one of another
            version.
    """
    return FileCache(path, max_bytes, busy_timeout_s=busy_timeout_s)


class FileCache:
    """Answers in a file, read and written on a thread of its own; made by `open_cache`.

    A file that can no longer be read or written is told to the log, and gone without until it can.
    """

    def __init__(self, path: str | Path, max_bytes: int, *, busy_timeout_s: float) -> None:
        if max_bytes < 0:
            raise ValueError(f"max_bytes is at least 0, not {max_bytes}")
        self._path, self._max_bytes, self._busy_timeout_s = Path(path), max_bytes, busy_timeout_s
        self._pool: ThreadPoolExecutor | None = None
        # What follows belongs to the thread.
        self._rows: CacheRows | None = None
        self._used: dict[str, None] = {}
        self._fails = False

    def __repr__(self) -> str:
        return f"FileCache({str(self._path)!r})"

    async def __aenter__(self) -> Self:
        if self._pool is not None:
            raise RuntimeError(f"{self!r} is open already: open_cache makes another")
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lmaas-cache")
        try:
            await self._on_thread(self._pool, self._open)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                await self._on_thread(pool, self._close)
            finally:
                pool.shutdown(wait=False)

    async def get(self, digest: str) -> _Reply | None:
        """As `ReplyCache` says.

        Raises:
            RuntimeError: The cache is not open: nothing was sent yet.
        """
        if self._pool is None:
            raise RuntimeError(f"{self!r} is not open: use `async with open_cache(...)`")
        return await self._on_thread(self._pool, lambda: self._looked_up(digest))

    async def put(self, digest: str, reply: _Reply) -> None:
        """As `ReplyCache` says. An answer that was paid for is not lost for a cache that was closed meanwhile."""
        if self._pool is None:
            self._tell(
                logging.WARNING, "cache_closed", "the cache %(file)s was closed before an answer could be kept", None
            )
            return
        await self._on_thread(self._pool, lambda: self._keep(digest, reply))

    async def _on_thread(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        """What was begun is done, even if nobody waits for it any more."""
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(pool, work))

    def _open(self) -> None:
        self._rows = CacheRows(self._path, self._max_bytes)
        self._rows.wait_for_others(self._busy_timeout_s)

    def _close(self) -> None:
        if self._rows is not None:
            if self._used:
                self._write(lambda rows: rows.touch(self._taken()))
            self._rows.close()
            self._rows = None

    def _looked_up(self, digest: str) -> _Reply | None:
        reply = self._attempt(lambda rows: self._read(rows, digest))
        if reply is not None:
            self._used.pop(digest, None)
            self._used[digest] = None
            if len(self._used) >= _MOST_USED_UNTOLD:
                self._write(lambda rows: rows.touch(self._taken()))
        return reply

    def _read(self, rows: CacheRows, digest: str) -> _Reply | None:
        try:
            kept = rows.get(digest)
            return None if kept is None else reply_from_bytes(kept)
        except ValueError as error:
            self._tell(
                logging.WARNING,
                "cache_entry_dropped",
                "an entry of the cache %(file)s is damaged: it is deleted",
                error,
            )
            rows.drop(digest)
            return None

    def _keep(self, digest: str, reply: _Reply) -> None:
        try:
            kept = reply_to_bytes(reply)
        except ValueError as error:
            self._tell(logging.WARNING, "cache_answer_not_kept", "an answer was not kept in the cache %(file)s", error)
            return
        self._write(lambda rows: rows.put(digest, kept, used=self._taken()))

    def _taken(self) -> list[str]:
        """What was used and not told yet. It is forgotten even where it cannot be written: it only orders deletions."""
        used = list(self._used)
        self._used.clear()
        return used

    def _tell(self, level: int, event: str, message: str, error: Exception | None) -> None:
        """Names the kind of an error alone: what SQLite and JSON say may quote what the file holds."""
        kind = None if error is None else getattr(error, "sqlite_errorname", type(error).__name__)
        log_event(_logger, level, event, message, file=str(self._path), error=kind)

    def _write(self, work: Callable[[CacheRows], None]) -> None:
        def write(rows: CacheRows) -> None:
            work(rows)
            if self._fails:
                self._fails = False
                rows.wait_for_others(self._busy_timeout_s)

        self._attempt(write)

    def _attempt(self, work: Callable[[CacheRows], T]) -> T | None:
        """What `work` returns; None where the file cannot be read or written."""
        if self._rows is None:
            return None
        try:
            return work(self._rows)
        except FILE_ERRORS as error:
            level = logging.DEBUG if self._fails else logging.WARNING
            message = "the cache %(file)s cannot be used now, so calls go without it (%(error)s)"
            self._tell(level, "cache_unusable", message, error)
            if not self._fails:
                self._fails = True
                self._rows.wait_for_others(0)
            return None
