"""A search that ended by itself is known for every budget that would have let it get so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lmaas_sdk.bench.cells import Cell
from lmaas_sdk.bench.results import done_cells

__all__ = ["known_of", "may_be_known"]

_ENDED_BY_ITSELF = "plateau"


def known_of(cell: Cell, records: Iterable[Mapping[str, Any]], *, fingerprint: str) -> Mapping[str, Any] | None:
    """The record of the same search with another budget, where that budget was not what ended it.

    A search that may race is none: whether it does depends on its budget. One that knows no plateau never ends by
    itself, and one on another engine need not go the same way here.

    Args:
        cell: What is not done.
        records: What is in the results file.
        fingerprint: Of the engine that measures now.
    """
    if not _may_tell_of_others(cell):
        return None
    for one in done_cells(records):
        record = one.record
        if (
            record["stopped"] == _ENDED_BY_ITSELF
            and record["evaluations"] <= cell.evaluations
            and record["environment"]["fingerprint"] == fingerprint
            and _apart_from_budget(record) == _of_cell(cell)
        ):
            return record
    return None


def may_be_known(cell: Cell, under_way: Iterable[Cell]) -> bool:
    """Whether one of the cells that are being measured is the same search with another budget."""
    if not _may_tell_of_others(cell):
        return False
    return any(_may_tell_of_others(other) and _of_cell(other) == _of_cell(cell) for other in under_way)


def _may_tell_of_others(cell: Cell) -> bool:
    return cell.evaluations is not None and "racing" not in cell.settings and "plateau" in cell.settings


def _apart_from_budget(record: Mapping[str, Any]) -> tuple[object, ...]:
    return record["method"], record["settings"], record["seed"], record["digests"], record["model"]


def _of_cell(cell: Cell) -> tuple[object, ...]:
    digests = {"train": cell.train.digest, "dev": cell.dev.digest, "test": cell.test.digest}
    seed = cell.seed if cell.configuration.is_seeded else None
    return cell.configuration.method, dict(cell.settings), seed, digests, dict(cell.model)
