"""The rows of a ledger file: how an amount is written in a column, and the statements that read and write."""

from __future__ import annotations

import json
import random
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from lmaas_sdk.accounting.book import Account, Balances, Entry, EntryRow
from lmaas_sdk.accounting.quantities import ZERO, Quantities, added
from lmaas_sdk.accounting.schema import migrate
from lmaas_sdk.errors import LedgerError

__all__ = ["LedgerRows", "from_column", "to_column"]

T = TypeVar("T")
_Named = tuple[str, str, str, str, str]
_LARGEST = 2**63 - 1
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_PAUSE_S = (0.0002, 0.005)  # between attempts to get the lock of a file that another process writes

_BALANCES = """limit_calls, limit_evaluations, limit_tokens, limit_nanousd,
  posted_calls, posted_evaluations, posted_tokens, posted_nanousd,
  pending_calls, pending_evaluations, pending_tokens, pending_nanousd, overrun, released"""
_SAVE_ACCOUNT = f"""INSERT INTO accounts ({_BALANCES}, path, parent, name, aside, owner)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
  ON CONFLICT (path) DO UPDATE SET
  limit_calls = excluded.limit_calls, limit_evaluations = excluded.limit_evaluations,
  limit_tokens = excluded.limit_tokens, limit_nanousd = excluded.limit_nanousd,
  posted_calls = excluded.posted_calls, posted_evaluations = excluded.posted_evaluations,
  posted_tokens = excluded.posted_tokens, posted_nanousd = excluded.posted_nanousd,
  pending_calls = excluded.pending_calls, pending_evaluations = excluded.pending_evaluations,
  pending_tokens = excluded.pending_tokens, pending_nanousd = excluded.pending_nanousd,
  overrun = excluded.overrun, released = excluded.released"""  # noqa: S608  (constants)
_AMOUNTS = slice(5, 9)  # calls, evaluations, tokens, nanousd
_ENTRY_ROW = f"({', '.join('?' * len(Entry._fields))})"
# Many rows in one statement cost a third of as many statements, and leave the other threads alone.
_ADD_ENTRIES = {
    count: f"INSERT INTO entries ({', '.join(Entry._fields)}) VALUES {', '.join([_ENTRY_ROW] * count)}"  # noqa: S608
    for count in (64, 32, 16, 8, 4, 2, 1)
}
_UNRESOLVED = """SELECT kind, transfer, account, purpose, endpoint, key, calls, evaluations, tokens, nanousd
  FROM entries AS e WHERE owner = ? AND kind IN ('pending', 'sent', 'refused')
  AND NOT EXISTS (SELECT 1 FROM entries AS r WHERE r.transfer = e.transfer AND r.kind IN ('post', 'void'))
  ORDER BY seq"""
_UNKNOWN = """SELECT transfer, account, purpose, endpoint, key, calls, evaluations, tokens, nanousd
  FROM entries AS e WHERE unknown = 1 AND key != ''
  AND NOT EXISTS (SELECT 1 FROM entries AS c WHERE c.transfer = e.transfer AND c.kind = 'correct') ORDER BY seq"""

_POSTED = """SELECT transfer, key, calls, evaluations, tokens, nanousd FROM entries
  WHERE kind IN ('post', 'correct') AND endpoint = ? AND key IN (SELECT value FROM json_each(?)) ORDER BY seq"""


def to_column(amount: int | Fraction | str | None) -> int | str | None:
    """An amount as a ledger file holds it: 64 bits as they are, a larger number's digits, a fraction as "n/d"."""
    if amount is None or isinstance(amount, str):
        return amount
    if isinstance(amount, int):
        return amount if -_LARGEST <= amount <= _LARGEST else str(amount)
    return to_column(int(amount)) if amount.denominator == 1 else str(Fraction(amount))


def from_column(value: int | str | None) -> int | Fraction | None:
    """The other way round."""
    if not isinstance(value, str):
        return value
    return Fraction(value) if "/" in value else int(value)


class LedgerRows:
    """An open ledger file; for one thread.

    Args:
        path: Where it is; made where it is not.
        synchronous: "NORMAL": what was booked survives the death of the process; "FULL": of the machine, too.
        busy_timeout_s: How long to wait for other processes that write it.

    Raises:
        LedgerError: It cannot be opened, or is no ledger, or one of a newer version.
    """

    def __init__(self, path: Path, *, synchronous: str, busy_timeout_s: float) -> None:
        self.path, self._timeout_s = path, busy_timeout_s
        try:
            self.connection = sqlite3.connect(path, isolation_level=None, timeout=0, cached_statements=64)
        except sqlite3.Error as error:
            raise LedgerError(f"{path} cannot be opened as a ledger: {error}") from error
        try:
            self._patiently(lambda: migrate(self.connection, path))  # before anything is changed in another's file
            self._patiently(lambda: self.connection.execute("PRAGMA journal_mode = WAL").fetchall())
            self.connection.execute(f"PRAGMA synchronous = {synchronous}")
            self._seen_version = self._data_version()
        except sqlite3.Error as error:
            self.connection.close()
            raise LedgerError(f"{path} cannot be read as a ledger: {error}: give another path") from error
        except BaseException:
            self.connection.close()
            raise

    def begin(self) -> bool:
        """Begins to write; whether others have written since the last time.

        Raises:
            LedgerError: Another process has kept the file locked all the time.
        """
        self._patiently(lambda: self.connection.execute("BEGIN IMMEDIATE"))
        seen, self._seen_version = self._seen_version, self._data_version()
        return seen != self._seen_version

    def commit(self) -> None:
        """Makes it so."""
        self.connection.execute("COMMIT")

    def rollback(self) -> None:
        """Makes nothing of it so."""
        if self.connection.in_transaction:
            with suppress(sqlite3.Error):  # the error that led here is the one to tell
                self.connection.execute("ROLLBACK")

    def apart(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Does `work` within the transaction; what it did is taken back if it raises, and nothing else is."""
        self.connection.execute("SAVEPOINT work")
        try:
            result = work(self.connection)
        except BaseException:
            if self.connection.in_transaction:  # a full disk may have ended it
                self.connection.execute("ROLLBACK TO work")
                self.connection.execute("RELEASE work")
            raise
        self.connection.execute("RELEASE work")
        return result

    def save(self, accounts: Iterable[Account], entries: Sequence[EntryRow], owner: str) -> None:
        """Writes balances and adds entries."""
        self.connection.executemany(_SAVE_ACCOUNT, [_account_row(account, owner) for account in accounts])
        self._add(entries)

    def balances(self, path: str) -> Balances | None:
        """What an account stands at; None: there is none."""
        row = self.connection.execute(f"SELECT {_BALANCES} FROM accounts WHERE path = ?", (path,)).fetchone()  # noqa: S608
        return None if row is None else _balances(row)

    def all_balances(self) -> dict[str, Balances]:
        """Of every account that is not released, by path."""
        rows = self.connection.execute(f"SELECT path, {_BALANCES} FROM accounts WHERE released = 0")  # noqa: S608
        return {row[0]: _balances(row[1:]) for row in rows}

    def place(self, path: str) -> tuple[str | None, bool] | None:
        """The path of the account above, and whether it is set aside; None: there is no such account."""
        row = self.connection.execute("SELECT parent, aside FROM accounts WHERE path = ?", (path,)).fetchone()
        return None if row is None else (row[0], bool(row[1]))

    def paths(self) -> list[str]:
        """Of all accounts."""
        return [path for (path,) in self.connection.execute("SELECT path FROM accounts ORDER BY path")]

    def unresolved(self, owner: str) -> Iterator[tuple[_Named, Quantities, bool]]:
        """What an owner left: (id, account, purpose, endpoint, key), amounts, and whether it was sent."""
        left: dict[str, list[Any]] = {}
        for row in self.connection.execute(_UNRESOLVED, (owner,)).fetchall():
            left.setdefault(row[1], []).append(row)
        for rows in left.values():
            yield rows[0][1:6], _quantities(rows[0][6:]), rows[-1][0] == "sent"

    def unknown(self) -> Iterator[tuple[_Named, Quantities]]:
        """What was posted as unknown under a key and is not corrected."""
        for row in self.connection.execute(_UNKNOWN).fetchall():
            yield row[:5], _quantities(row[5:])

    def posted(self, endpoint: str, keys: Sequence[str]) -> dict[str, Quantities]:
        """What the attempts under each key came to, of those that were posted; looks through the whole file."""
        rows = self.connection.execute(_POSTED, (endpoint, json.dumps(list(keys)))).fetchall()
        last = {transfer: (key, _quantities(row)) for transfer, key, *row in rows}  # a correction is after its post
        found: dict[str, Quantities] = {}
        for key, row in last.values():
            found[key] = added(found.get(key, ZERO), row)
        return found

    def is_corrected(self, transfer: str) -> bool:
        """Whether anybody has corrected it."""
        found = self.connection.execute("SELECT 1 FROM entries WHERE transfer = ? AND kind = 'correct'", (transfer,))
        return found.fetchone() is not None

    def aside_of(self, owner: str) -> list[str]:
        """Paths of what an owner set aside and did not release, the innermost first."""
        sql = "SELECT path FROM accounts WHERE owner = ? AND aside = 1 AND released = 0"
        return sorted((path for (path,) in self.connection.execute(sql, (owner,))), key=lambda path: -path.count("/"))

    def close(self) -> None:
        """Ends it; what others have open stays open to them."""
        try:
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            self.connection.close()

    def _add(self, entries: Sequence[EntryRow]) -> None:
        done = 0
        for count, sql in _ADD_ENTRIES.items():
            while len(entries) - done >= count:
                rows = map(_entry_row, entries[done : done + count])
                self.connection.execute(sql, list(chain.from_iterable(rows)))
                done += count

    def _data_version(self) -> int:
        return int(self.connection.execute("PRAGMA data_version").fetchone()[0])

    def _patiently(self, work: Callable[[], object]) -> None:
        until_s = time.monotonic() + self._timeout_s
        while True:
            try:
                work()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in _BUSY:
                    raise
                if time.monotonic() > until_s:
                    message = f"{self.path} was kept locked by another process for {self._timeout_s:g} s"
                    raise LedgerError(message) from error
                time.sleep(random.uniform(*_PAUSE_S))  # noqa: S311  (not a secret)
            else:
                return


def _account_row(account: Account, owner: str) -> tuple[object, ...]:
    now, parent = account.now, account.parent
    return (
        *_columns(now.limits),
        *_columns(now.posted),
        *_columns(now.pending),
        now.overrun,
        now.released,
        account.path,
        None if parent is None else parent.path,
        account.name,
        account.is_aside,
        owner if account.is_aside else None,
    )


def _columns(amounts: Sequence[int | Fraction | None]) -> list[int | str | None]:
    """As `to_column`, which nearly none of them needs."""
    return [
        amount if amount is None or (type(amount) is int and -_LARGEST <= amount <= _LARGEST) else to_column(amount)
        for amount in amounts
    ]


def _entry_row(entry: EntryRow) -> EntryRow:
    for amount in entry[_AMOUNTS]:
        if amount is not None and (type(amount) is not int or not -_LARGEST <= amount <= _LARGEST):
            spelled = Entry._make(entry)
            amounts = spelled.calls, spelled.evaluations, spelled.tokens, spelled.nanousd
            return (*entry[: _AMOUNTS.start], *map(to_column, amounts), *entry[_AMOUNTS.stop :])
    return entry


def _balances(row: tuple[int | str | None, ...]) -> Balances:
    amounts = tuple(from_column(value) for value in row[:12])
    return Balances(amounts[:4], amounts[4:8], amounts[8:], bool(row[12]), bool(row[13]))  # type: ignore[arg-type]


def _quantities(row: Iterable[int | str | None]) -> Quantities:
    return tuple(from_column(value) for value in row)  # type: ignore[return-value]
