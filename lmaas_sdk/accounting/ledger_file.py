"""A ledger in an SQLite file, which any number of processes share and a killed process cannot damage."""

from __future__ import annotations

import asyncio
import atexit
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from weakref import WeakKeyDictionary

from lmaas_sdk.accounting import owners
from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.book import Account, Balances, Book, EntryRow
from lmaas_sdk.accounting.ledger import Ledger, Opened, Undo, Work, open_on
from lmaas_sdk.accounting.ledger_rows import LedgerRows
from lmaas_sdk.accounting.ledger_writer import Writer
from lmaas_sdk.accounting.operations import Mailbox, Operation
from lmaas_sdk.accounting.owners import OwnerLock
from lmaas_sdk.accounting.quantities import NO_LIMITS, Limits, Quantities, as_amounts
from lmaas_sdk.accounting.recovery import Recovery
from lmaas_sdk.accounting.transfers import Transfer
from lmaas_sdk.errors import BudgetExceeded, LedgerConflict, LedgerError
from lmaas_sdk.settled import settled

__all__ = ["SqliteLedger", "Synchronous", "open_ledger"]

T = TypeVar("T")
Synchronous = Literal["NORMAL", "FULL"]


def open_ledger(
    path: str | Path,
    *,
    synchronous: Synchronous = "NORMAL",
    busy_timeout_s: float = 60.0,
    wall: Callable[[], float] = time.time,
) -> SqliteLedger:
    """A ledger in a file, for `with` or, on an event loop, `async with`; it is made where it is not there.

    Args:
        path: The file. SQLite and the ledger keep others beside it, whose names begin alike.
        synchronous: "NORMAL": what was booked survives the death of the process; "FULL": of the machine, too.
        busy_timeout_s: How long to wait for other processes that write it.
        wall: Seconds since 1970, for the entries.

    Raises:
        LedgerError: On entering: it cannot be opened, is no ledger, or is one of a newer version.
        ValueError: On entering: `wall` tells no time.
    """
    return SqliteLedger(path, synchronous=synchronous, busy_timeout_s=busy_timeout_s, wall=wall)


class SqliteLedger(Ledger):
    """A ledger in a file; made by `open_ledger`.

    One thread writes, and books whatever has been asked for meanwhile in one transaction. On the thread of an event
    loop use what is awaited (`hold_all`, `hold_aside`, `flush`, `execute`): the others wait for that thread.

    A file that can no longer be written (a full disk) ends the ledger: every later operation raises LedgerError, so
    nothing is sent that is not booked.
    """

    def __init__(
        self, path: str | Path, *, synchronous: Synchronous, busy_timeout_s: float, wall: Callable[[], float]
    ) -> None:
        if synchronous not in ("NORMAL", "FULL"):
            raise ValueError(f'synchronous is "NORMAL" or "FULL", not {synchronous!r}')
        super().__init__(wall)
        self.path = Path(path)
        self._synchronous, self._busy_timeout_s = synchronous, busy_timeout_s
        self._entries: list[EntryRow] = []
        self._book = Book(self.owner, wall, self._entries, self._load)
        self._writer = Writer(str(self.path), self._commit, self._finish)
        self._boxes: WeakKeyDictionary[asyncio.AbstractEventLoop, Mailbox] = WeakKeyDictionary()
        self._lock_file = OwnerLock(self.path, self.owner)
        self._closing: Operation[None] = Operation(self._end)
        self._recovery = Recovery(self)
        self._rows: LedgerRows | None = None
        self._is_started = False

    def __repr__(self) -> str:
        return f"SqliteLedger({str(self.path)!r})"

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close(quietly=error is not None)

    async def __aenter__(self) -> Self:
        opening = asyncio.get_running_loop().run_in_executor(None, self._start)
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            # Left open, its owner would seem alive for as long as the process is.
            await settled(opening)
            if opening.exception() is None:
                await settled(asyncio.get_running_loop().run_in_executor(None, self._close, True))
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, self._close, error is not None))

    def close(self) -> None:
        """Books all that was asked for and ends; a second time changes nothing. The thread waits.

        What is still reserved is resolved as if the process had died: void, or posted at the worst case if it was sent.

        Raises:
            LedgerError: Not all of it could be booked.
        """
        self._close()

    async def aclose(self) -> None:
        """As `close`; only the task waits."""
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, self._close))

    def run(self, work: Work[T], undo: Undo | None = None) -> T:
        operation = Operation(work, undo)
        operation.event = threading.Event()
        self._submit(operation)
        try:
            operation.event.wait()
        except BaseException:
            self._writer.abandon(operation)
            raise
        return operation.outcome()

    async def hold(self, work: Work[T], undo: Undo | None = None) -> T:
        operation = Operation(work, undo)
        operation.waiter = asyncio.get_running_loop().create_future()
        self._submit_from_loop(operation)
        try:
            await operation.waiter
        except BaseException:
            self._writer.abandon(operation)
            raise
        return operation.outcome()

    def tell(self, work: Work[None]) -> None:
        self._submit(Operation(work))

    def afterwards(self, callback: Callable[[], None]) -> None:
        """Calls `callback` once everything told so far is booked: on the event loop, or before it returns."""
        if _is_on_loop():
            self._submit_from_loop(Operation(_nothing, callback=callback))
        else:
            self.run(_nothing)
            callback()

    async def flush(self) -> None:
        await self.hold(_nothing)

    def wait_until_booked(self) -> None:
        self.run(_nothing)

    async def execute(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Does `work` in the transaction that books what else is asked for; it is undone if it raises.

        Args:
            work: Called with the connection, on the writer's thread: quick, and it ends no transaction.

        Raises:
            LedgerError: The ledger can no longer be written, or is closed.
            Exception: What `work` raises.
        """
        return await self.hold(lambda _: self._file.apart(work))

    async def posted(self, endpoint: str, keys: Sequence[str]) -> dict[str, Amounts]:
        found = await self.hold(lambda _: self._file.posted(endpoint, keys))
        return {key: as_amounts(row) for key, row in found.items()}

    def perform(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """As `execute`, soon and in order; nothing is waited for, and what was done before `work` raises stays done."""
        self.tell(lambda _: work(self._file.connection))

    @property
    def version(self) -> int:
        """Another number whenever others have written; for work in a transaction."""
        return self._book.version

    def is_alive(self, owner: str) -> bool:
        """Whether the process that opened the ledger as `owner` still has it open.

        It looks at a file: on an event loop, ask within `execute`.
        """
        if owner == self.owner:
            return self._is_started
        with OwnerLock(self.path, owner).if_dead() as is_dead:
            return not is_dead

    def balances(self, account: Account) -> Balances:
        return account.seen

    def open_account(self, opened: Opened, above: Opened | None, limits: Limits) -> None:
        if not _is_on_loop():
            super().open_account(opened, above, limits)
            return

        def open_soon(book: Book) -> None:
            with suppress(LedgerConflict):  # `opened` keeps it for the first reservation
                open_on(book, opened, above, limits)

        self.tell(open_soon)

    def grant(self, book: Book, opened: Opened, ask: Work[None]) -> None:
        """As the base class; where something is refused, what dead processes hold is freed first."""
        try:
            super().grant(book, opened, ask)
        except BudgetExceeded as refusal:
            # Where nothing is pending, the dead hold nothing either; what is closed stays closed without them.
            may_help = refusal.limit is not None and bool(refusal.pending)
            if not (may_help and self._recovery.of_the_dead(book, self._file, self._wall())):
                raise
            super().grant(book, opened, ask)

    def correct(self, transfer: Transfer, actual: Quantities) -> None:
        """As the base class; of two processes that know better, the first is believed."""

        def correct_once(book: Book) -> None:
            if not self._file.is_corrected(transfer.id):
                book.correct(transfer, actual)

        self.tell(correct_once)

    def account_at(self, path: str) -> Account:
        if path in self._accounts:
            return self._accounts[path]
        place = self._file.place(path)
        if place is None:
            raise LedgerError(f"{self.path} has no budget {path!r}: it has {', '.join(self._file.paths()) or 'none'}")
        parent, is_aside = place
        above = None if parent is None else self.account_at(parent)
        return self.account(path.rpartition("/")[2], above, limits=NO_LIMITS, is_aside=is_aside)

    @property
    def _file(self) -> LedgerRows:
        if self._rows is None:
            raise LedgerError(f"{self.path} is not open: use `with open_ledger(...)` or `async with`")
        return self._rows

    def _submit(self, operation: Operation[Any]) -> None:
        if not self._is_started:
            raise LedgerError(f"{self.path} is not open: use `with open_ledger(...)` or `async with`")
        self._writer.submit(operation)

    def _submit_from_loop(self, operation: Operation[Any]) -> None:
        loop = asyncio.get_running_loop()
        with self.lock:
            box = self._boxes.get(loop)
            if box is None:
                box = self._boxes[loop] = Mailbox(loop)
        box.expect(operation)
        try:
            self._submit(operation)
        except LedgerError:
            box.deliver([operation])
            raise

    def _start(self) -> None:
        if self._is_started:
            raise LedgerError(f"{self.path} is opened by this object already: open_ledger makes another")
        now_s = self._wall()
        if not math.isfinite(now_s):
            raise ValueError(f"the wall clock of a ledger tells seconds since 1970, not {now_s!r}")
        opening: Operation[None] = Operation(self._begin)
        opening.event = threading.Event()
        self._is_started = True
        self._writer.start(opening, self._closing)
        opening.event.wait()
        if opening.error is not None:
            self._writer.join()
        opening.outcome()
        atexit.register(self._close, quietly=True)

    def _close(self, quietly: bool = False) -> None:
        if self._is_started:
            atexit.unregister(self._close)
            self._writer.close()
            self._writer.join()
            if not quietly:
                self._closing.outcome()

    def _commit(self, batch: Sequence[Operation[Any]]) -> None:
        """Books a batch; on the writer's thread.

        Raises:
            LedgerError: It cannot be written.
        """
        if self._rows is None:
            self._rows = LedgerRows(self.path, synchronous=self._synchronous, busy_timeout_s=self._busy_timeout_s)
            self._lock_file.take()
        if all(operation.work is _nothing for operation in batch):
            return  # all before it is booked, and that is what is waited for
        try:
            self._book_all(batch, self._rows)
        except sqlite3.Error as error:
            message = f"{self.path} cannot be written, so nothing is sent any more: {error}"
            raise LedgerError(message) from error
        finally:
            self._rows.rollback()

    def _book_all(self, batch: Sequence[Operation[Any]], rows: LedgerRows) -> None:
        if rows.begin():
            self._book.version += 1  # others have written: what is touched is read anew
        self._recovery.begin()
        self._stay_alive(rows)
        for operation in batch:
            operation.apply(self._book)
        if not rows.connection.in_transaction:
            raise sqlite3.OperationalError("the transaction was ended by an error within it")
        rows.save(self._book.changed, self._entries, self.owner)
        rows.commit()
        for account in self._book.changed:
            account.seen = account.now
        self._book.changed.clear()
        self._entries.clear()

    def _stay_alive(self, rows: LedgerRows) -> None:
        """Puts the lock file back if somebody has removed it; nobody can take this process for dead meanwhile.

        Raises:
            LedgerError: Somebody has, before.
        """
        if self._lock_file.path.exists():
            return
        if owners.has_ended(rows.connection, self.owner):
            raise LedgerError(
                f"{self.path} was open, but its lock file {self._lock_file.path.name} was removed, and another process "
                "took this one for dead and resolved what it had pending: open it again"
            )
        self._lock_file.take_again()

    def _load(self, account: Account) -> bool:
        found = self._file.balances(account.path)
        if found is None:
            return False
        account.now = account.seen = found
        account.version = self._book.version
        return True

    def _begin(self, book: Book) -> None:
        rows = self._file
        owners.register(rows.connection, self.owner, self._wall())
        self._known.update(rows.all_balances())
        self._recovery.note_unknown(rows)
        self._recovery.of_the_dead(book, rows, self._wall())

    def _end(self, book: Book) -> None:
        self._recovery.of_itself(book, self._file)
        owners.end(self._file.connection, self.owner, at=self._wall(), how="closed")

    def _finish(self, is_whole: bool) -> None:
        if self._rows is not None:
            with suppress(sqlite3.Error):  # the checkpoint can be done by whoever opens it next
                self._rows.close()
            self._lock_file.drop(remove=is_whole)


def _is_on_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _nothing(_: Book) -> None:
    """What is waited for is that all before it is booked."""
