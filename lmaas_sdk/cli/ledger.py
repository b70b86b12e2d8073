"""`lmaas ledger`: what a ledger file says, and whether it is right."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lmaas_sdk.accounting.amounts import UNITS
from lmaas_sdk.accounting.audit import plain_number, state_ledger
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.ledger_export import EXPORTS
from lmaas_sdk.accounting.ledger_file import open_ledger
from lmaas_sdk.accounting.ledger_reader import LedgerReader
from lmaas_sdk.accounting.limits import limits_of
from lmaas_sdk.accounting.quantities import Limits
from lmaas_sdk.accounting.verification import verify_ledger
from lmaas_sdk.cli.exit_codes import DONE
from lmaas_sdk.cli.ledger_report import print_limits, print_statement, print_verification

__all__ = ["WRONG", "add_command"]

WRONG = 1  # as diff and cmp end where they find a difference
_OPTIONS = ("calls", "evaluations", "tokens", "usd")  # in the order of UNITS


def add_command(commands: argparse._SubParsersAction[Any]) -> None:
    """Adds the command and what it can do."""
    parser = commands.add_parser("ledger", help="what a ledger file says, and whether it is right", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = _add_action(actions, "show", "budgets, spend by purpose, unknown outcomes, and who has the file open")
    show.add_argument("--account", metavar="PATH", help="this budget and all below it alone, such as team/run")
    show.add_argument("--json", action="store_true", help="print one JSON object")
    show.set_defaults(run=_show)
    export = _add_action(actions, "export", "every entry, oldest first")
    export.add_argument("--format", choices=sorted(EXPORTS), default="csv", help="default: %(default)s")
    export.add_argument("--out", type=Path, metavar="PATH", help="where to (default: stdout)")
    export.set_defaults(run=_export)
    verify = _add_action(actions, "verify", "add the file up anew from its entries")
    verify.epilog = "Exit codes: 0 the file is right; 1 it is not; 2 it cannot be read as a ledger."
    verify.add_argument("--json", action="store_true", help="print one JSON object")
    verify.set_defaults(run=_verify)
    _add_limits(actions)


def _add_limits(actions: argparse._SubParsersAction[Any]) -> None:
    limits = _add_action(actions, "limits", "change what a budget allows, for every process that shares the file")
    limits.add_argument("account", metavar="ACCOUNT", help="such as team/run")
    for option in _OPTIONS[:3]:
        limits.add_argument(f"--{option}", type=int, metavar="N")
    limits.add_argument("--usd", metavar="AMOUNT", help="such as 5.00")
    limits.add_argument(
        "--none", nargs="+", default=[], choices=_OPTIONS, metavar="UNIT", help=f"no limit on {', '.join(_OPTIONS)}"
    )
    limits.add_argument(
        "--reopen", action="store_true", help="accept the bill above its reservation that has closed this budget"
    )
    limits.add_argument("--json", action="store_true", help="print one JSON object")
    limits.set_defaults(run=_limits)


def _add_action(actions: argparse._SubParsersAction[Any], name: str, does: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.")
    parser.add_argument("file", type=Path, metavar="FILE", help="the ledger, as open_ledger was given it")
    return parser


def _show(args: argparse.Namespace) -> int:
    with LedgerReader(args.file) as reader:
        statement = state_ledger(reader, args.account)
    if args.json:
        print(json.dumps(statement.to_dict(), indent=2))
    else:
        print_statement(statement, title=str(args.file))
    return DONE


def _export(args: argparse.Namespace) -> int:
    write = EXPORTS[args.format]
    with LedgerReader(args.file) as reader:
        if args.out is not None:
            with _not_of_the_ledger(args.out, args.file).open("w", encoding="utf-8", newline="") as out:
                write(reader, out)
            return DONE
        if sys.__stdout__ is None:
            raise ValueError("there is no stdout to write to: give --out FILE")
        write(reader, sys.stdout)
    return DONE


def _not_of_the_ledger(out: Path, ledger: Path) -> Path:
    there, own = out.resolve(), ledger.resolve()
    if there.parent == own.parent and (there.name == own.name or there.name.startswith(f"{own.name}-")):
        raise ValueError(f"{out} is the ledger's own, and would be overwritten: give another path")
    return out


def _verify(args: argparse.Namespace) -> int:
    result = verify_ledger(args.file)
    if args.json:
        print(json.dumps(result.to_dict(), indent=2))
    else:
        print_verification(result)
    return DONE if result.is_right else WRONG


def _limits(args: argparse.Namespace) -> int:
    with LedgerReader(args.file) as reader:  # which makes neither a file nor a budget that is not there
        account = reader.account(args.account)
    if account.is_aside:
        raise ValueError(f"{args.account} was set aside: its limits are what was taken out of the budget above it")
    change = _change(args)
    with open_ledger(args.file) as ledger:
        old, new = ledger.change_limits(args.account, change, reopen=args.reopen)
    closed = _closed(args)
    if args.json:
        told = {"account": args.account, "old": _plain(old), "new": _plain(new), "closed": closed}
        print(json.dumps(told, indent=2))
    else:
        print_limits(args.account, old, new, closed=closed)
    return DONE


def _closed(args: argparse.Namespace) -> list[str]:
    """Of the budget and all above it, those that stay closed by a bill above its reservation, nearest first."""
    names = args.account.split("/")
    with LedgerReader(args.file) as reader:
        line = [reader.account("/".join(names[:count])) for count in range(len(names), 0, -1)]
    return [account.path for account in line if account.is_overrun]


def _change(args: argparse.Namespace) -> Callable[[Limits], Limits]:
    """Puts the limits that the options give in the places of others.

    Raises:
        ValueError: They give none, one twice, or one that is negative.
    """
    given = limits_of(Budget(calls=args.calls, evaluations=args.evaluations, tokens=args.tokens, usd=args.usd))
    twice = [option for option, limit in zip(_OPTIONS, given, strict=True) if limit is not None and option in args.none]
    if twice:
        raise ValueError(f"--{twice[0]} gives a limit, and --none takes it away: give one of the two")
    if not args.none and not args.reopen and all(limit is None for limit in given):
        raise ValueError("no limit is given: name one, such as --tokens 500000 or --none tokens")

    def changed(limits: Limits) -> Limits:
        return tuple(  # type: ignore[return-value]  # four of them
            None if option in args.none else before if limit is None else limit
            for option, before, limit in zip(_OPTIONS, limits, given, strict=True)
        )

    return changed


def _plain(limits: Limits) -> dict[str, int | float | None]:
    return {unit: plain_number(limit) for unit, limit in zip(UNITS, limits, strict=True)}
