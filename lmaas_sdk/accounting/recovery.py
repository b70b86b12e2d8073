"""What the dead left in a ledger file is put in order.

What was never sent is void. What was sent may have been charged, so it is posted at the worst case and marked unknown.
What was set aside goes back.
"""

from __future__ import annotations

from collections.abc import Callable

from lmaas_sdk.accounting.book import Account, Book
from lmaas_sdk.accounting.ledger_rows import LedgerRows
from lmaas_sdk.accounting.transfers import Label, Transfer

__all__ = ["resolve_left"]


def resolve_left(
    book: Book, rows: LedgerRows, owner: str, *, account_at: Callable[[str], Account]
) -> tuple[list[Transfer], bool]:
    """Resolves everything an owner left, in the transaction that is under way.

    Returns:
        What was posted as unknown, and whether there was anything at all.
    """
    unknown, any_left = [], False
    for (number, path, *label), amounts, is_sent in rows.unresolved(owner):
        any_left = True
        transfer = Transfer(account_at(path), amounts, Label(*label), id=number)
        transfer.state, transfer.is_sent = "pending", is_sent
        if is_sent:
            book.post(transfer, amounts, unknown=True)
            unknown.append(transfer)
        else:
            book.void(transfer)
    for path in rows.aside_of(owner):
        any_left = True
        book.release(account_at(path))
    return unknown, any_left
