"""Small files of ours: one JSON object with a digest over it and arrays in base64, so that nothing in them can run."""

from __future__ import annotations

import base64
import json
import math
import os
import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.canonical import canonical_json, digest
from lmaas_sdk.errors import LmaasError

__all__ = ["SealedFormat", "array_to_wire"]

_MOST_AXES = 2
_FLOAT32_BYTES = 4
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class SealedFormat:
    """A kind of file.

    Args:
        name: Its name and version, which stand in every file.
        what: What a file holds, for messages: "prompt".
        fields: What it has, in the order they are listed; `format` and `digest` stand around them.
        error: What is raised when something is wrong with a file.
    """

    name: str
    what: str
    fields: tuple[str, ...]
    error: type[LmaasError]

    def to_bytes(self, content: Mapping[str, object]) -> bytes:
        """A file's content, the same bytes for the same values."""
        return canonical_json(self.sealed(content)) + b"\n"

    def sealed(self, content: Mapping[str, object]) -> dict[str, Any]:
        """The values of a file, format and digest included."""
        whole = {"format": self.name, **content}
        return whole | {"digest": digest(whole)}

    def from_bytes(self, content: bytes, make: Callable[[dict[str, Any]], _T]) -> _T:
        """Reads what `to_bytes` wrote. Nothing in it is trusted: it may come from anyone.

        Args:
            content: Of the file.
            make: Makes the value of the file's fields; it may raise any ValueError.

        Raises:
            LmaasError: The format's own: it is damaged, of another format, or makes no sense.
        """
        try:
            return make(self._verified(content))
        except self.error:
            raise
        except ValueError as error:
            raise self.error(f"not a {self.what} of this version: {error}") from error
        except RecursionError as error:
            raise self.error(f"this is not a {self.what} file (its values are nested too deep)") from error

    def write(self, path: str | Path, content: bytes) -> Path:
        """Writes one file, whole or not at all, and returns its path.

        A file that is there already is replaced in one step: a reader finds the old one or the new one.

        Raises:
            LmaasError: The format's own: it cannot be written there, for example because the folder does not exist.
        """
        path = Path(path)
        if not path.parent.is_dir():
            raise self.error(f"cannot write the {self.what} file {path}: make the folder {path.parent} first")
        try:
            _replace(Path(os.path.realpath(path)), content)  # not a link to the file, but the file
        except (OSError, ValueError) as error:
            raise self.error(f"cannot write the {self.what} file {path}: {_reason(error)}") from error
        return path

    def read(self, path: str | Path, make: Callable[[bytes], _T]) -> _T:
        """What `make` makes of a file's content; a message of its names the file.

        Raises:
            LmaasError: The format's own: it is missing, damaged, or of another format.
        """
        try:
            content = Path(path).read_bytes()
        except (OSError, ValueError) as error:
            raise self.error(f"cannot read the {self.what} file {path}: {_reason(error)}") from error
        try:
            return make(content)
        except self.error as error:
            raise self.error(f"{path}: {error}") from error

    def array(self, name: str, value: object) -> NDArray[np.float32]:
        """Reads what `array_to_wire` wrote.

        Args:
            name: What the array is called in a message.
            value: From a file.

        Raises:
            LmaasError: The format's own: its form or size is wrong, or it is not finite.
            ValueError: It is no base64.
        """
        match value:
            case {"shape": list(shape), "float32": str(text), **rest} if not rest and _is_shape(shape):
                sizes = tuple(shape)
            case _:
                raise self.error(f"{name} has a shape and its float32 values in base64, not {value!r:.80}")
        raw = base64.b64decode(text, validate=True)
        if len(raw) != math.prod(sizes) * _FLOAT32_BYTES:
            raise self.error(f"{name} has {len(raw)} bytes, and a shape of {sizes}")
        array = np.frombuffer(raw, dtype="<f4").reshape(sizes).astype(np.float32)
        if not np.isfinite(array).all():
            raise self.error(f"{name} holds NaN or infinity")
        return array

    def _verified(self, content: bytes) -> dict[str, Any]:
        try:
            value = json.loads(content, object_pairs_hook=_distinct, parse_constant=_refuse_constant)
        except ValueError as error:
            raise self.error(f"this is not a {self.what} file (not JSON: {error})") from error
        if not isinstance(value, dict) or value.get("format") != self.name:
            found = value.get("format") if isinstance(value, dict) else type(value).__name__
            raise self.error(f"the format is {found!r:.80}; this version reads {self.name!r}")
        fields = ("format", *self.fields, "digest")
        if value.keys() != set(fields):
            raise self.error(f"a {self.what} file has {', '.join(fields)}, not {', '.join(map(repr, value)):.200}")
        stated = value.pop("digest")
        if stated != digest(value):
            raise self.error("its content does not match its digest: the file was changed or damaged")
        return value


def array_to_wire(array: NDArray[np.float32]) -> dict[str, object]:
    """An array of one or two axes for JSON: its shape, and little-endian float32 in base64."""
    little = np.ascontiguousarray(array, dtype="<f4")
    return {"shape": list(little.shape), "float32": base64.b64encode(little.tobytes()).decode("ascii")}


def _reason(error: OSError | ValueError) -> str:
    """Why a path cannot be used; a ValueError is about the path itself (a NUL in it)."""
    return str(getattr(error, "strerror", None) or error)


def _replace(path: Path, content: bytes) -> None:
    """Puts a file in the place of another at once; when it fails, the old one stands and nothing is left over."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")  # in the same folder: a rename crosses no file system
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave the new name with no content
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        repeated = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {repeated!r:.80} is given twice")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON's")


def _is_shape(sizes: list[object]) -> bool:
    return 1 <= len(sizes) <= _MOST_AXES and all(type(size) is int and size >= 1 for size in sizes)
