"""What a ledger file shows: what every budget stands at, what the money went for, who holds the rest."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from lmaas_sdk.accounting.amounts import UNITS, Amounts
from lmaas_sdk.accounting.ledger_reader import AccountRow, LedgerReader, OwnerRow, parse_amounts
from lmaas_sdk.accounting.owners import OwnerLock
from lmaas_sdk.accounting.quantities import as_amounts
from lmaas_sdk.errors import LedgerError

__all__ = ["OwnerState", "Statement", "UnitBalance", "iso_time", "plain_number", "state_ledger", "units_of"]

# `:path` NULL is every account.
_WITHIN = "(:path IS NULL OR {0}.account = :path OR substr({0}.account, 1, length(:path) + 1) = :path || '/')"
_SPENT = f"""SELECT p.purpose, p.unknown AND c.seq IS NULL,
  CASE WHEN c.seq IS NULL THEN p.calls ELSE c.calls END,
  CASE WHEN c.seq IS NULL THEN p.evaluations ELSE c.evaluations END,
  CASE WHEN c.seq IS NULL THEN p.tokens ELSE c.tokens END,
  CASE WHEN c.seq IS NULL THEN p.nanousd ELSE c.nanousd END
  FROM entries AS p LEFT JOIN entries AS c ON c.transfer = p.transfer AND c.kind = 'correct'
  WHERE p.kind = 'post' AND {_WITHIN.format("p")}"""  # noqa: S608  (constants)
_OPEN = f"""SELECT p.transfer, p.kind, p.owner, p.calls, p.evaluations, p.tokens, p.nanousd FROM entries AS p
  WHERE p.kind IN ('pending', 'sent', 'refused') AND {_WITHIN.format("p")}
  AND NOT EXISTS (SELECT 1 FROM entries AS r WHERE r.transfer = p.transfer AND r.kind IN ('post', 'void'))
  ORDER BY p.seq"""  # noqa: S608  (constants)


@dataclass(frozen=True, slots=True)
class UnitBalance:
    """One unit of one budget: posted + pending + free = limit; None is no limit."""

    unit: str
    limit: int | Fraction | None
    posted: int | Fraction
    pending: int | Fraction

    @property
    def free(self) -> int | Fraction | None:
        """What is left here; below 0 after a bill above its reservation."""
        return None if self.limit is None else self.limit - self.posted - self.pending


@dataclass(frozen=True, slots=True)
class OwnerState:
    """Somebody who has the file open, or had and left something pending.

    Attributes:
        is_alive: Whether a process still holds it; None: that could not be found out.
        pending: Transfers it has not resolved; `sent` of them are on their way.
        worst: What those come to at most.
    """

    owner: OwnerRow
    is_alive: bool | None
    pending: int
    sent: int
    worst: Amounts

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "id": self.owner.id,
            "pid": self.owner.pid,
            "host": self.owner.host,
            "opened_at": iso_time(self.owner.opened_at),
            "is_alive": self.is_alive,
            "pending": self.pending,
            "sent": self.sent,
            "worst": self.worst.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class Statement:
    """What a ledger file says at one moment.

    Attributes:
        accounts: In the order of the tree.
        by_purpose: What is posted, as corrected.
        unknown: Transfers that are posted at the worst case, because nobody knows what they cost.
        unknown_worst: What they come to, as posted; in truth it is between nothing and this.
        owners: Who has it open, or left something pending.
    """

    accounts: tuple[AccountRow, ...]
    by_purpose: dict[str, Amounts]
    unknown: int
    unknown_worst: Amounts
    owners: tuple[OwnerState, ...]

    def to_dict(self) -> dict[str, object]:
        """For JSON; money in whole nano-dollars."""
        return {
            "accounts": [_account_dict(account) for account in self.accounts],
            "by_purpose": {purpose: amounts.to_dict() for purpose, amounts in sorted(self.by_purpose.items())},
            "unknown_outcomes": {"count": self.unknown, "worst": self.unknown_worst.to_dict()},
            "owners": [owner.to_dict() for owner in self.owners],
        }


def state_ledger(reader: LedgerReader, account: str | None = None) -> Statement:
    """Reads what a ledger stands at, as a whole or in one account and all below it.

    Raises:
        LedgerError: There is no such account, or the file is damaged.
    """
    accounts = reader.accounts()
    if account is not None:
        reader.account(account)
        accounts = [row for row in accounts if row.path == account or row.path.startswith(f"{account}/")]
    by_purpose: dict[str, Amounts] = {}
    unknown, worst = 0, Amounts()
    for purpose, is_unknown, *values in reader.connection.execute(_SPENT, {"path": account}):
        amounts = _amounts(values)
        name = str(purpose)  # in a damaged file it may be anything
        by_purpose[name] = by_purpose.get(name, Amounts()) + amounts
        if is_unknown:
            unknown, worst = unknown + 1, worst + amounts
    return Statement(tuple(accounts), by_purpose, unknown, worst, _owners(reader, account))


def units_of(account: AccountRow) -> list[UnitBalance]:
    """The units of an account that are limited or used."""
    rows = zip(UNITS, account.limits, account.posted, account.pending, strict=True)
    return [UnitBalance(*row) for row in rows if row[1] is not None or row[2] or row[3]]


def iso_time(at: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC: "2026-01-31T12:00:00.250000+00:00".

    Raises:
        ValueError: It is no time, or one that no date can say.
    """
    try:
        return datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat(timespec="microseconds")
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise ValueError(f"{at!r:.60} is not a time") from error


def plain_number(amount: int | Fraction | None) -> int | float | None:
    """An amount for JSON: part of an evaluation is a float."""
    return amount if amount is None or isinstance(amount, int) else float(amount)


def _owners(reader: LedgerReader, account: str | None) -> tuple[OwnerState, ...]:
    asked: dict[str, tuple[str, Amounts]] = {}
    sent: set[str] = set()
    for transfer, kind, owner, *values in reader.connection.execute(_OPEN, {"path": account}):
        if kind == "pending":
            asked[transfer] = owner, _amounts(values)
        elif kind == "sent":
            sent.add(transfer)
        else:
            sent.discard(transfer)
    pending: dict[str, list[str]] = {}
    for transfer, (owner, _) in asked.items():
        pending.setdefault(owner, []).append(transfer)
    return tuple(
        _state(reader, owner, [(asked[transfer][1], transfer in sent) for transfer in pending.get(owner.id, [])])
        for owner in reader.owners()
        if owner.ended is None or owner.id in pending
    )


def _state(reader: LedgerReader, owner: OwnerRow, held: Sequence[tuple[Amounts, bool]]) -> OwnerState:
    worst = sum((amounts for amounts, _ in held), Amounts())
    return OwnerState(owner, _is_alive(reader, owner), len(held), sum(is_sent for _, is_sent in held), worst)


def _is_alive(reader: LedgerReader, owner: OwnerRow) -> bool | None:
    if owner.ended is not None:
        return False
    try:
        with OwnerLock(reader.path, owner.id).if_dead() as is_dead:  # lets go at once of what it could take
            return not is_dead
    except OSError:  # a folder that may only be read
        return None


def _amounts(values: Sequence[object]) -> Amounts:
    try:
        return as_amounts([amount or 0 for amount in parse_amounts(values)])
    except ValueError as error:
        raise LedgerError(f"{error}: see `lmaas ledger verify`") from error


def _account_dict(account: AccountRow) -> dict[str, object]:
    units = {
        balance.unit: {
            "limit": plain_number(balance.limit),
            "posted": plain_number(balance.posted),
            "pending": plain_number(balance.pending),
            "free": plain_number(balance.free),
        }
        for balance in units_of(account)
    }
    return {
        "path": account.path,
        "parent": account.parent,
        "is_aside": account.is_aside,
        "is_overrun": account.is_overrun,
        "is_released": account.is_released,
        "units": units,
    }
