"""Answers of a deterministic backend, kept so that nobody pays for them twice."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

from lmaas_sdk.backend import FeatureReply, ScoreReply
from lmaas_sdk.traffic.reply_bytes import reply_from_bytes, reply_to_bytes

__all__ = ["MemoryCache", "ReplyCache"]

_OVERHEAD_BYTES = 200  # of an entry, beside its reply


class ReplyCache(Protocol):
    """Where answers are kept. A kept answer's usage is nothing: nobody is billed for it.

    A cache never fails a call: what it cannot read or write it leaves out.
    """

    async def get(self, digest: str) -> ScoreReply | FeatureReply | None:
        """The answer to a query of this digest, with arrays that cannot be written to; None: it is not here."""
        ...

    async def put(self, digest: str, reply: ScoreReply | FeatureReply) -> None:
        """Keeps an answer."""
        ...


class MemoryCache:
    """Answers in memory; the least recently used goes first.

    Args:
        max_bytes: Of all entries together; an answer that is larger than this alone is not kept.
    """

    def __init__(self, max_bytes: int = 64 << 20) -> None:
        if max_bytes < 0:
            raise ValueError(f"max_bytes is at least 0, not {max_bytes}")
        self._max_bytes, self._bytes = max_bytes, 0
        self._entries: OrderedDict[str, bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    async def get(self, digest: str) -> ScoreReply | FeatureReply | None:
        entry = self._entries.get(digest)
        if entry is None:
            return None
        self._entries.move_to_end(digest)
        return reply_from_bytes(entry)

    async def put(self, digest: str, reply: ScoreReply | FeatureReply) -> None:
        entry = reply_to_bytes(reply)
        self._drop(digest)
        self._entries[digest] = entry
        self._bytes += len(entry) + _OVERHEAD_BYTES
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, digest: str) -> None:
        entry = self._entries.pop(digest, None)
        if entry is not None:
            self._bytes -= len(entry) + _OVERHEAD_BYTES
