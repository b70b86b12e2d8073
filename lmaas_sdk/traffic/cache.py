"""Answers of a deterministic backend, kept so that nobody pays for them twice."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Protocol

from numpy.typing import NDArray

from lmaas_sdk.backend import FeatureReply, ScoreReply, Usage

__all__ = ["MemoryCache", "ReplyCache", "kept_reply"]

_OVERHEAD_BYTES = 500  # of an entry, beside its reply


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
        max_bytes: Of the arrays of all answers together; one that is larger than this alone is not kept.

    Raises:
        ValueError: It is negative.
    """

    def __init__(self, max_bytes: int = 64 << 20) -> None:
        if max_bytes < 0:
            raise ValueError(f"max_bytes is at least 0, not {max_bytes}")
        self._max_bytes, self._bytes = max_bytes, 0
        self._entries: OrderedDict[str, tuple[ScoreReply | FeatureReply, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    async def get(self, digest: str) -> ScoreReply | FeatureReply | None:
        entry = self._entries.get(digest)
        if entry is None:
            return None
        self._entries.move_to_end(digest)
        return entry[0]

    async def put(self, digest: str, reply: ScoreReply | FeatureReply) -> None:
        kept, nbytes = kept_reply(reply), _nbytes(reply)
        self._drop(digest)
        self._entries[digest] = kept, nbytes
        self._bytes += nbytes
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, digest: str) -> None:
        _, nbytes = self._entries.pop(digest, (None, 0))
        self._bytes -= nbytes


def kept_reply(reply: ScoreReply | FeatureReply) -> ScoreReply | FeatureReply:
    """A copy that nobody can change and nobody is billed for."""
    if isinstance(reply, ScoreReply):
        return ScoreReply(_copied(reply.logits), Usage(), reply.words)
    return FeatureReply(
        features=_copied(reply.features),
        lengths=_copied(reply.lengths),
        layer_mean=_copied(reply.layer_mean),
        layer_std=_copied(reply.layer_std),
        usage=Usage(),
    )


def _copied(array: NDArray[Any]) -> NDArray[Any]:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def _nbytes(reply: ScoreReply | FeatureReply) -> int:
    if isinstance(reply, FeatureReply):
        arrays = (reply.features, reply.lengths, reply.layer_mean, reply.layer_std)
        return _OVERHEAD_BYTES + sum(array.nbytes for array in arrays)
    words = sum(len(word) + 60 for texts in reply.words or () for ranks in texts for word in ranks)
    return _OVERHEAD_BYTES + reply.logits.nbytes + words
