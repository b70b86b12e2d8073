"""Options about the prices of several models, on a day."""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Sequence
from pathlib import Path

from lmaas_sdk.accounting.price_sources import find_price
from lmaas_sdk.accounting.price_tables import PriceTable, read_price_table

__all__ = ["add_price_options", "day_of", "tables_of"]


def add_price_options(parser: argparse.ArgumentParser) -> None:
    """Of which models, where from, and when."""
    prices = parser.add_argument_group("prices of several models")
    prices.add_argument(
        "--models", type=_names, default=(), metavar="NAMES", help="compare their prices, such as ada,davinci"
    )
    prices.add_argument("--on", type=_date, metavar="DATE", help="the day the prices hold on (default: today)")
    prices.add_argument("--table", action="append", default=[], type=Path, metavar="FILE", help="your own, in TOML")


def tables_of(args: argparse.Namespace) -> Sequence[PriceTable]:
    """One's own prices."""
    return [read_price_table(path) for path in args.table]


def day_of(args: argparse.Namespace) -> datetime.date | None:
    """The day that prices are to hold on; every model's is looked up, so that one without is told at once.

    Raises:
        UnknownPrice: A model has none on that day.
    """
    for model in args.models:
        find_price(model, tables=tables_of(args), on=args.on)
    on: datetime.date | None = args.on
    return on


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"different names with commas between them, such as ada,davinci, not {text!r}")
    return names


def _date(text: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"a date is written as 2026-01-31, not {text!r}") from error
