"""A tuned prompt: a value that fits into one small file without any code in it."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.backend import ModelCard
from lmaas_sdk.canonical import array_digest, canonical_json, digest
from lmaas_sdk.errors import PromptFileError, TaskError
from lmaas_sdk.tasks import Task
from lmaas_sdk.tuning.subspace import Subspace

__all__ = ["TunedPrompt"]

_FORMAT = "lmaas-prompt/1"


@dataclass(frozen=True, eq=False)
class TunedPrompt:
    """What tuning found, with all that is needed to use it elsewhere.

    Args:
        task: The task with its template and label words.
        subspace, z: The soft prompt: z (d,) float32 in that subspace.
        model: Name of the model it was tuned for.
        hidden_size, tokenizer_digest: What another server's model must share.
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
        """Writes the prompt to one file and returns its path."""
        path = Path(path)
        path.write_bytes(self.to_bytes())
        return path

    @classmethod
    def load(cls, path: str | Path) -> TunedPrompt:
        """Reads a prompt file.

        Raises:
            PromptFileError: It is missing, damaged, or of another format.
        """
        try:
            return cls.from_bytes(Path(path).read_bytes())
        except OSError as error:
            raise PromptFileError(f"cannot read the prompt file {path}: {error.strerror}") from error
        except PromptFileError as error:
            raise PromptFileError(f"{path}: {error}") from error

    @classmethod
    def from_bytes(cls, content: bytes) -> TunedPrompt:
        """Reads what `to_bytes` wrote.

        Raises:
            PromptFileError: It is damaged or of another format.
        """
        value = _verified(content)
        try:
            return cls(
                task=Task.from_wire(value["task"]),
                subspace=Subspace.from_wire(value["subspace"]),
                z=_from_wire(value["z"]),
                model=str(value["model"]),
                tokenizer_digest=str(value["tokenizer_digest"]),
                arrays=tuple(_from_wire(array) for array in value["arrays"]),
            )._checked()
        except (KeyError, TypeError, ValueError, TaskError) as error:
            raise PromptFileError(f"not a prompt of this version: {error}") from error

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

    def _checked(self) -> TunedPrompt:
        if self.z.shape != (self.subspace.d,):
            raise PromptFileError(f"z has shape {self.z.shape}, but d is {self.subspace.d}")
        named = {name for name in (self.subspace.base, self.subspace.projection) if name and len(name) == 64}
        missing = named - {array_digest(array) for array in self.arrays}
        if missing:
            raise PromptFileError(f"the arrays {sorted(missing)} are not in the file")
        return self


def _verified(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError as error:
        raise PromptFileError("this is not a prompt file (not JSON)") from error
    if not isinstance(value, dict) or value.get("format") != _FORMAT:
        found = value.get("format") if isinstance(value, dict) else type(value).__name__
        raise PromptFileError(f"the format is {found!r}; this version reads {_FORMAT!r}")
    stated = value.pop("digest", None)
    if stated != digest(value):
        raise PromptFileError("its content does not match its digest: the file was changed or damaged")
    return value


def _to_wire(array: NDArray[np.float32]) -> dict[str, object]:
    little = np.ascontiguousarray(array, dtype="<f4")
    return {"shape": list(little.shape), "float32": base64.b64encode(little.tobytes()).decode("ascii")}


def _from_wire(value: dict[str, Any]) -> NDArray[np.float32]:
    raw = base64.b64decode(value["float32"], validate=True)
    array = np.frombuffer(raw, dtype="<f4").reshape(value["shape"]).astype(np.float32)
    if not np.isfinite(array).all():
        raise PromptFileError("an array holds NaN or infinity")
    return array
