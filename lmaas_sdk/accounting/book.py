"""The rules of the books: what a reservation may take, what resolves it, and the balances that follow.

No lock, no clock of its own and no file: `ledger.py` and `ledger_file.py` say who may call it when and where its
entries go. Every operation checks first and changes afterwards, so one that is refused leaves nothing behind.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from lmaas_sdk.accounting.accounts import Account, Balances, Entry, EntryRow
from lmaas_sdk.accounting.amounts import UNITS
from lmaas_sdk.accounting.quantities import ZERO, Limits, Quantities, added, is_over, less, unspent
from lmaas_sdk.errors import LedgerConflict
from lmaas_sdk.logs import amount_fields, call_fields, log_event

if TYPE_CHECKING:
    from lmaas_sdk.accounting.transfers import Transfer

__all__ = ["Account", "Balances", "Book", "Entries", "Entry", "EntryRow"]

_log = logging.getLogger("lmaas_sdk.accounting")
_NO_AMOUNTS = (None, None, None, None)


class Entries(Protocol):
    """Where entries go."""

    def append(self, row: EntryRow, /) -> object: ...


class Book:
    """Accounts, and the operations on them.

    Args:
        owner: Who writes, for the entries.
        wall: Seconds since 1970.
        entries: Takes every entry.
        load: Brings an account's `now` up to date with what others wrote; whether it is there at all. None: nobody
            else writes.
    """

    def __init__(
        self,
        owner: str,
        wall: Callable[[], float],
        entries: Entries,
        load: Callable[[Account], bool] | None = None,
    ) -> None:
        self.version = 0
        self.changed: dict[Account, None] = {}
        self._owner, self._wall, self._entries, self._load = owner, wall, entries, load

    def open(self, account: Account, limits: Limits) -> None:
        """Makes an account with these limits, or finds it with the same.

        Raises:
            LedgerConflict: It is there with others.
        """
        if account.version < 0 and (self._load is None or not self._load(account)):
            self._create(account, limits)
        self._refresh(account)
        if account.is_aside or account.now.limits != limits:
            raise LedgerConflict(_conflict(account, limits))

    def change_limits(
        self, account: Account, change: Callable[[Limits], Limits], *, reopen: bool = False
    ) -> tuple[Limits, Limits]:
        """Other limits from now on, made of those that it has; returns both.

        Args:
            account: Whose.
            change: Makes the new limits of the old ones.
            reopen: Whether a bill above its reservation, which has closed the account, is accepted.

        Raises:
            ValueError: More than that is posted and pending, the account was set aside, or nothing has closed it.
        """
        self._refresh(account)
        now = account.now
        if account.is_aside:
            raise ValueError(f"budget {account.name!r} was set aside: its limits are what was taken from its parent")
        if reopen and not now.overrun:
            raise ValueError(f"budget {account.name!r} is not closed by a bill above its reservation: leave it open")
        limits = change(now.limits)
        self._check_limits(account, limits)
        if limits != now.limits or not reopen:
            account.now = account.now._replace(limits=limits)
            self._write("limits", account, limits)
        if reopen:
            account.now = account.now._replace(overrun=False)
            self._write("reopen", account, _NO_AMOUNTS)
        return now.limits, limits

    def _check_limits(self, account: Account, limits: Limits) -> None:
        now = account.now
        for unit, limit, used in zip(UNITS, limits, added(now.posted, now.pending), strict=True):
            if limit is not None and used > limit:
                raise ValueError(f"budget {account.name!r} has {used} {unit} posted and pending: allow at least that")

    def check(self, account: Account, asked: Quantities) -> None:
        """Raises what `reserve` would.

        Raises:
            BudgetExceeded: It does not fit, or the account or one above it is closed.
        """
        self._refresh(account)
        for here in account.line:
            if here.now.overrun or here.now.released:
                here.now.check_open(here.name, asked)
        for here in account.line:
            here.now.check(here.name, asked)
            if here.is_aside:
                return  # those above have paid for it already

    def reserve(self, account: Account, transfers: Sequence[Transfer]) -> None:
        """Takes all of these from the account and every one above it, or nothing.

        Raises:
            BudgetExceeded: They do not fit together.
        """
        total = transfers[0].amounts if transfers else ZERO
        for transfer in transfers[1:]:
            total = added(total, transfer.amounts)
        self.check(account, total)
        self._move(account, total, ZERO)
        at = self._wall()
        for transfer in transfers:
            transfer.state = "pending"
            self._note("pending", transfer, transfer.amounts, at=at)

    def sent(self, transfer: Transfer) -> None:
        """Says that it is about to go out, so that from now on nobody may take it for unsent."""
        self._check_pending(transfer, "sent")
        transfer.is_sent = True
        self._note("sent", transfer)

    def refused(self, transfer: Transfer) -> None:
        """Says that it was provably not charged, and waits to be sent again."""
        self._check_pending(transfer, "refused")
        transfer.is_sent = False
        self._note("refused", transfer)

    def post(self, transfer: Transfer, actual: Quantities, *, unknown: bool = False) -> None:
        """Books what it came to, and frees the rest; more than was reserved closes the line."""
        self._check_pending(transfer, "posted")
        self._refresh(transfer.account)
        transfer.state, transfer.posted, transfer.is_unknown = "posted", actual, unknown
        self._move(transfer.account, less(ZERO, transfer.amounts), actual)
        if is_over(actual, transfer.amounts):
            for here in transfer.account.line:
                here.now = here.now._replace(overrun=True)
            _log_overrun(transfer)
        self._note("post", transfer, actual, unknown=unknown)

    def void(self, transfer: Transfer) -> None:
        """Frees it all."""
        self._check_pending(transfer, "void")
        self._refresh(transfer.account)
        transfer.state = "void"
        self._move(transfer.account, less(ZERO, transfer.amounts), ZERO)
        self._note("void", transfer)

    def correct(self, transfer: Transfer, actual: Quantities) -> None:
        """Puts what a later answer says in the place of what was posted."""
        if transfer.state != "posted" or is_over(actual, transfer.posted):
            raise ValueError(f"transfer {transfer.id} is {transfer.state} and cannot be corrected to {actual}")
        self._refresh(transfer.account)
        self._move(transfer.account, ZERO, less(actual, transfer.posted))
        transfer.state, transfer.posted, transfer.is_unknown = "corrected", actual, False
        self._note("correct", transfer, actual)

    def set_aside(self, account: Account, amounts: Quantities) -> None:
        """Makes an account of what is taken out of its parent now.

        Raises:
            BudgetExceeded: It is not free.
        """
        parent = account.line[1]
        self.check(parent, amounts)
        self._move(parent, amounts, ZERO)
        self._create(account, amounts)

    def release(self, account: Account) -> None:
        """Ends an account that was set aside, and gives the rest back; the second time changes nothing.

        Raises:
            ValueError: Reservations in it are still pending.
        """
        self._refresh(account)
        now = account.now
        if now.released:
            return
        if now.pending != ZERO:
            raise ValueError(f"budget {account.name!r} still has {now.pending} pending: resolve it before release")
        self._move(account.line[1], less(ZERO, unspent(now.limits, now.posted)), ZERO)
        account.now = now._replace(limits=now.posted, released=True)
        self._write("release", account, now.posted)

    def _create(self, account: Account, limits: Limits) -> None:
        account.now = Balances(limits)
        account.version = self.version
        self._write("limits", account, limits)

    def _refresh(self, account: Account) -> None:
        for here in account.line:
            if here.version != self.version:
                if self._load is not None:
                    self._load(here)
                here.version = self.version

    def _move(self, account: Account, pending: Quantities, posted: Quantities) -> None:
        """Adds to pending and posted, here and above; amounts may be negative."""
        for here in account.line:
            limits, used, held, overrun, released = here.now
            after = added(used, posted)
            here.now = Balances(limits, after, added(held, pending), overrun, released)
            self.changed[here] = None
            if here.is_aside and not released:
                # the parent keeps pending what is not spent of it, whatever is reserved inside
                pending = less(unspent(limits, after), unspent(limits, used))
                if pending == ZERO == posted:
                    return

    def _check_pending(self, transfer: Transfer, to: str) -> None:
        if transfer.state != "pending":
            raise ValueError(f"transfer {transfer.id} is {transfer.state} already; it cannot become {to}")

    def _note(
        self,
        kind: str,
        transfer: Transfer,
        row: Quantities | None = None,
        *,
        at: float | None = None,
        unknown: bool = False,
    ) -> None:
        amounts, label = row or _NO_AMOUNTS, transfer.label
        when = self._wall() if at is None else at
        names = label.purpose, label.endpoint, label.key
        place = transfer.id, transfer.account.path, self._owner
        self._entries.append((when, kind, *place, *amounts, *names, int(unknown)))

    def _write(self, kind: str, account: Account, row: Limits) -> None:
        self.changed[account] = None
        self._entries.append((self._wall(), kind, None, account.path, self._owner, *row, "", "", "", 0))


def _log_overrun(transfer: Transfer) -> None:
    over = [max(0, amount) for amount in less(transfer.posted, transfer.amounts)]
    log_event(
        _log,
        logging.WARNING,
        "overrun",
        "the bill of call %(call)r is above its reservation: budget %(budget)r and all above it are closed",
        **call_fields(transfer.label),
        budget=transfer.account.path,
        transfer=transfer.id,
        **amount_fields(over, "over_"),
    )


def _conflict(account: Account, limits: Limits) -> str:
    there, given = (_shown(row) for row in (account.now.limits, limits))
    if account.is_aside:
        return f"budget {account.path!r} was set aside from the one above it: open it under another name"
    return (
        f"budget {account.path!r} is in the ledger with {there}, and {given} was asked for: use the same limits, "
        f"another name, or `lmaas ledger limits FILE {account.path}` with the new ones"
    )


def _shown(limits: Limits) -> str:
    shown = [f"{unit}={limit}" for unit, limit in zip(UNITS, limits, strict=True) if limit is not None]
    return ", ".join(shown) or "no limits"
