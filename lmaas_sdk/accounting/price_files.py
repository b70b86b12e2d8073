"""Price tables in TOML, read strictly: what is not understood is refused, for a wrong price is wrong money."""

from __future__ import annotations

import datetime
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping

from lmaas_sdk.accounting.money import nanousd
from lmaas_sdk.accounting.prices import Price

__all__ = ["PRICE_KEYS", "parse_price_entries"]

_MOST_USD = 1_000_000  # with it no call's cost leaves the 64 bits that a ledger has
_AMOUNT = re.compile(r"[0-9]+(\.[0-9]+)?")
_KINDS = ("input", "output", "cached", "batch_input", "batch_output")
# Key -> the field of `Price` it fills, and the power of ten that makes it a price of 1,000,000 tokens.
_AMOUNTS = {
    **{f"{kind}_usd_per_mtok": (f"{kind}_nanousd_per_mtok", 0) for kind in _KINDS},
    **{f"{kind}_usd_per_ktok": (f"{kind}_nanousd_per_mtok", 3) for kind in _KINDS},
    "usd_per_call": ("call_nanousd", 0),
}
PRICE_KEYS = ("model", "aliases", "effective", "last_day", "source", *_AMOUNTS)

_Entry = tuple[str, datetime.date, Price, tuple[str, ...], datetime.date | None]


def parse_price_entries(name: str, content: bytes) -> Iterator[_Entry]:
    """Model, first day, price, aliases and last day of every entry.

    Args:
        name: The file's, for messages.
        content: Its bytes.

    Raises:
        ValueError: It is not such a table; the message names the file, the entry and the value.
    """
    try:
        table = tomllib.loads(content.decode("utf-8-sig"))  # some editors put a byte order mark in front
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is not TOML: {error}") from error
    entries = table.pop("price", None)
    if table:
        raise ValueError(f"{name}: {_listed(table)} is not known: a price table holds [[price]] entries only")
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{name} has no [[price]] entry: each model's price is one")
    for number, entry in enumerate(entries, start=1):
        try:
            yield _entry(entry)
        except ValueError as error:
            model = f"model {entry['model']!r:.60}" if "model" in entry else "no model"
            raise ValueError(f"{name}: price {number} ({model}): {error}") from error


def _entry(entry: Mapping[str, object]) -> _Entry:
    if unknown := [key for key in entry if key not in PRICE_KEYS]:
        raise ValueError(f"{_listed(unknown)} is not known: the keys are {', '.join(PRICE_KEYS)}")
    amounts: dict[str, int] = {}
    for key, (field, power) in _AMOUNTS.items():
        if key in entry and field in amounts:
            raise ValueError(f"{key} stands beside the same price for another number of tokens: leave one of them")
        if key in entry:
            amounts[field] = _amount(key, entry[key], power)
    for needed in ("input_nanousd_per_mtok", "output_nanousd_per_mtok"):
        if needed not in amounts:
            key = needed.replace("nanousd", "usd")
            raise ValueError(f'{key} is missing: give it, as "0" where these tokens are free')
    (effective, last_day), source = _days(entry), _words(entry.get("source"), "source")
    # A table has no tiers: a commercial list may (`commercial_prices`).
    price = Price(**amounts, effective=effective.isoformat(), source=source, tiers=())
    return _words(entry.get("model"), "model"), effective, price, _aliases(entry.get("aliases", [])), last_day


def _amount(key: str, value: object, power: int) -> int:
    if not isinstance(value, str) or not _AMOUNT.fullmatch(value):
        raise ValueError(f'{key} is an amount of dollars in quotes, such as "0.40", from 0 up, not {value!r:.60}')
    amount = nanousd(f"{value}e{power}")
    if amount > nanousd(_MOST_USD):
        raise ValueError(f"{key} is {value!r:.60}, above {_MOST_USD} dollars (for 1,000,000 tokens): mind the unit")
    return amount


def _days(entry: Mapping[str, object]) -> tuple[datetime.date, datetime.date | None]:
    """The first day, and the last where one is given."""
    effective = _date(entry.get("effective"), "effective", "first")
    last_day = _date(entry["last_day"], "last_day", "last") if "last_day" in entry else None
    if last_day is not None and last_day < effective:
        raise ValueError(f"last_day is {last_day}, before effective, which is {effective}")
    return effective, last_day


def _date(value: object, key: str, which: str) -> datetime.date:
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value
    raise ValueError(f"{key} is the {which} day of the price, such as 2026-01-31 without quotes, not {value!r:.60}")


def _words(value: object, key: str) -> str:
    if isinstance(value, str) and value.strip() == value and value.isprintable() and value:
        return value
    raise ValueError(f"{key} is a string of printable characters, not {value!r:.60}")


def _aliases(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"aliases is a list of names, not {value!r:.60}")  # noqa: TRY004 (the file's fault)
    return tuple(_words(alias, "an alias") for alias in value)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)
