"""What `lmaas ledger` prints for people."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from rich.markup import escape
from rich.table import Table

from lmaas_sdk.accounting.amounts import UNITS, Amounts
from lmaas_sdk.accounting.audit import OwnerState, Statement, UnitBalance, iso_time, units_of
from lmaas_sdk.accounting.ledger_reader import AccountRow
from lmaas_sdk.accounting.money import format_usd
from lmaas_sdk.accounting.quantities import Limits
from lmaas_sdk.accounting.verification import Verification
from lmaas_sdk.cli.console import stdout_console

__all__ = ["print_limits", "print_statement", "print_verification"]

_WIDTH_OF_A_FILE = 240  # where there is no terminal, no line is broken
_TITLES = {"nanousd": "money"}
_STATES = {True: "running", False: "ended", None: "perhaps running"}


def print_statement(statement: Statement, *, title: str) -> None:
    """Budgets as a tree, spend by purpose, unknown outcomes, and who has the file open."""
    console = stdout_console(file_width=_WIDTH_OF_A_FILE)
    console.print(_accounts_table(statement, title))
    console.print(_purposes_table(statement))
    unknown = statement.unknown
    worst = f", posted at {format_usd(statement.unknown_worst.nanousd)}, the worst case" if unknown else ""
    lines = [f"unknown outcomes: {unknown}{worst}", *map(_owner_line, statement.owners)]
    console.print("\n".join(lines), soft_wrap=True, highlight=False, markup=False)


def print_verification(result: Verification) -> None:
    """Every discrepancy on a line of its own, then the outcome."""
    for discrepancy in result.discrepancies:
        print(_printable(str(discrepancy)))
    if result.count > len(result.discrepancies):
        print(f"and {result.count - len(result.discrepancies)} more")
    transfers = f"{result.transfers:,} transfers ({result.pending:,} pending)"
    outcome = "all right" if result.is_right else f"{result.count:,} wrong"
    print(f"{result.entries:,} entries, {transfers}, {result.accounts:,} budgets: {outcome}")


def print_limits(account: str, old: Limits, new: Limits, *, closed: Sequence[str]) -> None:
    """A line for each limit that there was or is, and one for each budget, it or above it, that stays closed."""
    for unit, before, after in zip(UNITS, old, new, strict=True):
        if before is not None or after is not None:
            change = "" if before == after else f" -> {_limit(unit, after)}"
            print(f"{_printable(account)}: {_TITLES.get(unit, unit)} {_limit(unit, before)}{change}")
    for path in closed:
        print(f"{_printable(path)}: closed by a bill above its reservation, until --reopen accepts that")


def _accounts_table(statement: Statement, title: str) -> Table:
    table = Table(title=escape(_printable(title)))
    for column in ("budget", "unit", "limit", "posted", "pending", "free", ""):
        table.add_column(column, justify="left" if column in ("budget", "unit", "") else "right", overflow="fold")
    for account in statement.accounts:
        first, *more = [_balance_cells(balance) for balance in units_of(account)] or [("-",) * 5]
        table.add_row(escape(_printable(account.path)), *first, _marks(account))
        for cells in more:
            table.add_row("", *cells, "")
    return table


def _balance_cells(balance: UnitBalance) -> tuple[str, ...]:
    amounts = (balance.limit, balance.posted, balance.pending, balance.free)
    return (_TITLES.get(balance.unit, balance.unit), *(_shown(balance.unit, amount) for amount in amounts))


def _marks(account: AccountRow) -> str:
    marks = {
        "overrun": account.is_overrun,
        "released": account.is_released,
        "set aside": account.is_aside and not account.is_released,
    }
    return ", ".join(mark for mark, is_so in marks.items() if is_so)


def _purposes_table(statement: Statement) -> Table:
    table = Table(title="posted, by purpose")
    table.add_column("purpose")
    for unit in UNITS:
        table.add_column(_TITLES.get(unit, unit), justify="right")
    total = sum(statement.by_purpose.values(), Amounts())
    for purpose, amounts in (*sorted(statement.by_purpose.items()), ("total", total)):
        cells = (_shown(unit, getattr(amounts, unit)) for unit in UNITS)
        table.add_row(escape(_printable(purpose)) or "-", *cells)
    return table


def _owner_line(state: OwnerState) -> str:
    owner = state.owner
    who = f"process {owner.pid} on {_printable(owner.host)}, since {iso_time(owner.opened_at)[:19]}Z"
    held = f"{state.pending} pending"
    if state.pending:
        held += f" ({state.sent} sent), {format_usd(state.worst.nanousd)} at most"
    if state.is_alive is False:
        held += "; the next process to open the file puts that in order"
    return f"{who}: {_STATES[state.is_alive]}, {held}"


def _limit(unit: str, limit: int | Fraction | None) -> str:
    return "no limit" if limit is None else _shown(unit, limit)


def _shown(unit: str, amount: int | Fraction | None) -> str:
    if amount is None:
        return "-"
    if unit == "nanousd":
        return format_usd(int(amount))
    return f"{amount:,}" if isinstance(amount, int) else f"{float(amount):,.2f}"


def _printable(text: str) -> str:
    """A name from a file, without what would move the cursor of a terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
