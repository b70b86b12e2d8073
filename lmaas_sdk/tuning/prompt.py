"""A tuned prompt: a value that fits into one small file without any code in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.backend import ModelCard
from lmaas_sdk.canonical import array_digest
from lmaas_sdk.errors import PromptFileError
from lmaas_sdk.made_for import MadeFor
from lmaas_sdk.sealed_file import SealedFormat, array_to_wire
from lmaas_sdk.tasks import Task
from lmaas_sdk.tuning.deep_subspace import DeepSubspace, Space, space_from_wire
from lmaas_sdk.tuning.subspace import NAMED_PROJECTIONS

__all__ = ["TunedPrompt"]

_FILE = SealedFormat(
    "lmaas-prompt/1", "prompt", ("model", "tokenizer_digest", "task", "subspace", "z", "arrays"), PromptFileError
)


@dataclass(frozen=True, eq=False)
class TunedPrompt:
    """What tuning found, with all that is needed to use it elsewhere.

    Args:
        task: The task with its template and label words.
        subspace, z: The soft prompt: z (d,) float32 in that subspace; of several layers, in those of all of them.
        model: Name of the model it was tuned for.
        tokenizer_digest: That of the model's tokenizer, which another server's model must share, as it must share the
            width in `subspace`; "" where it is not known.
        arrays: Uploaded arrays that the subspace names (learned p0, projection), by digest.
    """

    task: Task
    subspace: Space
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
        return _FILE.to_bytes(self._fields())

    def to_wire(self) -> dict[str, Any]:
        """The same values as in the file, for a file that holds a prompt among others."""
        return _FILE.sealed(self._fields())

    def _fields(self) -> dict[str, object]:
        return {
            "model": self.model,
            "tokenizer_digest": self.tokenizer_digest,
            "task": self.task.to_wire(),
            "subspace": self.subspace.to_wire(),
            "z": array_to_wire(self.z),
            "arrays": [array_to_wire(array) for array in self.arrays],
        }

    def save(self, path: str | Path) -> Path:
        """Writes the prompt to one file, whole or not at all, and returns its path.

        A file that is there already is replaced in one step: a reader finds the old prompt or the new one.

        Raises:
            PromptFileError: It cannot be written there, for example because the folder does not exist.
        """
        return _FILE.write(path, self.to_bytes())

    @classmethod
    def load(cls, path: str | Path) -> TunedPrompt:
        """Reads a prompt file.

        Raises:
            PromptFileError: It is missing, damaged, or of another format.
        """
        return _FILE.read(path, cls.from_bytes)

    @classmethod
    def from_bytes(cls, content: bytes) -> TunedPrompt:
        """Reads what `to_bytes` wrote. Nothing in it is trusted: it may come from anyone.

        Raises:
            PromptFileError: It is damaged, of another format, or makes no sense.
        """
        return _FILE.from_bytes(content, cls._from_fields)

    def check_fits(self, card: ModelCard) -> None:
        """Refuses a model that the prompt was not made for.

        Raises:
            PromptFileError: Its width or its tokenizer differs.
        """
        made = MadeFor(self.model, self.subspace.hidden_size, self.tokenizer_digest)
        if misfit := made.misfit(card, "prompt was tuned"):
            raise PromptFileError(misfit)

    @classmethod
    def _from_fields(cls, value: dict[str, Any]) -> TunedPrompt:
        for name, wanted in (("model", str), ("tokenizer_digest", str), ("arrays", list)):
            if not isinstance(value[name], wanted):
                raise PromptFileError(f"{name} is a {wanted.__name__}, not {value[name]!r:.80}")
        prompt = cls(
            task=Task.from_wire(value["task"]),
            subspace=space_from_wire(value["subspace"]),
            z=_FILE.array("z", value["z"]),
            model=value["model"],
            tokenizer_digest=value["tokenizer_digest"],
            arrays=tuple(_FILE.array(f"arrays[{n}]", array) for n, array in enumerate(value["arrays"])),
        )
        prompt._check()
        return prompt

    def _check(self) -> None:
        space = self.subspace
        if self.z.shape != (space.d,):
            raise PromptFileError(f"z has shape {self.z.shape}, but d is {space.d}")
        if isinstance(space, DeepSubspace):
            return  # it names no arrays
        shapes = {array_digest(array): array.shape for array in self.arrays}
        wanted = {space.base: (space.prompt_tokens, space.hidden_size), space.projection: space.shape}
        needed = {name: shape for name, shape in wanted.items() if name is not None and name not in NAMED_PROJECTIONS}
        if missing := sorted(needed.keys() - shapes.keys()):
            raise PromptFileError(f"the arrays {missing} are not in the file")
        for name, shape in needed.items():
            if shapes[name] != shape:
                raise PromptFileError(f"the array {name} has shape {shapes[name]}, and the subspace needs {shape}")
