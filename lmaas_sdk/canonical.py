"""One spelling for every value that is hashed or compared byte by byte."""

from __future__ import annotations

import hashlib
import json

import numpy as np
from numpy.typing import NDArray

__all__ = ["array_digest", "canonical_json", "digest"]

# Made once: `json.dumps` with options makes an encoder a call.
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: object) -> bytes:
    """JSON with sorted keys and no spaces, in UTF-8; NaN and infinities are refused.

    Floats are written by `repr`, which is the shortest text that reads back to the same bits.

    Raises:
        ValueError: A number is not finite.
    """
    return _ENCODER.encode(value).encode("utf-8", "surrogatepass")


def digest(value: object) -> str:
    """SHA-256 of `canonical_json(value)`, in hex."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def array_digest(array: NDArray[np.float32]) -> str:
    """SHA-256 over shape and little-endian float32 bytes, in hex: the name of an uploaded array."""
    little = np.ascontiguousarray(array, dtype="<f4")
    header = canonical_json({"dtype": "float32", "shape": list(little.shape)})
    return hashlib.sha256(header + b"\n" + little.tobytes()).hexdigest()
