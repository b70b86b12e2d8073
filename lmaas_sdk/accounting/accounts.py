"""Accounts, what they stand at, and entries: the values that the books are made of."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple, TypeAlias

from lmaas_sdk.accounting.amounts import UNITS
from lmaas_sdk.accounting.quantities import ZERO, Limits, Quantities, as_amounts
from lmaas_sdk.errors import BudgetExceeded

__all__ = ["Account", "Balances", "Entry", "EntryRow"]

# The fields of an `Entry` in their order. A bare tuple: the garbage collector stops looking at one, so that the many
# thousands that a ledger in memory keeps cost it nothing.
EntryRow: TypeAlias = tuple[int | float | Fraction | str | None, ...]


# How to open it again depends on where it is booked.
_OVERRUN = (
    "a bill above its reservation closed it: once that bill is clear, `lmaas ledger limits FILE BUDGET --reopen` or "
    "`ledger.set_limits(..., reopen=True)` opens it again"
)


class Balances(NamedTuple):
    """What an account stands at. At every instant posted + pending + free = limit."""

    limits: Limits
    posted: Quantities = ZERO
    pending: Quantities = ZERO
    overrun: bool = False
    released: bool = False

    def check_open(self, name: str, asked: Quantities = ZERO) -> None:
        """Raises BudgetExceeded where the account is closed; the rest is for the message."""
        if self.overrun:
            raise self._closed(name, "overrun", asked=asked, why=_OVERRUN)
        if self.released:
            raise self._closed(name, "released", asked=asked, why="it was released, and what was left went back")

    def check(self, name: str, asked: Quantities) -> None:
        """Raises BudgetExceeded where `asked` does not fit."""
        posted, pending = self.posted, self.pending
        for at, limit in enumerate(self.limits):
            if limit is not None and posted[at] + pending[at] + asked[at] > limit:
                raise self._exceeded(name, at, limit=limit, asked=asked[at])

    def _exceeded(self, name: str, at: int, *, asked: object, limit: object) -> BudgetExceeded:
        posted, pending = self.posted[at], self.pending[at]
        return BudgetExceeded(name, UNITS[at], limit=limit, posted=posted, pending=pending, asked=asked)

    def _closed(self, name: str, by: str, *, asked: Quantities, why: str) -> BudgetExceeded:
        """No unit binds, so all of them are told."""
        rows = {"posted": self.posted, "pending": self.pending, "asked": asked}
        amounts = {what: as_amounts(row) for what, row in rows.items()}
        return BudgetExceeded(name, by, limit=None, **amounts, why=why)


class Account:
    """One budget's place in the books.

    Attributes:
        path: Its name below the names of all above it: "team/run".
        line: This account and all above it, nearest first.
        is_aside: Its limits were taken out of its parent beforehand, so the parent pays for nothing more.
        now: What it stands at, operations under way included.
        seen: What it stood at after the last operation that is safely booked.
        version: Of the book, when `now` was last right.
        holds: Reservations that this process has not resolved yet.
        is_ending: Whether this process has asked for its release.
        below: The accounts right under it that the ledger knows.
    """

    __slots__ = ("below", "holds", "is_aside", "is_ending", "line", "name", "now", "path", "seen", "version")

    def __init__(self, path: str, name: str, parent: Account | None, *, limits: Limits, is_aside: bool = False) -> None:
        self.path, self.name, self.is_aside = path, name, is_aside
        self.line: tuple[Account, ...] = (self,) if parent is None else (self, *parent.line)
        self.now = self.seen = Balances(limits)
        self.version = -1
        self.holds, self.is_ending = 0, False
        self.below: dict[str, Account] = {}

    @property
    def parent(self) -> Account | None:
        return self.line[1] if len(self.line) > 1 else None

    def within(self) -> Iterator[Account]:
        """It and all below it that the ledger knows."""
        yield self
        for account in self.below.values():
            yield from account.within()


class Entry(NamedTuple):
    """One thing that happened; never changed. The columns of the table of that name, but for `seq`."""

    at: float
    kind: str
    transfer: str | None
    account: str
    owner: str
    calls: int | str | None = None
    evaluations: int | Fraction | str | None = None
    tokens: int | str | None = None
    nanousd: int | str | None = None
    purpose: str = ""
    endpoint: str = ""
    key: str = ""
    unknown: int = 0
