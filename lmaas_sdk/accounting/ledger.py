"""Where transfers are booked: the interface of every ledger, and the one that lives in memory."""

from __future__ import annotations

import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.book import Account, Balances, Book, Entry, EntryRow
from lmaas_sdk.accounting.limits import limits_of
from lmaas_sdk.accounting.quantities import Limits, Quantities, as_amounts
from lmaas_sdk.errors import LedgerConflict, LedgerError

if TYPE_CHECKING:
    from lmaas_sdk.accounting.budget import Budget
    from lmaas_sdk.accounting.transfers import Reservation, Transfer

__all__ = ["Ledger", "MemoryLedger", "Opened", "Undo", "Work"]

T = TypeVar("T")
Work = Callable[[Book], T]
Undo = Callable[[Book], None]


class Opened:
    """An account that a budget has asked for; where it turns out to have other limits, nothing can be booked on it."""

    __slots__ = ("account", "conflict")

    def __init__(self, account: Account) -> None:
        self.account = account
        self.conflict: LedgerConflict | None = None

    def check(self) -> None:
        """Raises LedgerConflict where the account could not be had."""
        if self.conflict is not None:
            raise self.conflict


class Ledger(ABC):
    """What budgets book on. Safe under any number of tasks, event loops and threads.

    Attributes:
        owner: Names this opening of the ledger in its entries.
        lock: Held for moments only, while a reservation changes its state; never while anything is waited for.
    """

    def __init__(self, wall: Callable[[], float]) -> None:
        self.owner = uuid.uuid4().hex
        self.lock = threading.RLock()
        self._wall = wall
        self._accounts: dict[str, Account] = {}
        self._known: dict[str, Balances] = {}  # what accounts stood at when the ledger was opened
        self._unknown: dict[tuple[str, str], dict[str, Reservation]] = {}

    @abstractmethod
    def run(self, work: Work[T], undo: Undo | None = None) -> T:
        """Does `work` on the books and returns once it is booked; the caller's thread waits.

        Args:
            work: Changes the books, or raises and changes nothing.
            undo: What to do if the caller is interrupted after it was booked.
        """

    @abstractmethod
    async def hold(self, work: Work[T], undo: Undo | None = None) -> T:
        """As `run`; only the task waits, and `undo` is done if it is cancelled."""

    @abstractmethod
    def tell(self, work: Work[None]) -> None:
        """Does `work` soon, in order, and waits for nothing."""

    @abstractmethod
    def afterwards(self, callback: Callable[[], None]) -> None:
        """Calls `callback`, holding no lock, once everything told so far is booked."""

    @abstractmethod
    def balances(self, account: Account) -> Balances:
        """What an account stands at, as far as this process knows."""

    @abstractmethod
    async def flush(self) -> None:
        """Returns once everything told so far is booked."""

    @abstractmethod
    def wait_until_booked(self) -> None:
        """As `flush`; the thread waits, so it is none of an event loop's."""

    def open_account(self, opened: Opened, above: Opened | None, limits: Limits) -> None:
        """Finds or makes an account.

        Raises:
            LedgerConflict: It is there with other limits. A ledger that would have to wait for that on an event loop
                notes it in `opened` instead.
        """
        self.run(lambda book: open_on(book, opened, above, limits))

    def account(self, name: str, above: Account | None, *, limits: Limits, is_aside: bool = False) -> Account:
        """The place of a budget in the books, made now or known already."""
        path = name if above is None else f"{above.path}/{name}"
        with self.lock:
            if path not in self._accounts:
                made = Account(path, shown_name(name), above, limits=limits, is_aside=is_aside)
                made.now = made.seen = self._known.get(path, made.now)
                self._accounts[path] = made
                if above is not None:
                    above.below[path] = made
            return self._accounts[path]

    def count_held(self, account: Account, more: int) -> None:
        """Counts reservations as unresolved, from the moment they are asked for until one is resolved or not had."""
        with self.lock:
            account.holds += more

    def release(self, account: Account) -> None:
        """Ends an account that was set aside; the second time changes nothing, and neither does it for another one.

        Raises:
            ValueError: Something in it is still pending.
        """
        with self.lock:
            if not account.is_aside or account.is_ending:
                return
            if any(one.holds or (one.is_aside and one is not account) for one in account.within()):
                pending = as_amounts(self.balances(account).pending)
                raise ValueError(f"budget {account.name!r} still has {pending} pending: resolve it before release")
            account.is_ending = True
            self.tell(lambda book: book.release(account))
            self._forget(account)

    def _forget(self, account: Account) -> None:
        """Nobody asks for it by its path any more; whoever has it keeps it."""
        for one in account.within():
            self._accounts.pop(one.path, None)
        if account.parent is not None:
            account.parent.below.pop(account.path, None)

    @contextmanager
    def new_aside(self, name: str, above: Account, limits: Quantities) -> Iterator[Account]:
        """A place for what is about to be set aside; it is gone again where that fails."""
        account = self.account(name, above, limits=limits, is_aside=True)
        try:
            yield account
        except BaseException:
            with self.lock:
                self._forget(account)
            raise

    def grant(self, book: Book, opened: Opened, ask: Work[None]) -> None:
        """Does what takes from an account that must be there."""
        opened.check()
        ask(book)

    def correct(self, transfer: Transfer, actual: Quantities) -> None:
        """Puts an answer in the place of a posted worst case."""
        self.tell(lambda book: book.correct(transfer, actual))

    def set_limits(self, path: str, limits: Budget, *, reopen: bool = False) -> None:
        """Gives a budget other limits from now on, here and in every process that shares the ledger.

        Args:
            path: "team/run".
            limits: A budget with the limits; its wall time is not kept in a ledger.
            reopen: Whether to open it again, too: a bill above its reservation has closed it, and is accepted.

        Raises:
            LedgerError: There is no budget of that path.
            ValueError: More is posted and pending, it was set aside, or there is nothing to reopen.
        """
        row = limits_of(limits)
        self.change_limits(path, lambda _: row, reopen=reopen)

    def change_limits(
        self, path: str, change: Callable[[Limits], Limits], *, reopen: bool = False
    ) -> tuple[Limits, Limits]:
        """As `set_limits`, in one step with reading those that it has: nobody else's change is lost.

        Args:
            path: "team/run".
            change: Makes the new limits of the old ones.
            reopen: As for `set_limits`.

        Returns:
            The old ones and the new ones.
        """
        return self.run(lambda book: book.change_limits(self.account_at(path), change, reopen=reopen))

    def account_at(self, path: str) -> Account:
        """The account of a path, which must be there.

        Raises:
            LedgerError: It is not.
        """
        if path not in self._accounts:
            raise LedgerError(
                f"the ledger has no budget {path!r}: it has {', '.join(sorted(self._accounts)) or 'none'}"
            )
        return self._accounts[path]

    def unknown(self, endpoint: str, key: str) -> list[Reservation]:
        """What was posted as unknown under this key and is not corrected yet, by whichever process; oldest first.

        A key means a call only within its endpoint; the empty key means none.
        """
        if not self._unknown:
            return []
        with self.lock:
            return list(self._unknown.get((endpoint, key), {}).values())

    def unknown_anywhere(self, key: str) -> list[Reservation]:
        """The same at any endpoint: a server that was started again may have another address than the one before it."""
        with self.lock:
            return [hold for (_, known), held in self._unknown.items() if known == key for hold in held.values()]

    async def posted(self, endpoint: str, keys: Sequence[str]) -> dict[str, Amounts]:
        """What earlier processes posted under each of these keys, in all; nothing, where it ends with its process."""
        return {}

    def note_unknown(self, hold: Reservation) -> None:
        """Remembers that a later answer may correct this one."""
        if hold.label.key:
            with self.lock:
                self._unknown.setdefault((hold.label.endpoint, hold.label.key), {})[hold.id] = hold

    def forget_unknown(self, hold: Reservation) -> None:
        """It is corrected."""
        scope = (hold.label.endpoint, hold.label.key)
        with self.lock:
            held = self._unknown.get(scope)
            if held is not None and held.pop(hold.id, None) is not None and not held:
                del self._unknown[scope]


class MemoryLedger(Ledger):
    """A ledger that ends with the process.

    Args:
        wall: Seconds since 1970, for the entries.
        keep: Entries to keep, the newest; balances are exact however many there were.
    """

    def __init__(self, *, wall: Callable[[], float] = time.time, keep: int = 100_000) -> None:
        super().__init__(wall)
        self._entries: deque[EntryRow] = deque(maxlen=keep)
        self._book = Book(self.owner, wall, self._entries)
        self._runs: dict[tuple[str, str], Amounts] = {}

    def entries(self) -> tuple[Entry, ...]:
        """What happened, oldest first."""
        with self.lock:
            return tuple(map(Entry._make, self._entries))

    def note_run(self, path: str, run: str, spent: Amounts) -> None:
        """Remembers that a budget has all that a run with a journal has spent, which another process would not know."""
        self._runs[path, run] = spent

    def spent_by_run(self, path: str, run: str) -> Amounts | None:
        """What a budget has of a run's spend, as far as it was noted; None: nothing was."""
        return self._runs.get((path, run))

    def run(self, work: Work[T], undo: Undo | None = None) -> T:
        with self.lock:
            return self._do(work)

    async def hold(self, work: Work[T], undo: Undo | None = None) -> T:
        with self.lock:
            return self._do(work)

    def tell(self, work: Work[None]) -> None:
        with self.lock:
            self._do(work)

    def afterwards(self, callback: Callable[[], None]) -> None:
        callback()

    def balances(self, account: Account) -> Balances:
        return account.now

    async def flush(self) -> None:
        """Nothing waits to be booked."""

    def wait_until_booked(self) -> None:
        """Nothing waits to be booked."""

    def _do(self, work: Work[T]) -> T:
        try:
            return work(self._book)
        finally:
            self._book.changed.clear()  # there is no file to write it to


def open_on(book: Book, opened: Opened, above: Opened | None, limits: Limits) -> None:
    """The work of `open_account`.

    Raises:
        LedgerConflict: The account, or one above it, cannot be had.
    """
    try:
        if above is not None:
            above.check()
        book.open(opened.account, limits)
    except LedgerConflict as conflict:
        opened.conflict = conflict
        raise


def shown_name(name: str) -> str:
    """A name without what makes it unique."""
    return name.partition("#")[0]
