"""A reply as bytes and back, exactly: a JSON head, then the arrays as they lie in memory, little-endian."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.backend import FeatureReply, ScoreReply, Usage
from lmaas_sdk.canonical import canonical_json
from lmaas_sdk.traffic.cache import kept_words

__all__ = ["reply_from_bytes", "reply_to_bytes"]

_LENGTH = struct.Struct("<I")
_ARRAYS = {"score": ("logits",), "features": ("features", "lengths", "layer_mean", "layer_std")}
_DTYPES = {"float32": "<f4", "int64": "<i8"}
_UNREADABLE = (struct.error, AttributeError, IndexError, KeyError, OverflowError, RecursionError, TypeError, ValueError)


def reply_to_bytes(reply: ScoreReply | FeatureReply) -> bytes:
    """Everything of a reply but its usage: kept answers are billed to nobody. Equal replies, equal bytes.

    Raises:
        ValueError: An array is neither float32 nor int64, or a word is no string.
    """
    kind = "features" if isinstance(reply, FeatureReply) else "score"
    arrays = [np.ascontiguousarray(getattr(reply, name)) for name in _ARRAYS[kind]]
    others = {array.dtype.name for array in arrays} - _DTYPES.keys()
    if others:
        raise ValueError(f"a reply has arrays of {' and '.join(_DTYPES)}, not of {', '.join(sorted(others))}")
    words = kept_words(reply.words) if isinstance(reply, ScoreReply) else None
    if not all(isinstance(word, str) for texts in words or () for ranks in texts for word in ranks):
        raise ValueError("a reply has words that are no strings")
    layouts = [[array.dtype.name, list(array.shape)] for array in arrays]
    head = canonical_json({"kind": kind, "arrays": layouts, "words": words})
    raw = [array.astype(_DTYPES[array.dtype.name], copy=False).tobytes() for array in arrays]
    return b"".join((_LENGTH.pack(len(head)), head, *raw))


def reply_from_bytes(data: bytes) -> ScoreReply | FeatureReply:
    """What `reply_to_bytes` wrote, with a usage of nothing and arrays that cannot be written to.

    Raises:
        ValueError: It would have written something else.
    """
    try:
        reply = _read(data)
        is_exact = reply_to_bytes(reply) == data
    except _UNREADABLE as error:
        raise ValueError(f"not a kept reply: {error!r:.200}") from error
    if not is_exact:
        raise ValueError("not a kept reply: it is spelled in another way than replies are")
    return reply


def _read(data: bytes) -> ScoreReply | FeatureReply:
    (length,) = _LENGTH.unpack_from(data)
    start = _LENGTH.size + length
    head = json.loads(data[_LENGTH.size : start].decode("utf-8", "surrogatepass"))
    named = dict(zip(_ARRAYS[head["kind"]], _arrays(head["arrays"], data[start:]), strict=True))
    if head["kind"] == "features":
        return FeatureReply(**named, usage=Usage())
    return ScoreReply(named["logits"], Usage(), kept_words(head["words"]))


def _arrays(layouts: list[tuple[str, list[int]]], raw: bytes) -> list[NDArray[Any]]:
    arrays, start = [], 0
    for dtype, shape in layouts:
        end = start + math.prod(shape) * np.dtype(_DTYPES[dtype]).itemsize
        # A copy, so that every array begins at an address that suits its numbers.
        arrays.append(np.frombuffer(raw[start:end], _DTYPES[dtype]).reshape(shape))
        start = end
    if start != len(raw):
        raise ValueError(f"{len(raw)} bytes of arrays where {start} are described")
    return arrays
