"""`lmaas ledger`: what a ledger file says, and whether it is right."""

from __future__ import annotations

import argparse
import json
import os
import sys
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lmaas_sdk.accounting.amounts import UNITS, Amounts
from lmaas_sdk.accounting.audit import OwnerState, Statement, iso_time, plain_number, state_ledger, units_of
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.ledger_export import EXPORTS
from lmaas_sdk.accounting.ledger_file import open_ledger
from lmaas_sdk.accounting.ledger_reader import AccountRow, LedgerReader
from lmaas_sdk.accounting.money import format_usd, usd
from lmaas_sdk.accounting.quantities import Limits
from lmaas_sdk.accounting.verification import Verification, verify_ledger
from lmaas_sdk.cli.exit_codes import DONE

__all__ = ["WRONG", "add_command"]

WRONG = 1  # as diff and cmp end where they find a difference
_WIDTH_OF_A_FILE = 240  # where there is no terminal, no line is broken
_UNIT_NAMES = {"nanousd": "money"}
_OPTIONS = {"calls": "calls", "evaluations": "evaluations", "tokens": "tokens", "usd": "nanousd"}


def add_command(commands: argparse._SubParsersAction[Any]) -> None:
    """Adds the command and what it can do."""
    parser = commands.add_parser("ledger", help="what a ledger file says, and whether it is right", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_show(actions)
    _add_export(actions)
    _add_verify(actions)
    _add_limits(actions)


def _add_show(actions: argparse._SubParsersAction[Any]) -> None:
    show = _action(actions, "show", "budgets, spend by purpose, unknown outcomes, who has the file open")
    show.add_argument("--account", metavar="PATH", help="this budget and all below it alone, such as team/run")
    show.add_argument("--json", action="store_true", help="print one JSON object")
    show.set_defaults(run=_show)


def _add_export(actions: argparse._SubParsersAction[Any]) -> None:
    export = _action(actions, "export", "every entry, oldest first")
    export.add_argument("--format", choices=sorted(EXPORTS), default="csv", help="default: %(default)s")
    export.add_argument("--out", type=Path, metavar="PATH", help="where to (default: stdout)")
    export.set_defaults(run=_export)


def _add_verify(actions: argparse._SubParsersAction[Any]) -> None:
    verify = _action(
        actions, "verify", "add the file up anew from its entries", epilog="Exit codes: 0 it is right; 1 it is not."
    )
    verify.add_argument("--json", action="store_true", help="print one JSON object")
    verify.set_defaults(run=_verify)


def _add_limits(actions: argparse._SubParsersAction[Any]) -> None:
    limits = _action(actions, "limits", "change what a budget allows, for every process that shares the file")
    limits.add_argument("account", metavar="ACCOUNT", help="such as team/run")
    for unit in ("calls", "evaluations", "tokens"):
        limits.add_argument(f"--{unit}", type=int, metavar="N")
    limits.add_argument("--usd", metavar="AMOUNT", help="such as 5.00")
    limits.add_argument(
        "--none", nargs="+", default=[], choices=list(_OPTIONS), metavar="UNIT", help="no limit on " + ", ".join(_OPTIONS)
    )
    limits.add_argument("--json", action="store_true", help="print one JSON object")
    limits.set_defaults(run=_limits)


def _action(
    actions: argparse._SubParsersAction[Any], name: str, does: str, *, epilog: str | None = None
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=does, description=does, epilog=epilog)
    parser.add_argument("file", type=Path, metavar="FILE", help="the ledger, as open_ledger was given it")
    return parser


def _show(args: argparse.Namespace) -> int:
    with LedgerReader(args.file) as reader:
        statement = state_ledger(reader, args.account)
    if args.json:
        print(json.dumps(statement.to_dict(), indent=2))
        return DONE
    console = _console()
    console.print(_accounts_table(statement, args.file))
    console.print(_purposes_table(statement))
    worst = f", {format_usd(statement.unknown_worst.nanousd)} at most" if statement.unknown else ""
    console.print(f"unknown outcomes: {statement.unknown}{worst}", highlight=False)
    for owner in statement.owners:
        console.print(_owner_line(owner), soft_wrap=True, highlight=False, markup=False)
    return DONE


def _accounts_table(statement: Statement, path: Path) -> Table:
    table = Table(title=escape(_printable(str(path))))
    for column in ("budget", "unit", "limit", "posted", "pending", "free", ""):
        table.add_column(column, justify="left" if column in ("budget", "unit", "") else "right", overflow="fold")
    for account in statement.accounts:
        cells = [_balance_cells(*row) for row in _balance_rows(account)] or [("-",) * 5]
        table.add_row(escape(_printable(account.path)), *cells[0], _marks(account))
        for more in cells[1:]:
            table.add_row("", *more, "")
    return table


def _balance_rows(account: AccountRow) -> list[tuple[str, int | Fraction | None, Any, Any, int | Fraction | None]]:
    return [(at.unit, at.limit, at.posted, at.pending, at.free) for at in units_of(account)]


def _balance_cells(unit: str, *amounts: int | Fraction | None) -> tuple[str, ...]:
    return (_UNIT_NAMES.get(unit, unit), *(_shown(unit, amount) for amount in amounts))


def _marks(account: AccountRow) -> str:
    marks = {
        "overrun": account.is_overrun,
        "released": account.is_released,
        "set aside": account.is_aside and not account.is_released,
    }
    return ", ".join(mark for mark, is_so in marks.items() if is_so)


def _purposes_table(statement: Statement) -> Table:
    table = Table(title="posted, by purpose")
    for column in ("purpose", *UNITS):
        table.add_column(_UNIT_NAMES.get(column, column), justify="left" if column == "purpose" else "right")
    total = sum(statement.by_purpose.values(), Amounts())
    for purpose, amounts in (*sorted(statement.by_purpose.items()), ("total", total)):
        cells = (_shown(unit, getattr(amounts, unit)) for unit in UNITS)
        table.add_row(escape(_printable(purpose)) or "-", *cells)
    return table


def _owner_line(state: OwnerState) -> str:
    owner, is_alive = state.owner, {True: "running", False: "ended", None: "perhaps running"}[state.is_alive]
    held = f"{state.pending} pending"
    if state.pending:
        held += f" ({state.sent} sent), {format_usd(state.worst.nanousd)} at most"
    if state.pending and state.is_alive is False:
        held += "; the next process to open the file resolves that"
    who = f"process {owner.pid} on {_printable(owner.host)} since {iso_time(owner.opened_at)[:19]}Z"
    return f"{who}: {is_alive}, {held}"


def _export(args: argparse.Namespace) -> int:
    write = EXPORTS[args.format]
    with LedgerReader(args.file) as reader:
        if args.out is None:
            try:
                write(reader, sys.stdout)
                sys.stdout.flush()
            except BrokenPipeError:  # whoever reads has seen enough; Python must not complain when it ends
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return DONE
        if args.out.resolve().name.startswith(args.file.resolve().name) and args.out.resolve().parent == args.file.resolve().parent:
            raise ValueError(f"{args.out} would overwrite the ledger, or what belongs to it: give another path")
        with args.out.open("w", encoding="utf-8", newline="") as out:
            write(reader, out)
    return DONE


def _verify(args: argparse.Namespace) -> int:
    result = verify_ledger(args.file)
    if args.json:
        print(json.dumps(result.to_dict(), indent=2))
    else:
        _print_verification(result)
    return DONE if result.is_right else WRONG


def _print_verification(result: Verification) -> None:
    for discrepancy in result.discrepancies:
        print(_printable(str(discrepancy)))
    if result.count > len(result.discrepancies):
        print(f"and {result.count - len(result.discrepancies)} more")
    looked_at = f"{result.entries} entries, {result.transfers} transfers ({result.pending} pending), {result.accounts} budgets"
    print(f"{looked_at}: {'all right' if result.is_right else f'{result.count} wrong'}")


def _limits(args: argparse.Namespace) -> int:
    with LedgerReader(args.file) as reader:  # which would not make the file, or the budget
        old = dict(zip(UNITS, reader.account(args.account).limits, strict=True))
    given = {unit: getattr(args, option) for option, unit in _OPTIONS.items()}
    asked = Budget(calls=args.calls, evaluations=args.evaluations, tokens=args.tokens, usd=args.usd)
    none = {_OPTIONS[option] for option in args.none}
    for unit in none:
        if given[unit] is not None:
            raise ValueError(f"a limit on {_UNIT_NAMES.get(unit, unit)} is given, and none: give one of them")
    if not none and not any(value is not None for value in given.values()):
        raise ValueError("no limit is given: name one, such as --tokens 500000 or --none tokens")
    new = {unit: None if unit in none else old[unit] if given[unit] is None else asked.limits[unit] for unit in UNITS}
    with open_ledger(args.file) as ledger:
        ledger.set_limits(args.account, _budget(new))
    if args.json:
        both = {"old": old, "new": new}
        print(json.dumps({"account": args.account, **{when: {unit: plain_number(limit) for unit, limit in limits.items()} for when, limits in both.items()}}))
        return DONE
    for unit in UNITS:
        if old[unit] != new[unit]:
            print(f"{_printable(args.account)}: {_UNIT_NAMES.get(unit, unit)} {_limit(unit, old[unit])} -> {_limit(unit, new[unit])}")
    return DONE
