"""What owners that ended left in a ledger file is put in order.

What was never sent is void. What was sent may have been charged, so it is posted at the worst case and marked unknown.
What was set aside goes back.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from lmaas_sdk.accounting import owners
from lmaas_sdk.accounting.book import Book
from lmaas_sdk.accounting.ledger_rows import LedgerRows
from lmaas_sdk.accounting.owners import OwnerLock
from lmaas_sdk.accounting.transfers import Label, Reservation, Transfer

if TYPE_CHECKING:
    from lmaas_sdk.accounting.ledger_file import SqliteLedger

__all__ = ["Recovery"]

_log = logging.getLogger(__name__)
_LOOK_EVERY_S = 1.0


class Recovery:
    """Looks for the dead and resolves what they left; on the writer's thread, within its transaction.

    Args:
        ledger: Whose file it is.
    """

    def __init__(self, ledger: SqliteLedger) -> None:
        self._ledger = ledger
        self._looked_s = float("-inf")

    def note_unknown(self, rows: LedgerRows) -> None:
        """Tells the ledger of all that is posted as unknown, by whomever, and may still be corrected."""
        for (number, path, *label), amounts in rows.unknown():
            transfer = Transfer(self._ledger.account_at(path), amounts, Label(*label), id=number)
            transfer.state, transfer.posted, transfer.is_unknown = "posted", amounts, True
            self._ledger.note_unknown(Reservation.of_unknown(self._ledger, transfer))

    def of_the_dead(self, book: Book, rows: LedgerRows, at: float) -> bool:
        """Resolves what dead owners left, looking once a second at most; whether there was anything.

        Args:
            book: Books it.
            rows: The file.
            at: Seconds since 1970.
        """
        now_s = time.monotonic()
        if now_s - self._looked_s < _LOOK_EVERY_S:
            return False
        self._looked_s = now_s
        others = owners.unended(rows.connection, but=self._ledger.owner)
        return sum(self._of_one(book, rows, owner, at=at) for owner in others) > 0  # all of them, not up to the first

    def of(self, book: Book, rows: LedgerRows, owner: str) -> bool:
        """Resolves what one owner left; whether there was anything."""
        any_left = False
        for (number, path, *label), amounts, is_sent in rows.unresolved(owner):
            any_left = True
            transfer = Transfer(self._ledger.account_at(path), amounts, Label(*label), id=number)
            transfer.state, transfer.is_sent = "pending", is_sent
            if is_sent:
                book.post(transfer, amounts, unknown=True)
                self._ledger.note_unknown(Reservation.of_unknown(self._ledger, transfer))
            else:
                book.void(transfer)
        for path in rows.aside_of(owner):
            any_left = True
            book.release(self._ledger.account_at(path))
        return any_left

    def _of_one(self, book: Book, rows: LedgerRows, owner: str, *, at: float) -> bool:
        lock = OwnerLock(rows.path, owner)
        with lock.if_dead() as is_dead:
            if not is_dead:
                return False
            any_left = self.of(book, rows, owner)
            owners.end(rows.connection, owner, at=at, how="recovered")
            lock.path.unlink(missing_ok=True)
        _log.info("%s: what a process that died had left was %s", rows.path, "resolved" if any_left else "nothing")
        return any_left
