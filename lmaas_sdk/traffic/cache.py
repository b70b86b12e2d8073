"""Answers of a deterministic backend, kept so that nobody pays for them twice."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmaas_sdk.backend import FeatureReply, ScoreReply, Usage

__all__ = ["MemoryCache", "ReplyCache", "kept_reply", "kept_words"]

_NO_USAGE = Usage()
_OVERHEAD_BYTES = 500  # of an entry, beside its reply
_WORD_OVERHEAD_BYTES = 60


class ReplyCache(Protocol):
    """Where answers are kept. A kept answer's usage is `Usage()`: nobody is billed for it.

    A cache never fails a call: what it cannot read or write it leaves out.
    """

    async def get(self, digest: str) -> ScoreReply | FeatureReply | None:
        """The answer to a query of this digest, with arrays that cannot be written to; None: it is not here."""
        ...

    async def put(self, digest: str, reply: ScoreReply | FeatureReply) -> None:
        """Keeps an answer as it is now; its arrays may be changed once this has returned."""
        ...


class MemoryCache:
    """Answers in memory; the least recently used goes first.

    Args:
        max_bytes: Of all answers together; one that is larger than this alone is not kept.

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
        self._drop(digest)
        kept = kept_reply(reply)
        nbytes = _nbytes(kept)
        if nbytes > self._max_bytes:
            return
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
        return ScoreReply(_copied(reply.logits), _NO_USAGE, kept_words(reply.words))
    return FeatureReply(
        features=_copied(reply.features),
        lengths=_copied(reply.lengths),
        layer_mean=_copied(reply.layer_mean),
        layer_std=_copied(reply.layer_std),
        usage=_NO_USAGE,
    )


def kept_words(words: Any) -> tuple[tuple[tuple[str, ...], ...], ...] | None:
    """Words as [candidate][text][rank], in tuples whatever sequences they came in; None where there are none."""
    return None if words is None else tuple(tuple(tuple(ranks) for ranks in texts) for texts in words)


def _copied(values: ArrayLike) -> NDArray[Any]:
    """A copy on bytes, which unlike an array of its own can never be made writable again."""
    array = np.asarray(values)
    return np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape)


def _nbytes(reply: ScoreReply | FeatureReply) -> int:
    if isinstance(reply, FeatureReply):
        arrays = (reply.features, reply.lengths, reply.layer_mean, reply.layer_std)
        return _OVERHEAD_BYTES + sum(array.nbytes for array in arrays)
    words = sum(len(word) + _WORD_OVERHEAD_BYTES for texts in reply.words or () for ranks in texts for word in ranks)
    return _OVERHEAD_BYTES + reply.logits.nbytes + words
