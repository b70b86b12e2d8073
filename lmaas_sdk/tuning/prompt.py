"""A tuned prompt: a value that fits into one small file without any code in it."""

from __future__ import annotations

import base64
import json
import math
import os
import secrets
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.backend import ModelCard
from lmaas_sdk.canonical import array_digest, canonical_json, digest
from lmaas_sdk.errors import PromptFileError
from lmaas_sdk.tasks import Task
from lmaas_sdk.tuning.subspace import NAMED_PROJECTIONS, Subspace

__all__ = ["TunedPrompt"]

_FORMAT = "lmaas-prompt/1"
_MOST_AXES = 2
_FLOAT32_BYTES = 4
_FIELDS = ("format", "model", "tokenizer_digest", "task", "subspace", "z", "arrays", "digest")


@dataclass(frozen=True, eq=False)
class TunedPrompt:
    """What tuning found, with all that is needed to use it elsewhere.

    Args:
        task: The task with its template and label words.
        subspace, z: The soft prompt: z (d,) float32 in that subspace.
        model: Name of the model it was tuned for.
        tokenizer_digest: That of the model's tokenizer, which another server's model must share, as it must share the
            width in `subspace`; "" where it is not known.
        arrays: Uploaded arrays that the subspace names (learned p0, projection), by digest.
    """

    task: Task
    subspace: Subspace
    z: NDArray[np.float32]
    model: str
    tokenizer_digest: str
    arrays: tuple[NDArray[np.float32], ...] = ()

    @property
    def Z(self) -> NDArray[np.float32]:
        """z as a batch of one candidate: (1, d) float32."""
        return self.z[None, :]

    def to_bytes(self) -> bytes:
        """The file's content: JSON with arrays in base64, the same bytes for the same prompt."""
        content = {
            "format": _FORMAT,
            "model": self.model,
            "tokenizer_digest": self.tokenizer_digest,
            "task": self.task.to_wire(),
            "subspace": self.subspace.to_wire(),
            "z": _to_wire(self.z),
            "arrays": [_to_wire(array) for array in self.arrays],
        }
        return canonical_json(content | {"digest": digest(content)}) + b"\n"

    def save(self, path: str | Path) -> Path:
        """Writes the prompt to one file, whole or not at all, and returns its path.

        A file that is there already is replaced in one step: a reader finds the old prompt or the new one.

        Raises:
            PromptFileError: It cannot be written there, for example because the folder does not exist.
        """
        path = Path(path)
        if not path.parent.is_dir():
            raise PromptFileError(f"cannot write the prompt file {path}: make the folder {path.parent} first")
        content = self.to_bytes()
        try:
            _replace(Path(os.path.realpath(path)), content)  # not a link to the file, but the file
        except (OSError, ValueError) as error:
            raise PromptFileError(f"cannot write the prompt file {path}: {_reason(error)}") from error
        return path

    @classmethod
    def load(cls, path: str | Path) -> TunedPrompt:
        """Reads a prompt file.

        Raises:
            PromptFileError: It is missing, damaged, or of another format.
        """
        try:
            content = Path(path).read_bytes()
        except (OSError, ValueError) as error:
            raise PromptFileError(f"cannot read the prompt file {path}: {_reason(error)}") from error
        try:
            return cls.from_bytes(content)
        except PromptFileError as error:
            raise PromptFileError(f"{path}: {error}") from error

    @classmethod
    def from_bytes(cls, content: bytes) -> TunedPrompt:
        """Reads what `to_bytes` wrote. Nothing in it is trusted: it may come from anyone.

        Raises:
            PromptFileError: It is damaged, of another format, or makes no sense.
        """
        try:
            return cls._from_fields(_verified(content))
        except PromptFileError:
            raise
        except ValueError as error:
            raise PromptFileError(f"not a prompt of this version: {error}") from error
        except RecursionError as error:
            raise PromptFileError("this is not a prompt file (its values are nested too deep)") from error

    def check_fits(self, card: ModelCard) -> None:
        """Refuses a model that the prompt was not made for.

        Raises:
            PromptFileError: Its width or its tokenizer differs.
        """
        if card.hidden_size != self.subspace.hidden_size:
            raise PromptFileError(
                f"this prompt was tuned for {self.model} (width {self.subspace.hidden_size}); "
                f"{card.name} has width {card.hidden_size}: use it with the model it was tuned for"
            )
        if self.tokenizer_digest and card.tokenizer_digest and self.tokenizer_digest != card.tokenizer_digest:
            raise PromptFileError(
                f"this prompt was tuned for {self.model}; {card.name} has another tokenizer "
                f"({card.tokenizer_digest[:12]}, not {self.tokenizer_digest[:12]})"
            )

    @classmethod
    def _from_fields(cls, value: dict[str, Any]) -> TunedPrompt:
        for name, wanted in (("model", str), ("tokenizer_digest", str), ("arrays", list)):
            if not isinstance(value[name], wanted):
                raise PromptFileError(f"{name} is a {wanted.__name__}, not {value[name]!r:.80}")
        prompt = cls(
            task=Task.from_wire(value["task"]),
            subspace=Subspace.from_wire(value["subspace"]),
            z=_from_wire("z", value["z"]),
            model=value["model"],
            tokenizer_digest=value["tokenizer_digest"],
            arrays=tuple(_from_wire(f"arrays[{n}]", array) for n, array in enumerate(value["arrays"])),
        )
        prompt._check()
        return prompt

    def _check(self) -> None:
        space = self.subspace
        if self.z.shape != (space.d,):
            raise PromptFileError(f"z has shape {self.z.shape}, but d is {space.d}")
        shapes = {array_digest(array): array.shape for array in self.arrays}
        wanted = {space.base: (space.prompt_tokens, space.hidden_size), space.projection: space.shape}
        needed = {name: shape for name, shape in wanted.items() if name is not None and name not in NAMED_PROJECTIONS}
        if missing := sorted(needed.keys() - shapes.keys()):
            raise PromptFileError(f"the arrays {missing} are not in the file")
        for name, shape in needed.items():
            if shapes[name] != shape:
                raise PromptFileError(f"the array {name} has shape {shapes[name]}, and the subspace needs {shape}")


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


def _verified(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content, object_pairs_hook=_distinct, parse_constant=_refuse_constant)
    except ValueError as error:
        raise PromptFileError(f"this is not a prompt file (not JSON: {error})") from error
    if not isinstance(value, dict) or value.get("format") != _FORMAT:
        found = value.get("format") if isinstance(value, dict) else type(value).__name__
        raise PromptFileError(f"the format is {found!r:.80}; this version reads {_FORMAT!r}")
    if value.keys() != set(_FIELDS):
        raise PromptFileError(f"a prompt file has {', '.join(_FIELDS)}, not {', '.join(map(repr, value)):.200}")
    stated = value.pop("digest")
    if stated != digest(value):
        raise PromptFileError("its content does not match its digest: the file was changed or damaged")
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        repeated = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {repeated!r:.80} is given twice")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON's")


def _to_wire(array: NDArray[np.float32]) -> dict[str, object]:
    little = np.ascontiguousarray(array, dtype="<f4")
    return {"shape": list(little.shape), "float32": base64.b64encode(little.tobytes()).decode("ascii")}


def _is_shape(sizes: list[object]) -> bool:
    return 1 <= len(sizes) <= _MOST_AXES and all(type(size) is int and size >= 1 for size in sizes)


def _from_wire(name: str, value: object) -> NDArray[np.float32]:
    match value:
        case {"shape": list(shape), "float32": str(text), **rest} if not rest and _is_shape(shape):
            sizes = tuple(shape)
        case _:
            raise PromptFileError(f"{name} has a shape and its float32 values in base64, not {value!r:.80}")
    raw = base64.b64decode(text, validate=True)
    if len(raw) != math.prod(sizes) * _FLOAT32_BYTES:
        raise PromptFileError(f"{name} has {len(raw)} bytes, and a shape of {sizes}")
    array = np.frombuffer(raw, dtype="<f4").reshape(sizes).astype(np.float32)
    if not np.isfinite(array).all():
        raise PromptFileError(f"{name} holds NaN or infinity")
    return array
