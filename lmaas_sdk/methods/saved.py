"""The file of a predictor: one format for every method, JSON with a digest and arrays in base64, never a pickle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.backend import ModelCard
from lmaas_sdk.errors import PredictorFileError
from lmaas_sdk.made_for import MadeFor
from lmaas_sdk.sealed_file import SealedFormat, array_to_wire
from lmaas_sdk.tasks import Task

__all__ = ["SavedPredictor"]

_FILE = SealedFormat(
    "lmaas-predictor/1",
    "predictor",
    ("method", "model", "hidden_size", "tokenizer_digest", "task", "settings", "arrays"),
    PredictorFileError,
)
_KINDS = {"method": str, "model": str, "hidden_size": int, "tokenizer_digest": str, "settings": dict, "arrays": dict}


@dataclass(frozen=True, eq=False)
class SavedPredictor:
    """All that a predictor is but for its connection.

    Args:
        method: Name of the method that made it, which alone knows what settings and arrays mean.
        made_for: The model.
        task: The task with its template and label words.
        settings: What the method noted: plain values for JSON.
        arrays: What it learned: float32, of one or two axes and not empty, by name.
    """

    method: str
    made_for: MadeFor
    task: Task
    settings: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The file's content, the same bytes for the same predictor."""
        return _FILE.to_bytes(self._fields())

    def to_wire(self) -> dict[str, Any]:
        """The same values as in the file, for a file that holds a predictor among others."""
        return _FILE.sealed(self._fields())

    def _fields(self) -> dict[str, object]:
        return {
            "method": self.method,
            "model": self.made_for.model,
            "hidden_size": self.made_for.hidden_size,
            "tokenizer_digest": self.made_for.tokenizer_digest,
            "task": self.task.to_wire(),
            "settings": dict(self.settings),
            "arrays": {name: array_to_wire(array) for name, array in self.arrays.items()},
        }

    def save(self, path: str | Path) -> Path:
        """Writes one file, whole or not at all, and returns its path; one that is there already is replaced at once.

        Raises:
            PredictorFileError: It cannot be written there, for example because the folder does not exist.
        """
        return _FILE.write(path, self.to_bytes())

    @classmethod
    def load(cls, path: str | Path) -> SavedPredictor:
        """Reads a predictor file.

        Raises:
            PredictorFileError: It is missing, damaged, or of another format.
        """
        return _FILE.read(path, cls.from_bytes)

    @classmethod
    def from_bytes(cls, content: bytes) -> SavedPredictor:
        """Reads what `to_bytes` wrote. Nothing in it is trusted: it may come from anyone.

        Raises:
            PredictorFileError: It is damaged, of another format, or makes no sense.
        """
        return _FILE.from_bytes(content, cls._from_fields)

    @classmethod
    def _from_fields(cls, value: dict[str, Any]) -> SavedPredictor:
        for name, wanted in _KINDS.items():
            if type(value[name]) is not wanted:
                raise PredictorFileError(f"{name} is a {wanted.__name__}, not {value[name]!r:.80}")
        return cls(
            value["method"],
            MadeFor(value["model"], value["hidden_size"], value["tokenizer_digest"]),
            Task.from_wire(value["task"]),
            value["settings"],
            {name: _FILE.array(f"array {name!r:.80}", array) for name, array in value["arrays"].items()},
        )

    def check_fits(self, card: ModelCard) -> None:
        """Refuses a model that it was not made for.

        Raises:
            PredictorFileError: The model's width or its tokenizer differs.
        """
        if misfit := self.made_for.misfit(card, "predictor was fitted"):
            raise PredictorFileError(misfit)

    def expect(self, *, settings: tuple[str, ...] = (), shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Refuses other settings and arrays than its method writes.

        Args:
            settings: Names of the settings.
            shapes: The shape of each array, by name.

        Raises:
            PredictorFileError: The message names what is there and what should be.
        """
        if self.settings.keys() != set(settings):
            raise PredictorFileError(
                f"a predictor of {self.method!r:.80} has the settings {list(settings)}, not "
                f"{list(self.settings)!r:.120}"
            )
        found = {name: array.shape for name, array in self.arrays.items()}
        if found != dict(shapes):
            raise PredictorFileError(
                f"a predictor of {self.method!r:.80} has arrays of the shapes {dict(shapes)}, not {found!r:.120}"
            )
