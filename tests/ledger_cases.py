"""Ledgers, amounts, and balances added up anew from a file's entries, that the tests of ledgers share."""

from __future__ import annotations

import sqlite3
import threading
from collections import defaultdict
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

from lmaas_sdk.accounting.amounts import UNITS, Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.ledger import Ledger
from lmaas_sdk.accounting.ledger_file import SqliteLedger
from lmaas_sdk.accounting.ledger_rows import from_column

NOTHING = Amounts()
ONE = Amounts(1, 2, 30, 400)
Row = tuple[int | Fraction, ...]


def team(ledger: Ledger, calls: int | None = 10) -> Budget:
    """The budget that most tests book on."""
    return Budget(calls=calls, name="team", ledger=ledger)


def hold_up(gate: threading.Event, entered: threading.Event) -> None:
    """Work that keeps the writer until the gate is open."""
    entered.set()
    gate.wait()


def rows_of(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """What a query on a ledger file finds, by a connection of its own."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def check_books(path: Path) -> dict[str, dict[str, Row]]:
    """Adds up every account of a ledger file from its entries alone and compares: {account: {posted, pending}}.

    Also: every transfer resolves at most once, and where nothing overran, posted + pending is within the limits.
    """
    sums = _added_up(path)
    columns = [f"{kind}_{unit}" for kind in ("posted", "pending", "limit") for unit in UNITS]
    for name, overrun, *values in rows_of(path, f"SELECT path, overrun, {', '.join(columns)} FROM accounts"):  # noqa: S608
        row = tuple(from_column(value) for value in values)
        assert {"posted": row[:4], "pending": row[4:8]} == sums[name], name
        for limit, posted, pending in zip(row[8:], row[:4], row[4:8], strict=True):
            assert overrun or limit is None or posted + pending <= limit
    resolved = rows_of(path, "SELECT count(*), count(DISTINCT transfer) FROM entries WHERE kind IN ('post', 'void')")
    assert resolved[0][0] == resolved[0][1]
    return sums


def _added_up(path: Path) -> dict[str, dict[str, Row]]:
    accounts = rows_of(path, "SELECT path, parent, aside FROM accounts ORDER BY length(path) DESC")
    entries = rows_of(path, f"SELECT kind, transfer, account, {', '.join(UNITS)} FROM entries ORDER BY seq")  # noqa: S608
    own: dict[str, dict[str, Row]] = defaultdict(lambda: {"posted": (0,) * 4, "pending": (0,) * 4})
    limits: dict[str, Row] = {}
    released = {account for kind, _, account, *_ in entries if kind == "release"}
    for kind, account, amounts in _last_words(entries, limits):
        if kind != "void":
            side = own[account]["pending" if kind == "pending" else "posted"]
            own[account]["pending" if kind == "pending" else "posted"] = _sum(side, amounts)
    for name, parent, aside in accounts:  # children before parents
        if parent is not None:
            kept = own[name]["pending"]
            if aside:
                spent = zip(limits[name], own[name]["posted"], strict=True)
                kept = (0,) * 4 if name in released else tuple(max(0, limit - used) for limit, used in spent)
            own[parent]["posted"] = _sum(own[parent]["posted"], own[name]["posted"])
            own[parent]["pending"] = _sum(own[parent]["pending"], kept)
        own[name]  # an account that nothing was booked on stands at nothing
    return own


def _last_words(entries: list[tuple[Any, ...]], limits: dict[str, Row]) -> list[tuple[str, str, Row]]:
    """What each transfer came to: its last entry but for those that move nothing."""
    last: dict[str, tuple[str, str, Row]] = {}
    for kind, transfer, account, *values in entries:
        row = tuple(from_column(value) for value in values)
        if kind == "limits":
            limits[account] = row  # type: ignore[assignment]
        elif kind not in ("sent", "refused", "release", "reopen"):
            last[transfer] = (kind, account, row)  # type: ignore[assignment]
    return list(last.values())


def _sum(one: Row, other: Row) -> Row:
    return tuple(left + right for left, right in zip(one, other, strict=True))


def crash(ledger: SqliteLedger) -> None:
    """Ends a ledger as if its process had died: what was told is booked, and nothing is put in order."""
    ledger._closing.work = lambda book: None
    ledger.close()
