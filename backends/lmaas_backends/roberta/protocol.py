"""The two forms a message of the HTTP API has: plain JSON, or a frame whose arrays are raw bytes.

A message is a JSON object in which some fields are arrays. As `application/json` an array is
`{"dtype": "float32", "shape": [2, 3], "data": "<base64>"}`. As `application/vnd.lmaas.tensors` the body is

```
uint32 little-endian    length of the JSON in bytes
JSON                    the object; an array is {"dtype", "shape"}
payload                 the arrays' bytes, little-endian, C order, in the order of the endpoint's documentation
```

The server and its client use the same code, and neither needs torch.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmaas_backends.roberta.wire_fields import Fields, parse_json, shown
from lmaas_sdk.canonical import canonical_json
from lmaas_sdk.errors import InvalidQuery

__all__ = ["JSON", "TENSORS", "Message", "decode_message", "encode_message", "frame_head", "framed"]

JSON = "application/json"
TENSORS = "application/vnd.lmaas.tensors"

# Made once: numpy takes longer to read the name of a type than to read a small array of it.
_DTYPES = {name: np.dtype(code) for name, code in {"float32": "<f4", "float16": "<f2", "int64": "<i8"}.items()}
_NATIVE = {name: np.dtype(name) for name in _DTYPES}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_MOST_DIMENSIONS, _MOST_SIZE = 4, 2**63 - 1
_REMEMBERED_BYTES = 4096
_Layout = tuple[str, str, tuple[int, ...], int]  # name, dtype, shape, bytes
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """A JSON object and the arrays among its fields.

    Args:
        fields: The fields that are plain JSON.
        arrays: The others; float32, float16 or int64.
    """

    fields: Mapping[str, object]
    arrays: Mapping[str, NDArray[Any]]


def encode_message(message: Message, media_type: str) -> bytes:
    """The bytes of a message in the form `media_type` (`JSON` or `TENSORS`); equal messages have equal bytes."""
    if media_type == JSON:
        spelled = {name: _described(array) | {"data": _base64(array)} for name, array in message.arrays.items()}
        return canonical_json({**message.fields, **spelled})
    return framed(frame_head(message), message.arrays.values())


def frame_head(message: Message) -> bytes:
    """The JSON of a message's frame: everything but the arrays' values."""
    described = {name: _described(array) for name, array in message.arrays.items()}
    return canonical_json({**message.fields, **described})


def framed(head: bytes, arrays: Iterable[NDArray[Any]]) -> bytes:
    """A whole frame, of its JSON and its arrays in their order."""
    return b"".join((_LENGTH.pack(len(head)), head, *(_raw(array) for array in arrays)))


def decode_message(body: bytes, media_type: str, arrays: Sequence[str] = ()) -> Message:
    """Reads a message.

    Args:
        body: The whole body.
        media_type: `JSON` or `TENSORS`, without parameters.
        arrays: Names of the fields that are arrays where they are there, in the order of the payload.

    Raises:
        InvalidQuery: Not such a message: another media type, broken JSON, a truncated or too long payload, an array
            whose dtype, shape and bytes do not agree. Values are not looked at.
    """
    if media_type == JSON:
        return _decode_json(body, arrays)
    if media_type == TENSORS:
        return _decode_frame(body, arrays)
    raise InvalidQuery(f"the content type is {JSON} or {TENSORS}, not {shown(media_type)}")


def _decode_json(body: bytes, names: Sequence[str]) -> Message:
    fields = Fields(parse_json(body, "the body"), "the body")
    found = {}
    for name in names:
        spelled = fields.maybe(name, dict)
        if spelled is not None:
            found[name] = _from_base64(Fields(spelled, name), name)
    return Message(fields.rest(), found)


def _from_base64(spelled: Fields, name: str) -> NDArray[Any]:
    try:
        raw = base64.b64decode(spelled.take("data", str), validate=True)
    except ValueError as error:  # binascii.Error, or a character that is not ASCII
        raise InvalidQuery(f"{name}.data is not base64: {error}") from error
    dtype, shape = _description(spelled, name)
    size = _size(dtype, shape)
    if len(raw) != size:
        raise InvalidQuery(f"{name} of shape {shown(list(shape))} has {size} bytes, not {len(raw)}")
    return _array(raw, dtype, shape)


def _decode_frame(body: bytes, names: Sequence[str]) -> Message:
    header, payload = _split_frame(body)
    read = _read_head if len(header) <= _REMEMBERED_BYTES else _read_head.__wrapped__
    fields, layouts = read(header, tuple(names))
    needed = sum(size for _, _, _, size in layouts)
    if len(payload) != needed:
        raise InvalidQuery(f"the frame's payload has {len(payload)} bytes where its arrays take {needed}")
    found, start = {}, 0
    for name, dtype, shape, size in layouts:
        found[name] = _array(payload[start : start + size], dtype, shape)
        start += size
    return Message(dict(fields), found)


@lru_cache(maxsize=256)  # the calls of a run have equal heads: what differs between them is in the payload
def _read_head(header: bytes, names: tuple[str, ...]) -> tuple[Mapping[str, object], list[_Layout]]:
    fields = Fields(parse_json(header, "the frame's JSON"), "the frame's JSON")
    layouts = []
    for name in names:
        described = fields.maybe(name, dict)
        if described is not None:
            dtype, shape = _description(Fields(described, name), name)
            layouts.append((name, dtype, shape, _size(dtype, shape)))
    return MappingProxyType(fields.rest()), layouts


def _split_frame(body: bytes) -> tuple[bytes, memoryview]:
    if len(body) < _LENGTH.size:
        raise InvalidQuery(f"a frame starts with 4 bytes of length; this body has {len(body)} bytes")
    end = _LENGTH.size + _LENGTH.unpack_from(body)[0]
    if len(body) < end:
        raise InvalidQuery(f"the frame says that its JSON ends at byte {end}, but it has {len(body)} bytes")
    return body[_LENGTH.size : end], memoryview(body)[end:]


def _description(spelled: Fields, name: str) -> tuple[str, tuple[int, ...]]:
    dtype, shape = spelled.take("dtype", str), spelled.list_of("shape", int)
    spelled.finish()
    if dtype not in _DTYPES:
        raise InvalidQuery(f"{name}.dtype is one of {', '.join(_DTYPES)}, not {shown(dtype)}")
    if not 1 <= len(shape) <= _MOST_DIMENSIONS or min(shape) < 1 or max(shape) > _MOST_SIZE:
        raise InvalidQuery(
            f"{name}.shape has 1 to {_MOST_DIMENSIONS} sizes from 1 to {_MOST_SIZE}, not {shown(list(shape))}"
        )
    return dtype, shape


def _size(dtype: str, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * _DTYPES[dtype].itemsize


def _array(raw: bytes | memoryview, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    return np.frombuffer(raw, dtype=_DTYPES[dtype]).astype(_NATIVE[dtype], copy=False).reshape(shape)


def _described(array: NDArray[Any]) -> dict[str, object]:
    return {"dtype": _NAMES[array.dtype], "shape": list(array.shape)}


def _raw(array: NDArray[Any]) -> bytes:
    return array.astype(_DTYPES[_NAMES[array.dtype]], copy=False).tobytes()  # in C order, however it lies in memory


def _base64(array: NDArray[Any]) -> str:
    return base64.b64encode(_raw(array)).decode("ascii")
