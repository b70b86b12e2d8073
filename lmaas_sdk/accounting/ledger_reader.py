"""Reads a ledger file while others write it: one read transaction, so all that is read is of one moment."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from lmaas_sdk.accounting.quantities import Limits, Quantities
from lmaas_sdk.accounting.schema import APPLICATION_ID, SCHEMA_VERSION
from lmaas_sdk.errors import LedgerError

__all__ = ["AccountRow", "EntryRow", "LedgerReader", "OwnerRow", "parse_amount", "parse_amounts"]

_BUSY_TIMEOUT_S = 30.0  # a reader waits only while a file is made, or closed by its last writer
_AS_WHOM_WE_ARE = os.access in os.supports_effective_ids
_AMOUNT = re.compile(r"-?[0-9]+(/0*[1-9][0-9]*)?", re.ASCII)
_ACCOUNTS = """SELECT path, parent, aside, owner, overrun, released,
  limit_calls, limit_evaluations, limit_tokens, limit_nanousd,
  posted_calls, posted_evaluations, posted_tokens, posted_nanousd,
  pending_calls, pending_evaluations, pending_tokens, pending_nanousd FROM accounts"""
_ENTRIES = """SELECT seq, at, kind, transfer, account, owner, calls, evaluations, tokens, nanousd,
  purpose, endpoint, key, unknown FROM entries ORDER BY seq"""


@dataclass(frozen=True, slots=True)
class AccountRow:
    """What the table `accounts` says of one budget.

    Attributes:
        path: Its name below the names of all above it: "team/run".
        parent: The path of the one above; None: there is none.
        is_aside: Its limits were taken out of the parent beforehand.
        owner: Who has to release what was set aside; None for any other.
        limits: In the order of UNITS; None is no limit.
        posted, pending: In the order of UNITS.
    """

    path: str
    parent: str | None
    is_aside: bool
    owner: str | None
    is_overrun: bool
    is_released: bool
    limits: Limits
    posted: Quantities
    pending: Quantities


class EntryRow(NamedTuple):
    """One entry as it is stored; `parse_amounts` reads its amounts."""

    seq: int
    at: float
    kind: str
    transfer: str | None
    account: str
    owner: str
    calls: int | str | None
    evaluations: int | str | None
    tokens: int | str | None
    nanousd: int | str | None
    purpose: str
    endpoint: str
    key: str
    unknown: int


@dataclass(frozen=True, slots=True)
class OwnerRow:
    """One opening of the file by a process; times in seconds since 1970, `ended` is "closed", "recovered" or None."""

    id: str
    pid: int
    host: str
    opened_at: float
    ended_at: float | None
    ended: str | None


class LedgerReader:
    """A ledger file open for reading, for `with`; it changes nothing that it says and keeps no writer waiting.

    It leaves nothing beside the file. One in a folder that may not be written is read too, if it was closed.

    Args:
        path: The file.

    Raises:
        LedgerError: On entering: there is none, it is no ledger, or one of another version. Later: it is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        if not self.path.is_file():
            raise LedgerError(f"there is no ledger file {self.path}")
        try:
            # autocommit, so that BEGIN is ours
            self._connection = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?{self._mode()}",
                uri=True,
                isolation_level=None,
                timeout=_BUSY_TIMEOUT_S,
            )
            self._connection.execute("PRAGMA query_only = ON")
            self._connection.execute("BEGIN")
            self._check()
        except BaseException as error:
            self.close()
            if isinstance(error, sqlite3.Error):
                raise LedgerError(f"{self.path} cannot be read as a ledger: {error}") from error
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
        if isinstance(error, sqlite3.Error):
            raise LedgerError(f"{self.path} cannot be read: {error}: see `lmaas ledger verify`") from error

    def close(self) -> None:
        """Ends it; a second time changes nothing."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def connection(self) -> sqlite3.Connection:
        """In its read transaction.

        Raises:
            LedgerError: It is not open.
        """
        if self._connection is None:
            raise LedgerError(f"{self.path} is not open: use `with LedgerReader(...)`")
        return self._connection

    def accounts(self) -> list[AccountRow]:
        """All of them, each after the one above it and before its next sibling.

        Raises:
            LedgerError: A balance is not a number.
        """
        rows = [self._account(row) for row in self.connection.execute(_ACCOUNTS)]
        return sorted(rows, key=lambda account: account.path.split("/"))

    def account(self, path: str) -> AccountRow:
        """One of them.

        Raises:
            LedgerError: There is none of that path.
        """
        row = self.connection.execute(f"{_ACCOUNTS} WHERE path = ?", (path,)).fetchone()
        if row is None:
            known = ", ".join(account.path for account in self.accounts()) or "none"
            raise LedgerError(f"{self.path} has no budget {path!r}: it has {known}")
        return self._account(row)

    def entries(self) -> Iterator[EntryRow]:
        """All entries, oldest first, read one by one."""
        return map(EntryRow._make, self.connection.execute(_ENTRIES))

    def owners(self) -> list[OwnerRow]:
        """Everybody who has opened it, in that order."""
        sql = "SELECT id, pid, host, opened_at, ended_at, ended FROM owners ORDER BY opened_at, id"
        return [OwnerRow(*row) for row in self.connection.execute(sql)]

    def _mode(self) -> str:
        """How SQLite opens it: never made where it is not there."""
        if _may_write(self.path) and _may_write(self.path.parent):
            return "mode=rw"  # the last one to close takes away what lies beside the file; "ro" would leave it there
        # Reading a file in WAL mode takes an index beside it, which cannot be made here. Without a WAL nobody has it
        # open, or had it open when the machine stopped, and it can be read without.
        is_closed = not self.path.with_name(f"{self.path.name}-wal").exists()
        return "mode=ro&immutable=1" if is_closed else "mode=ro"

    def _account(self, row: Sequence[Any]) -> AccountRow:
        try:
            limits, posted, pending = (parse_amounts(row[at : at + 4]) for at in (6, 10, 14))
        except ValueError as error:
            raise LedgerError(f"{self.path}: budget {row[0]!r}: {error}") from error
        if None in posted or None in pending:
            raise LedgerError(f"{self.path}: budget {row[0]!r} has no balance")
        path, parent, is_aside, owner, is_overrun, is_released = row[:6]
        if not isinstance(path, str) or not isinstance(parent, str | None):
            raise LedgerError(f"{self.path}: {path!r} below {parent!r} is no budget's path")
        return AccountRow(
            path,
            parent,
            bool(is_aside),
            owner,
            bool(is_overrun),
            bool(is_released),
            limits,
            posted,  # type: ignore[arg-type]  # none is None
            pending,  # type: ignore[arg-type]
        )

    def _check(self) -> None:
        (version,) = self.connection.execute("PRAGMA user_version").fetchone()
        (application,) = self.connection.execute("PRAGMA application_id").fetchone()
        (tables,) = self.connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # the snapshot begins here
        if application != APPLICATION_ID or not tables:
            raise LedgerError(f"{self.path} is no ledger: give the path that open_ledger was given")
        if version > SCHEMA_VERSION:
            raise LedgerError(
                f"{self.path} is a ledger of schema {version}, and this version reads up to {SCHEMA_VERSION}: "
                "update lmaas-sdk"
            )
        if version < SCHEMA_VERSION:
            raise LedgerError(f"{self.path} is a ledger of an older version: open it once with open_ledger")


def _may_write(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=_AS_WHOM_WE_ARE)


def parse_amount(value: object) -> int | Fraction | None:
    """An amount as it stands in a column: 64 bits as they are, a larger number's digits, a fraction as "n/d".

    Raises:
        ValueError: It is none of them.
    """
    if value is None or type(value) is int:
        return value
    if not isinstance(value, str) or not _AMOUNT.fullmatch(value):
        raise ValueError(f"{value!r:.60} is not an amount")
    return Fraction(value) if "/" in value else int(value)


def parse_amounts(columns: Sequence[object]) -> Limits:
    """The amounts of a row, in the order of UNITS; None where it has none.

    Raises:
        ValueError: One is no amount, or part of something that only comes whole.
    """
    calls, evaluations, tokens, nanousd = map(parse_amount, columns)
    if isinstance(calls, Fraction) or isinstance(tokens, Fraction) or isinstance(nanousd, Fraction):
        raise ValueError(f"of {', '.join(map(repr, columns))} only evaluations come in parts")  # noqa: TRY004  (as above)
    return calls, evaluations, tokens, nanousd
