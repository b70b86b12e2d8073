"""Good bodies of every POST endpoint, and what becomes of them in bad hands."""

from __future__ import annotations

import base64
import gzip
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lmaas_backends.roberta.protocol import JSON, TENSORS

__all__ = ["GOOD", "ODD", "Case", "Good", "cases", "framed", "places", "spelled", "with_odd"]

Path = tuple[str | int, ...]

_MARK = "@@odd@@"
_TEXT = ["A fine film", {"template": " . It was"}, {"mask": True}, {"template": " ."}]
_SET: dict[str, Any] = {"texts": [_TEXT], "label_words": {"words": [" bad", " great"], "pieces": "whole"}}
_SUBSPACE: dict[str, Any] = {
    "d": 3,
    "prompt_tokens": 5,
    "hidden_size": 128,
    "layout": "add",
    "projection": "uniform",
    "scale": 1.0,
    "seed": 42,
    "base": None,
    "layers": [0],
}
_Z = np.array([[1, 2, 3]], "<f4").tobytes()
_P0 = np.full((5, 128), 0.5, "<f4").tobytes()


def _array(dtype: str, shape: list[int], raw: bytes | None = None) -> dict[str, Any]:
    described: dict[str, Any] = {"dtype": dtype, "shape": shape}
    return described if raw is None else described | {"data": base64.b64encode(raw).decode()}


@dataclass(frozen=True)
class Good:
    """A request that the bundled model answers with 200.

    Args:
        path: The endpoint.
        media_type: `JSON` or `TENSORS`.
        fields: The JSON of the body.
        payload: What follows the JSON in a frame.
    """

    path: str
    media_type: str
    fields: dict[str, Any]
    payload: bytes = b""

    @property
    def body(self) -> bytes:
        return spelled(self, json.dumps(self.fields).encode())


_MODEL = {"model": "roberta-tiny"}
_SCORED = _MODEL | {"texts": _SET, "rows": [0], "subspace": _SUBSPACE}
GOOD = {
    "score": Good("/v1/score", JSON, _SCORED | {"Z": _array("float32", [1, 3], _Z)}),
    "score-frame": Good("/v1/score", TENSORS, _SCORED | {"Z": _array("float32", [1, 3])}, _Z),
    "top-k": Good("/v1/score", JSON, _MODEL | {"texts": _SET, "top_k": 2}),
    "features": Good("/v1/features", JSON, _MODEL | {"texts": _SET, "rows": [0], "pool": "tokens"}),
    "features-frame": Good("/v1/features", TENSORS, _MODEL | {"texts": _SET}),
    "datasets": Good("/v1/datasets", JSON, _MODEL | _SET | {"subspace": _SUBSPACE}),
    "datasets-frame": Good("/v1/datasets", TENSORS, _MODEL | _SET),
    "arrays": Good("/v1/arrays", JSON, _MODEL | {"array": _array("float32", [5, 128], _P0)}),
    "arrays-frame": Good("/v1/arrays", TENSORS, _MODEL | {"array": _array("float32", [5, 128])}, _P0),
    "prompts": Good("/v1/prompts", JSON, _MODEL | {"subspace": _SUBSPACE, "Z": _array("float32", [1, 3], _Z)}),
    "prompts-frame": Good("/v1/prompts", TENSORS, _MODEL | {"subspace": _SUBSPACE, "Z": _array("float32", [1, 3])}, _Z),
}

# Texts of JSON, some of which are none, to stand in the place of any value.
ODD = {
    "null": "null",
    "true": "true",
    "false": "false",
    "zero": "0",
    "minus one": "-1",
    "minus zero": "-0.0",
    "a half": "0.5",
    "a tiny number": "5e-324",
    "above float32": "1e39",
    "the largest float": "1.7976931348623157e308",
    "above any float": "1e999",
    "NaN": "NaN",
    "infinity": "Infinity",
    "minus infinity": "-Infinity",
    "2^31": "2147483648",
    "2^63": "9223372036854775808",
    "minus 2^63 - 1": "-9223372036854775809",
    "a whole number above any float": "1" + "0" * 400,
    "4000 digits": "9" * 4000,
    "5000 digits": "9" * 5000,
    "a leading zero": "01",
    "an empty string": '""',
    "a word": '"x"',
    "a number in a string": '"1"',
    "half a surrogate pair": r'"\ud800"',
    "a surrogate pair": r'"\ud83d\ude00"',
    "a zero character": r'"\u0000"',
    "control characters": r'"\u0001\u001f\u007f\u0085\u2028\ufeff\ufffe"',
    "a raw control character": '"\x01"',
    "a special token": '"<mask></s>"',
    "a long string": '"' + "x " * 5000 + '"',
    "an empty list": "[]",
    "a list of null": "[null]",
    "a list of a list": "[[]]",
    "a long list": "[" + ",".join("0" * 3000) + "]",
    "equal items": "[0,0]",
    "a large item": "[9223372036854775808]",
    "a negative item": "[-1]",
    "huge items": f"[{'9' * 4000},{'9' * 4000}]",
    "an empty object": "{}",
    "an unknown field": '{"x":1}',
    "a name twice": '{"a":1,"a":2}',
    "half a surrogate pair as a name": r'{"\ud800":1}',
    "nested 200 deep": "[" * 200 + "]" * 200,
    "nested 900 deep": "[" * 900 + "]" * 900,
    "objects nested 900 deep": '{"a":' * 900 + "1" + "}" * 900,
    "nested 100000 deep": "[" * 100_000 + "]" * 100_000,
    "nothing": "",
    "no JSON": "nil",
    "a comment": "/**/1",
    "a stray bracket": "]",
    "an open string": '"',
}


@dataclass(frozen=True)
class Case:
    """A hostile body.

    Args:
        name: Of the case.
        path: The endpoint it is sent to.
        media_type: What it is said to be.
        body: Its bytes.
    """

    name: str
    path: str
    media_type: str
    body: bytes


def spelled(good: Good, text: bytes, payload: bytes | None = None) -> bytes:
    """A body of the form of `good` with another JSON, and another payload where one is given."""
    return text if good.media_type == JSON else framed(text, good.payload if payload is None else payload)


def framed(text: bytes, payload: bytes = b"") -> bytes:
    return struct.pack("<I", len(text)) + text + payload


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """The paths of all values in a JSON value, the whole one first."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from places(item, (*path, key))


def with_odd(fields: dict[str, Any], path: Path, odd: str) -> bytes:
    """The JSON with the text `odd` in one place."""
    return json.dumps(_replaced(fields, path, _MARK)).replace(f'"{_MARK}"', odd).encode("utf-8", "surrogatepass")


def _replaced(value: Any, path: Path, new: object) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _replaced(value[path[0]], path[1:], new)
    return copy


def cases() -> Iterator[Case]:
    """Every hostile body."""
    for name, good in GOOD.items():
        for about, body in _bodies(good):
            yield Case(f"{name}: {about}", good.path, good.media_type, body)


def _bodies(good: Good) -> Iterator[tuple[str, bytes]]:
    yield from _no_messages(good)
    yield from _cut_and_stretched(good)
    yield from _odd_values(good)
    yield from _other_fields(good)
    yield from _other_arrays(good)
    if good.media_type == TENSORS:
        yield from _broken_frames(good)


def _no_messages(good: Good) -> Iterator[tuple[str, bytes]]:
    """Bytes that are no message, some of them large or made to be slow to read."""
    noise = np.random.Generator(np.random.Philox(1)).bytes(5000)
    yield from (("nothing", b""), ("a zero byte", b"\0"), ("noise", noise), ("half a mebibyte of noise", noise * 100))
    yield from (("the other form", good.body[4:] if good.media_type == TENSORS else framed(good.body)),)
    yield from (("gzip", gzip.compress(good.body, mtime=0)), ("deflate", zlib.compress(good.body)))
    text = json.dumps(good.fields)
    for encoding in ("utf-16", "utf-32", "utf-8-sig"):
        yield encoding, spelled(good, text.encode(encoding))
    yield "not UTF-8", spelled(good, text.replace("fine", "f\xefne").encode("latin-1") + b"\xff")
    yield "many names, the last twice", spelled(good, _many_names(100_000))
    yield "many blanks", spelled(good, b" " * 500_000 + b"x")
    yield "many long numbers", spelled(good, b"[" + b",".join([b"9" * 4000] * 200) + b"]")


def _many_names(count: int) -> bytes:
    names = ",".join(f'"n{number}":0' for number in range(count))
    return f'{{{names},"n{count - 1}":1}}'.encode()


def _cut_and_stretched(good: Good) -> Iterator[tuple[str, bytes]]:
    body = good.body
    for part in range(1, 10):
        yield f"cut at {part}/10", body[: len(body) * part // 10]
    yield from (("cut by a byte", body[:-1]), ("a byte more", body + b"x"), ("twice", body * 2), ("late", b"x" + body))


def _odd_values(good: Good) -> Iterator[tuple[str, bytes]]:
    for path in places(good.fields):
        if good.media_type == TENSORS and path and path[0] not in {"Z", "array"}:
            continue  # read by what reads the other form
        where = ".".join(map(str, path)) or "the whole"
        for about, odd in ODD.items():
            yield f"{about} as {where}", spelled(good, with_odd(good.fields, path, odd))


def _other_fields(good: Good) -> Iterator[tuple[str, bytes]]:
    """Each field left out, and a field too much in each object."""
    for path in places(good.fields):
        where = ".".join(map(str, path)) or "the whole"
        if path:
            yield f"no {where}", spelled(good, json.dumps(_without(good.fields, path)).encode())
        found = _at(good.fields, path)
        if isinstance(found, dict):
            more = found | {"x" * 100: 1}
            yield f"more in {where}", spelled(good, json.dumps(_replaced(good.fields, path, more)).encode())


def _at(value: Any, path: Path) -> Any:
    for key in path:
        value = value[key]
    return value


def _without(value: Any, path: Path) -> Any:
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(path) == 1:
        del copy[path[0]]
    else:
        copy[path[0]] = _without(value[path[0]], path[1:])
    return copy


_FLOATS = {"NaN": np.nan, "infinity": np.inf, "minus infinity": -np.inf, "huge": 3e38, "tiny": 1e-45}
_DTYPES = ("float64", "float16", "int64", "int8", "bool", "object", "<f4", "O", "V0", "float32\0", "")
_SHAPES = {
    "empty": [],
    "one size": [3],
    "a size of 0": [0, 3],
    "a negative size": [-1, -3],
    "a wrap of 64 bits": [2**32, 2**32],
    "sizes of 4000 digits": [10**3999, 10**3999],
    "too many sizes": [1, 1, 1, 1, 3],
    "much": [2**40, 3],
    "the other way": [3, 1],
}


def _other_arrays(good: Good) -> Iterator[tuple[str, bytes]]:
    name = next((name for name in ("Z", "array") if name in good.fields), None)
    if name is None:
        return
    size = 3 if name == "Z" else 640
    shape = good.fields[name]["shape"]
    for dtype in _DTYPES:
        yield f"dtype {dtype!r}", _with_array(good, name, _array(dtype, shape), bytes(size * 4))
    for about, wrong in _SHAPES.items():
        yield f"shape: {about}", _with_array(good, name, _array("float32", wrong), bytes(size * 4))
    for about, value in _FLOATS.items():
        for dtype in ("<f4", "<f2"):
            with np.errstate(over="ignore"):
                raw = np.full(size, value).astype(dtype).tobytes()
            named = {"<f4": "float32", "<f2": "float16"}[dtype]
            yield f"{about} in {named}", _with_array(good, name, _array(named, shape), raw)
    for about, raw in (("a byte short", bytes(size * 4 - 1)), ("a byte long", bytes(size * 4 + 1)), ("no bytes", b"")):
        yield about, _with_array(good, name, _array("float32", shape), raw)
    for text in ("AAAA=", "AA\nAA", "....", "\ud800", "AAAA" * 10_000, "=" * 100):
        odd = good.fields | {name: _array("float32", shape) | {"data": text}}
        yield f"data {text[:8]!r}", spelled(good, json.dumps(odd).encode())


def _with_array(good: Good, name: str, described: dict[str, Any], raw: bytes) -> bytes:
    if good.media_type == JSON:
        described = described | {"data": base64.b64encode(raw).decode()}
    return spelled(good, json.dumps(good.fields | {name: described}).encode(), raw)


def _broken_frames(good: Good) -> Iterator[tuple[str, bytes]]:
    text = json.dumps(good.fields).encode()
    for length in (0, 1, len(text) - 1, len(text) + 1, len(text) + len(good.payload), 2**31, 2**32 - 1):
        yield f"a length of {length}", struct.pack("<I", length) + text + good.payload
    for count in range(4):
        yield f"{count} bytes of length", struct.pack("<I", len(text))[:count]
    yield "a length by the other end", struct.pack(">I", len(text)) + text + good.payload
