"""Replies that the tests of the caches share."""

from __future__ import annotations

import numpy as np

from lmaas_sdk.backend import FeatureReply, ScoreReply, Usage

NOTHING = Usage()
AWKWARD = np.array([[[0.1, -0.0], [3e38, 1e-45], [-1.5, 7]]], np.float32)


def scored(number: float = 0.0, entries: int = 4) -> ScoreReply:
    """Logits that tell which reply it is."""
    return ScoreReply(np.full((1, entries // 2, 2), number, np.float32), Usage(7))


def with_words() -> ScoreReply:
    """The most likely words of one candidate on two texts."""
    words = ((("great", " naïve"), ('"\n', "\ud83d")),)
    return ScoreReply(np.array([[[2, 1], [4, 3]]], np.float32), Usage(5, 2), words)


def features() -> FeatureReply:
    """Hidden states of two texts, of an odd number of bytes."""
    return FeatureReply(
        features=np.arange(10, dtype=np.float32).reshape(2, 5),
        lengths=np.array([3, 2**40]),
        layer_mean=np.array([0.5, -0.0, 2], np.float32),
        layer_std=np.array([1, 2, 3], np.float32),
        usage=Usage(9),
    )


def content(reply: ScoreReply | FeatureReply | None) -> object:
    """All of a reply, bit for bit, in a form that can be compared; None: there is none."""
    if reply is None:
        return None
    names = ("logits",) if isinstance(reply, ScoreReply) else ("features", "lengths", "layer_mean", "layer_std")
    arrays = [getattr(reply, name) for name in names]
    bits = [(name, str(array.dtype), array.shape, array.tobytes()) for name, array in zip(names, arrays, strict=True)]
    return bits, reply.words if isinstance(reply, ScoreReply) else None, reply.usage


def free(reply: ScoreReply | FeatureReply) -> object:
    """`content` of the reply as a cache gives it: billed to nobody."""
    bits, words, _ = content(reply)  # type: ignore[misc]
    return bits, words, NOTHING


def arrays_of(reply: ScoreReply | FeatureReply | None) -> list[np.ndarray]:  # type: ignore[type-arg]
    """Its arrays."""
    if isinstance(reply, FeatureReply):
        return [reply.features, reply.lengths, reply.layer_mean, reply.layer_std]
    return [] if reply is None else [reply.logits]
