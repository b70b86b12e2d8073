"""What owners that ended left in a ledger file is put in order.

What was never sent is void. What was sent may have been charged, so it is posted at the worst case and marked unknown.
What was set aside goes back.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from lmaas_sdk.accounting import owners
from lmaas_sdk.accounting.book import Book
from lmaas_sdk.accounting.ledger_rows import LedgerRows
from lmaas_sdk.accounting.owners import OwnerLock
from lmaas_sdk.accounting.transfers import Label, Reservation, Transfer
from lmaas_sdk.logs import log_event

if TYPE_CHECKING:
    from lmaas_sdk.accounting.ledger_file import SqliteLedger

__all__ = ["Recovery"]

_log = logging.getLogger("lmaas_sdk.accounting")


@dataclass(slots=True)
class _Left:
    """How much there was to put in order.

    Args:
        owners: Who left it.
        unknown: Transfers that were sent.
        void: Transfers that were not.
        released: Amounts that were set aside.
    """

    owners: int = 0
    unknown: int = 0
    void: int = 0
    released: int = 0

    @property
    def is_any(self) -> bool:
        """Whether there was anything."""
        return self.unknown + self.void + self.released > 0


class Recovery:
    """Looks for the dead and resolves what they left; on the writer's thread, within its transaction.

    Args:
        ledger: Whose file it is.
    """

    def __init__(self, ledger: SqliteLedger) -> None:
        self._ledger = ledger
        self._has_looked = False

    def note_unknown(self, rows: LedgerRows) -> None:
        """Tells the ledger of all that is posted as unknown, by whomever, and may still be corrected."""
        for (number, path, *label), amounts in rows.unknown():
            transfer = Transfer(self._ledger.account_at(path), amounts, Label(*label), id=number)
            transfer.state, transfer.posted, transfer.is_unknown = "posted", amounts, True
            self._ledger.note_unknown(Reservation.of_unknown(self._ledger, transfer))

    def begin(self) -> None:
        """A transaction begins: who has died since the last one may be found again."""
        self._has_looked = False

    def of_the_dead(self, book: Book, rows: LedgerRows, at: float) -> bool:
        """Resolves what dead owners left, looking once a transaction; whether there was anything.

        Args:
            book: Books it.
            rows: The file.
            at: Seconds since 1970.
        """
        if self._has_looked:
            return False
        self._has_looked = True
        left = _Left()
        for owner in owners.unended(rows.connection, but=self._ledger.owner):
            self._of_one(book, rows, owner, at=at, left=left)
        if left.owners:
            _tell(left, rows, "ledger_recovered", "%(file)s: what %(owners)d processes that died had left is resolved")
        return left.is_any

    def of_itself(self, book: Book, rows: LedgerRows) -> None:
        """Resolves what this opening leaves."""
        left = _Left(owners=1)
        self._of(book, rows, self._ledger.owner, left=left)
        if left.unknown:
            _tell(left, rows, "ledger_closed_early", "%(file)s was closed with %(unknown)d calls under way")

    def _of(self, book: Book, rows: LedgerRows, owner: str, *, left: _Left) -> None:
        for (number, path, *label), amounts, is_sent in rows.unresolved(owner):
            transfer = Transfer(self._ledger.account_at(path), amounts, Label(*label), id=number)
            transfer.state, transfer.is_sent = "pending", is_sent
            if is_sent:
                left.unknown += 1
                book.post(transfer, amounts, unknown=True)
                self._ledger.note_unknown(Reservation.of_unknown(self._ledger, transfer))
            else:
                left.void += 1
                book.void(transfer)
        for path in rows.aside_of(owner):
            left.released += 1
            book.release(self._ledger.account_at(path))

    def _of_one(self, book: Book, rows: LedgerRows, owner: str, *, at: float, left: _Left) -> None:
        lock = OwnerLock(rows.path, owner)
        with lock.if_dead() as is_dead:
            if not is_dead:
                return
            left.owners += 1
            self._of(book, rows, owner, left=left)
            owners.end(rows.connection, owner, at=at, how="recovered")
            lock.path.unlink(missing_ok=True)


def _tell(left: _Left, rows: LedgerRows, event: str, message: str) -> None:
    level = logging.WARNING if left.is_any else logging.INFO
    log_event(_log, level, event, message, file=str(rows.path), **asdict(left))
