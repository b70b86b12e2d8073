"""What of a plan a results file does not have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lmaas_sdk.bench.cells import Cell
from lmaas_sdk.bench.results import done_cells
from lmaas_sdk.errors import RunFileError

__all__ = ["missing_of"]


def missing_of(
    cells: Iterable[Cell],
    records: Iterable[Mapping[str, Any]],
    *,
    path: Path,
    fingerprint: str,
    despite_changes: bool = False,
) -> list[Cell]:
    """The cells that are not done, each once.

    Args:
        cells: What is to be there in the end.
        records: What the results file has.
        path: Of that file, for messages.
        fingerprint: Of the engine that measures now.
        despite_changes: Count what was measured on another engine as done.

    Raises:
        RunFileError: Some are done, but on another engine than this, and nobody said that this may be so.
    """
    done = {one.record["key"]: one.record for one in done_cells(records)}
    unique = list({cell.key: cell for cell in cells}.values())
    if not despite_changes:
        _check_same_engine([done[cell.key] for cell in unique if cell.key in done], path, now=fingerprint)
    return [cell for cell in unique if cell.key not in done]


def _check_same_engine(records: Sequence[Mapping[str, Any]], path: Path, *, now: str) -> None:
    others = {before for record in records if (before := record["environment"]["fingerprint"]) != now}
    if others:
        raise RunFileError(
            f"{path} has cells that were measured on another engine: {'; '.join(sorted(others))}; "
            f"this one is {now}. Say despite_changes=True (--despite-changes) to have them beside what is measured "
            "now, or write to another file"
        )
