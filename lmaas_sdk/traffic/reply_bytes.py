"""A reply as bytes and back, exactly: a JSON head, then the arrays as they lie in memory, little-endian."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.backend import FeatureReply, ScoreReply, Usage
from lmaas_sdk.canonical import canonical_json

__all__ = ["reply_from_bytes", "reply_to_bytes"]

_LENGTH = struct.Struct("<I")
_ARRAYS = {"score": ("logits",), "features": ("features", "lengths", "layer_mean", "layer_std")}
_DTYPES = {"float32": "<f4", "int64": "<i8"}


def reply_to_bytes(reply: ScoreReply | FeatureReply) -> bytes:
    """Everything of a reply but its usage: kept answers are billed to nobody."""
    kind = "features" if isinstance(reply, FeatureReply) else "score"
    arrays = [np.ascontiguousarray(getattr(reply, name)) for name in _ARRAYS[kind]]
    layouts = [[array.dtype.name, list(array.shape)] for array in arrays]
    words = reply.words if isinstance(reply, ScoreReply) else None
    head = canonical_json({"kind": kind, "arrays": layouts, "words": words})
    raw = [array.astype(_DTYPES[array.dtype.name], copy=False).tobytes() for array in arrays]
    return b"".join((_LENGTH.pack(len(head)), head, *raw))


def reply_from_bytes(data: bytes) -> ScoreReply | FeatureReply:
    """What `reply_to_bytes` wrote, with a usage of nothing and arrays that cannot be written to.

    Raises:
        ValueError: It wrote something else.
    """
    try:
        (length,) = _LENGTH.unpack_from(data)
        head = json.loads(data[_LENGTH.size : _LENGTH.size + length])
        arrays = _arrays(head["arrays"], memoryview(data)[_LENGTH.size + length :])
        named = dict(zip(_ARRAYS[head["kind"]], arrays, strict=True))
    except (struct.error, KeyError, TypeError, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"not a kept reply: {error!r}") from error
    if head["kind"] == "features":
        return FeatureReply(**named, usage=Usage())
    words = head["words"]
    kept = None if words is None else tuple(tuple(tuple(ranks) for ranks in texts) for texts in words)
    return ScoreReply(named["logits"], Usage(), kept)


def _arrays(layouts: list[tuple[str, list[int]]], raw: memoryview) -> list[NDArray[Any]]:
    arrays, start = [], 0
    for dtype, shape in layouts:
        end = start + int(np.prod(shape)) * np.dtype(_DTYPES[dtype]).itemsize
        arrays.append(np.frombuffer(raw[start:end], _DTYPES[dtype]).reshape(shape))
        start = end
    if start != len(raw):
        raise ValueError(f"not a kept reply: {len(raw)} bytes of arrays where {start} are described")
    return arrays
