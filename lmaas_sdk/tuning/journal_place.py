"""Where the journal of a run is kept, and how it is opened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmaas_sdk.tuning.journal import Durability, Journal
from lmaas_sdk.tuning.resumption import Recorded

__all__ = ["JournalPlace", "opened_journal"]


@dataclass(frozen=True, slots=True)
class JournalPlace:
    """Where a run's journal is kept.

    Args:
        path: The file.
        durability: When to wait for the disk.
        recorded: What it says of the run that began it; None: it is to be made.
        despite_changes: Whether to go on under other versions or on another engine.
        options: What else to write into its first line.
        is_booked: Whether the budget has what was spent before; None: it has if both are in ledger files.
    """

    path: Path
    durability: Durability = "generation"
    recorded: Recorded | None = None
    despite_changes: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    is_booked: bool | None = None


@asynccontextmanager
async def opened_journal(place: JournalPlace | None, header: Mapping[str, Any]) -> AsyncIterator[Journal | None]:
    """The journal that is there, or a new one that begins with this header; None: the run keeps none.

    Raises:
        JournalError: It cannot be made, or not be read.
    """
    if place is None:
        yield None
        return
    if place.recorded is None:
        journal = await Journal.begin(place.path, header, place.durability)
    else:
        journal = await Journal.resume(place.path, place.durability)
    try:
        yield journal
    finally:
        await journal.close()
