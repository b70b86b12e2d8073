"""What a results file says, by cell: the latest of each, as values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.bench.measuring import unpacked
from lmaas_sdk.canonical import digest

__all__ = ["DEPLOYMENT", "CellResult", "RowName", "done_cells"]

DEPLOYMENT = "deployment"
"""The kind of a record that is no cell."""


@dataclass(frozen=True, slots=True, order=True)
class RowName:
    """A row of a table: a configuration with the evaluations of its search.

    Args:
        configuration: Its name.
        evaluations: None: it searches nothing.
        settings: A digest of its settings, since a name may have stood for others before.
    """

    configuration: str
    evaluations: int | None
    settings: str

    def __str__(self) -> str:
        return self.configuration if self.evaluations is None else f"{self.configuration}@{self.evaluations}"


@dataclass(frozen=True, eq=False)  # no slots: predictions are unpacked once
class CellResult:
    """A cell that is done.

    Args:
        record: What the results file says of it.
    """

    record: Mapping[str, Any] = field(repr=False)

    @property
    def row(self) -> RowName:
        record = self.record
        return RowName(record["configuration"], record["evaluations_limit"], digest(record["settings"])[:8])

    @property
    def setting(self) -> str:
        """What results have to share to stand in one table: model, test rows, size of the sample."""
        record = self.record
        return digest([record["model"], record["digests"]["test"], record["shots"]])

    @property
    def task(self) -> str:
        return str(self.record["task"])

    @property
    def swept(self) -> tuple[str, str] | None:
        """The setting that a sweep varies by it, and of what; None: it is of no sweep."""
        found: list[str] | None = self.record.get("sweep")
        return None if found is None else (found[0], found[1])

    @property
    def model(self) -> str:
        """Its name."""
        return str(self.record["model"]["name"])

    @property
    def metric(self) -> str:
        return str(self.record["metric"])

    @property
    def seed(self) -> int | None:
        """None: no seed matters to it."""
        seed: int | None = self.record["seed"]
        return seed

    @property
    def value(self) -> float | None:
        """The metric on the test rows; None: it has no finite value."""
        value: float | None = self.record["test"]["value"]
        return value

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """(n_rows,) class indices of the test rows."""
        return unpacked(self.record["test"]["labels"])

    @cached_property
    def predictions(self) -> NDArray[np.int64]:
        """(n_rows,) class indices."""
        return unpacked(self.record["test"]["predictions"])


def done_cells(records: Iterable[Mapping[str, Any]]) -> list[CellResult]:
    """The cells that are done, in the order in which they were first there; of one measured again the latest."""
    latest: dict[str, CellResult] = {}
    for record in records:
        if record.get("kind") != DEPLOYMENT and record["status"] == "done":
            latest[record["key"]] = CellResult(record)
    return list(latest.values())
