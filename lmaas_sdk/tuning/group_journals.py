"""The journals of several runs: a folder, one file a run."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.errors import JournalError
from lmaas_sdk.tuning.journal import Durability
from lmaas_sdk.tuning.journal_file import LONGEST_HEADER, JournalFile, has_sent
from lmaas_sdk.tuning.journal_place import JournalPlace
from lmaas_sdk.tuning.past import Past, read_past
from lmaas_sdk.tuning.resumption import Recorded

__all__ = ["Begun", "Journals", "holds_run"]


@dataclass(frozen=True, slots=True, eq=False)
class Begun:
    """A run that an earlier process began.

    Args:
        recorded: How.
        past: What its journal held.
    """

    recorded: Recorded
    past: Past

    @property
    def spent(self) -> Amounts:
        """What it had spent when its journal ended."""
        return self.past.spent

    @property
    def lost(self) -> Amounts:
        """The worst case of what was on its way then."""
        return self.past.lost


@dataclass(frozen=True, slots=True)
class Journals:
    """Where they are kept.

    Args:
        folder: The folder.
        durability: When to wait for the disk.
        despite_changes: Whether to go on under other versions or on another engine.
    """

    folder: Path
    durability: Durability = "generation"
    despite_changes: bool = False

    def make_folder(self) -> None:
        """Makes the folder if need be; blocking.

        Raises:
            JournalError: It cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise JournalError(f"the folder {self.folder} cannot be made: {error.strerror or error}") from error

    def begun(self, name: str) -> Begun | None:
        """What the journal of a run holds; None: it has none, or one that ends before its first line does. Blocking.

        Raises:
            JournalError: It cannot be read, or another run has it open.
        """
        path = self._path(name)
        if not holds_run(path):
            return None
        with closing(JournalFile(path, exists=True)) as file:
            past = read_past(file)
        return Begun(Recorded(path), past)

    def place(self, name: str, begun: Begun | None, *, is_booked: bool, options: Mapping[str, Any]) -> JournalPlace:
        """The place of a run's journal.

        Args:
            name: The run's.
            begun: What it holds already.
            is_booked: Whether the budget has what that says was spent.
            options: What else to write into the first line of a new one.
        """
        recorded = None if begun is None else begun.recorded
        return JournalPlace(
            self._path(name), self.durability, recorded, self.despite_changes, options=options, is_booked=is_booked
        )

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.journal"


def holds_run(path: Path) -> bool:
    """Whether there is a journal of a run that may have sent something; any other is begun anew. Blocking.

    Raises:
        JournalError: It cannot be read.
    """
    if not path.exists():
        return False
    try:
        with path.open("rb") as file:
            return has_sent(file.read(LONGEST_HEADER))
    except OSError as error:
        raise JournalError(f"cannot read the journal {path}: {error.strerror or error}") from error
