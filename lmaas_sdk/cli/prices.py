"""`lmaas prices`: what models cost, from when on, and where that was read."""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from lmaas_sdk.accounting.commercial_prices import commercial_entries, commercial_providers
from lmaas_sdk.accounting.money import format_usd
from lmaas_sdk.accounting.price_sources import find_price
from lmaas_sdk.accounting.price_tables import SHEETS, PriceEntry, price_sheet, read_price_table
from lmaas_sdk.accounting.prices import PRICE_KINDS, Price
from lmaas_sdk.cli.console import stdout_console
from lmaas_sdk.cli.exit_codes import DONE
from lmaas_sdk.errors import MissingExtra

__all__ = ["add_command"]

_WIDTH_OF_A_FILE = 240  # where there is no terminal, no line is broken


def add_command(commands: argparse._SubParsersAction[Any]) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "prices",
        help="what models cost",
        description="Prices of all known models, or of MODEL: your own tables, the sheets that ship, then genai-prices "
        "where it is installed (pip install 'lmaas-sdk[prices]').",
    )
    parser.add_argument("model", nargs="?", metavar="MODEL", help="a model's name, or provider/name")
    parser.add_argument(
        "--table",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="a table of your own, in TOML; repeatable",
    )
    parser.add_argument("--on", type=_date, metavar="DATE", help="the day the price is to hold on (default: today)")
    parser.add_argument(
        "--provider", metavar="NAME", help="of genai-prices: list its models, or say whose MODEL is meant"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_run)


def _date(text: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"a date is written as 2026-01-31, not {text!r}") from error


def _run(args: argparse.Namespace) -> int:
    tables = [read_price_table(path) for path in args.table]
    day = args.on or datetime.date.today()
    if args.model is not None:
        model = args.model if args.provider is None else f"{args.provider}/{args.model}"
        _show(model, find_price(model, tables=tables, on=day), as_json=args.json)
    elif args.provider is not None:
        _show_all({"genai-prices": commercial_entries(args.provider, day)}, "", as_json=args.json)
    else:
        known = {table.name: table.last_entries(day) for table in (*tables, *map(price_sheet, SHEETS))}
        _show_all(known, _more(), as_json=args.json)
    return DONE


def _more() -> str:
    """Where there are more prices than a screen takes."""
    try:
        return f"genai-prices has more: --provider {', '.join(commercial_providers())}"
    except MissingExtra as missing:
        return str(missing)


def _show(model: str, price: Price, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"model": model, **price.to_dict()}, indent=2))
        return
    table = Table("kind", title=escape(model))
    table.add_column("price", justify="right")
    table.add_column("for")
    for kind in PRICE_KINDS:
        table.add_row(kind, _cell(price, kind), "a call" if kind == "call" else "1,000,000 tokens")
    console = stdout_console(file_width=_WIDTH_OF_A_FILE)
    console.print(table)
    console.print(
        f"from {price.effective or 'an unknown day'} on; {price.source}", soft_wrap=True, highlight=False, markup=False
    )


def _show_all(sources: Mapping[str, Sequence[PriceEntry]], more: str, *, as_json: bool) -> None:
    if as_json:
        found = {
            name: [
                {
                    "model": entry.model,
                    "aliases": list(entry.aliases),
                    "last_day": entry.last_day and entry.last_day.isoformat(),
                    **entry.price.to_dict(),
                }
                for entry in entries
            ]
            for name, entries in sources.items()
        }
        print(json.dumps({"sources": found}, indent=2))
        return
    console = stdout_console(file_width=_WIDTH_OF_A_FILE)
    for name, entries in sources.items():
        table = Table("model", title=f"{escape(name)} (dollars for 1,000,000 tokens, and a call)")
        for kind in PRICE_KINDS:
            table.add_column(kind, justify="right")
        table.add_column("from")
        table.add_column("until")
        for entry in entries:
            cells = (_cell(entry.price, kind) for kind in PRICE_KINDS)
            days = (entry.price.effective or "-", str(entry.last_day or "-"))
            table.add_row(escape(" = ".join(entry.names)), *cells, *days)
        console.print(table)
    if more:
        console.print(more, soft_wrap=True, highlight=False, markup=False)


def _cell(price: Price, kind: str) -> str:
    amount = price.of(kind)
    return "-" if amount is None or (kind == "call" and not amount) else format_usd(amount)
