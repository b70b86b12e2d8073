"""Whether a ledger file is right: its balances follow from its entries, and its entries from the rules."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from lmaas_sdk.accounting.amounts import UNITS
from lmaas_sdk.accounting.discrepancies import Discrepancies, Discrepancy
from lmaas_sdk.accounting.ledger_reader import AccountRow, LedgerReader
from lmaas_sdk.accounting.places import Place
from lmaas_sdk.accounting.quantities import ZERO, Quantities, added
from lmaas_sdk.accounting.replay import Replay
from lmaas_sdk.accounting.row_forms import check_rows
from lmaas_sdk.accounting.schema import migrate
from lmaas_sdk.errors import LedgerError

__all__ = ["Verification", "verify_ledger"]

_TWICE = """SELECT transfer, count(*) FROM entries WHERE kind = ? AND transfer IS NOT NULL
  GROUP BY transfer HAVING count(*) > 1 ORDER BY transfer"""
_SCHEMA = "SELECT type || ' ' || name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'"
_Balances = tuple[Quantities, Quantities]  # posted, pending


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of verifying a ledger file.

    Attributes:
        entries, accounts, transfers: How many were looked at.
        pending: Transfers that are not resolved yet.
        discrepancies: What is wrong, the first thousand.
        count: How much is wrong.
    """

    entries: int
    accounts: int
    transfers: int
    pending: int
    discrepancies: tuple[Discrepancy, ...]
    count: int

    @property
    def is_right(self) -> bool:
        """Whether nothing is wrong."""
        return not self.count

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"is_right": self.is_right, **asdict(self)}


def verify_ledger(path: str | Path) -> Verification:
    """Adds a ledger file up anew and compares; others may write it meanwhile.

    Memory grows with the accounts and the transfers that are pending at once, not with the entries.

    Raises:
        LedgerError: There is none, it is no ledger, or one of another version.
    """
    found = Discrepancies()
    with LedgerReader(path) as reader:
        replay = Replay(reader.connection, {}, {}, found=found)
        accounts: list[AccountRow] = []
        try:
            _check_file(reader.connection, found)
            _check_schema(reader.connection, found)
            check_rows(reader.connection, found)
            accounts = reader.accounts()
            replay = _replayed(reader, accounts, found)
        except (sqlite3.Error, LedgerError) as error:
            found.add("reading", "the file", expected="to be read to the end", found=error)
    return Verification(
        replay.entries, len(accounts), replay.transfers, len(replay.open), tuple(found.listed), found.count
    )


def _replayed(reader: LedgerReader, accounts: list[AccountRow], found: Discrepancies) -> Replay:
    places = _places(accounts, found)
    owners = {owner.id: owner for owner in reader.owners()}
    replay = Replay(reader.connection, places, owners, found=found)
    take = replay.take
    for entry in reader.entries():
        take(entry)
    _check_last(reader.connection, replay.last_seq, found)
    _check_ended({owner.id for owner in owners.values() if owner.ended is not None}, accounts, replay, found)
    _check_balances(accounts, places, _worked_out(places, replay.pending_of()), found)
    return replay


def _places(accounts: Iterable[AccountRow], found: Discrepancies) -> dict[str, Place]:
    """Every account below the one above it, which comes first."""
    places: dict[str, Place] = {}
    for account in accounts:
        above = account.path.rpartition("/")[0] or None
        if account.parent != above or (above is not None and above not in places):
            found.add("parent", f"account {account.path!r}", expected=repr(above), found=repr(account.parent))
        over = None if above is None else places.get(above)
        places[account.path] = Place(account.path, over, is_aside=account.is_aside, owner=account.owner)
    return places


def _check_file(connection: sqlite3.Connection, found: Discrepancies) -> None:
    for (message,) in connection.execute("PRAGMA integrity_check"):
        if message != "ok":
            found.add("integrity", "the file", expected="ok", found=message)
    for kind in ("pending", "correct"):
        for transfer, times in connection.execute(_TWICE, (kind,)):
            found.add(kind, f"transfer {transfer!r}", expected="one", found=times)


def _check_schema(connection: sqlite3.Connection, found: Discrepancies) -> None:
    """What keeps entries from being changed, deleted and resolved twice is in place."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as fresh:
        migrate(fresh, "a new ledger")
        made = dict(fresh.execute(_SCHEMA))
    there = dict(connection.execute(_SCHEMA))
    for name, sql in made.items():
        if there.get(name) != sql:
            is_there = "changed" if name in there else "missing"
            found.add(name, "the file", expected="as a ledger is made", found=is_there)
    for name in sorted(there.keys() - made.keys()):
        if name.startswith("trigger "):
            found.add(name, "the file", expected="none of that name", found="one that changes what is written")


def _check_last(connection: sqlite3.Connection, last_seq: int, found: Discrepancies) -> None:
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'entries'").fetchone()
    written = 0 if row is None else row[0]
    if written != last_seq:
        found.add("last entry", "the file", expected=f"entry {written}", found=f"entry {last_seq}")


def _check_ended(ended: set[str], accounts: Iterable[AccountRow], replay: Replay, found: Discrepancies) -> None:
    """Whoever has ended, or was recovered, has left nothing behind."""
    for held in replay.open.values():
        if held.owner in ended:
            found.add("pending", f"entry {held.seq}", expected="resolved, its owner has ended", found="pending")
    for account in accounts:
        if account.is_aside and not account.is_released and account.owner in ended:
            where = f"account {account.path!r}"
            found.add("set aside", where, expected="released, its owner has ended", found="not released")


def _check_balances(
    accounts: Iterable[AccountRow], places: dict[str, Place], worked_out: dict[str, _Balances], found: Discrepancies
) -> None:
    for account in accounts:
        place, (posted, pending) = places[account.path], worked_out[account.path]
        where = f"account {account.path!r}"
        rows = (("limit", place.limits, account.limits), ("posted", posted, account.posted))
        for what, expected, there in (*rows, ("pending", pending, account.pending)):
            for unit, one, other in zip(UNITS, expected, there, strict=True):
                if one != other:
                    found.add(f"{what} {unit}", where, expected=one, found=other)
        if not place.opened:
            found.add("account", where, expected="an entry with its limits", found="none")
        if place.is_overrun != account.is_overrun:
            found.add("overrun", where, expected=place.is_overrun, found=account.is_overrun)
        if place.is_released != account.is_released:
            found.add("released", where, expected=place.is_released, found=account.is_released)


def _worked_out(places: dict[str, Place], own_pending: dict[str, Quantities]) -> dict[str, _Balances]:
    """What each account must stand at; `own_pending`: what is open in it, without its children."""
    balances: dict[str, _Balances] = {}
    for path in sorted(places, key=lambda path: -path.count("/")):  # children first
        place = places[path]
        posted, pending = place.posted, own_pending.get(path, ZERO)
        for child in place.children:
            spent, held = balances[child.path]
            posted = added(posted, spent)
            pending = added(pending, _unspent(child, spent) if child.is_aside else held)
        balances[path] = posted, pending
    return balances


def _unspent(aside: Place, posted: Quantities) -> Quantities:
    if aside.is_released:
        return ZERO
    return tuple(  # type: ignore[return-value]  # four of them
        0 if limit is None else limit - min(spent, limit) for limit, spent in zip(aside.limits, posted, strict=True)
    )
