"""The terms that `lmaas serve` runs on: the file of `--limits`, and the options that say the same for every key.

The file is TOML and docs/serving.md tells its form. It is read strictly: what is not understood is refused, for a
wrong price is wrong money. Of the tables about limits the narrower one counts, limit by limit: what is about an
endpoint stands above what is about all, and what is about one key above what is about every key.
"""

from __future__ import annotations

import datetime
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lmaas_backends.roberta.accounts import ENDPOINTS, Terms
from lmaas_backends.roberta.wire_card import checked_zone
from lmaas_sdk.accounting.money import nanousd
from lmaas_sdk.backend import Limits, Price
from lmaas_sdk.errors import InvalidQuery

__all__ = ["ServerTerms", "Table", "read_limits_file", "read_terms"]

Table = Mapping[str, object]

_ROLLING, _UNLIMITED, _FREE = "rolling", "unlimited", "free"
_COUNTS = ("requests_per_minute", "tokens_per_minute", "requests_per_day", "concurrency")
_ZONE = "day_time_zone"
_MOST_LIMIT = 2**53  # as a model card has it
_MOST_USD = 1_000_000  # for 1,000,000 tokens or a call: with it no call's cost leaves 64 bits
_AMOUNT = re.compile(r"[0-9]+(\.[0-9]+)?")
_KINDS = ("input", "output", "cached", "batch_input", "batch_output")
# Key -> the field of `Price` it fills, and the power of ten that makes it a price of 1,000,000 tokens.
_PRICES = {
    **{f"{kind}_usd_per_mtok": (f"{kind}_nanousd_per_mtok", 0) for kind in _KINDS},
    **{f"{kind}_usd_per_ktok": (f"{kind}_nanousd_per_mtok", 3) for kind in _KINDS},
    "usd_per_call": ("call_nanousd", 0),
}
_OWN_SOURCE = "the server's own price"


@dataclass(frozen=True, slots=True)
class ServerTerms:
    """On which terms a server answers.

    Args:
        terms: What holds for a key without terms of its own.
        own_terms: By the names of the keys that have some.
    """

    terms: Terms = field(default_factory=Terms)
    own_terms: Mapping[str, Terms] = field(default_factory=dict)


def read_limits_file(path: Path) -> dict[str, object]:
    """The table in a limits file, for `read_terms`.

    Raises:
        ValueError: It is no TOML.
        OSError: It cannot be read.
    """
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from error


def read_terms(table: Table, name: str) -> ServerTerms:
    """The terms that a table asks for.

    Args:
        table: As docs/serving.md tells it.
        name: Where it comes from, for messages.

    Raises:
        ValueError: The message names `name`, the place in the table and the value that is wrong.
    """
    try:
        every_key = _Rules.read(table, "", also=("keys",))
        keys = _table(table.get("keys", {}), "keys")
        own = {key: _Rules.read(_table(entry, f"keys.{key}"), f"keys.{key}.") for key, entry in keys.items()}
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    return ServerTerms(every_key.terms(), {key: every_key.terms(rules) for key, rules in own.items()})


@dataclass(frozen=True, slots=True)
class _Rules:
    """What one level of the file says, about every key or about one. A field that is missing in `said` is not said."""

    said: Mapping[str, object]
    limits: Mapping[str, object]
    endpoints: Mapping[str, Mapping[str, object]]

    @classmethod
    def read(cls, table: Table, place: str, *, also: tuple[str, ...] = ()) -> _Rules:
        _check_names(table, ("balance_usd", "price", "limits", "endpoints", *also), place)
        said: dict[str, object] = {}
        if "balance_usd" in table:
            said["balance_nanousd"] = _balance(table["balance_usd"], f"{place}balance_usd")
        if "price" in table:
            said["price"] = _price(table["price"], f"{place}price")
        endpoints = _table(table.get("endpoints", {}), f"{place}endpoints")
        _check_names(endpoints, ENDPOINTS, f"{place}endpoints.")
        return cls(
            said,
            _limits(table.get("limits", {}), f"{place}limits"),
            {name: _limits(entry, f"{place}endpoints.{name}") for name, entry in endpoints.items()},
        )

    def terms(self, own: _Rules | None = None) -> Terms:
        """The terms of every key, or those of the one that `own` is about."""
        above = own or _Rules({}, {}, {})
        limits = _as_limits({**self.limits, **above.limits})
        by_endpoint = {
            name: _as_limits(
                {**self.limits, **self.endpoints.get(name, {}), **above.limits, **above.endpoints.get(name, {})}
            )
            for name in ENDPOINTS
        }
        differing = tuple((name, found) for name, found in by_endpoint.items() if found != limits)
        return Terms(limits=limits, endpoint_limits=differing, **{**self.said, **above.said})  # type: ignore[arg-type]


def _as_limits(values: Mapping[str, object]) -> Limits:
    """Without a limit a day, a day's time zone means nothing and is left out of what is advertised."""
    daily = values.get("requests_per_day") is not None
    return Limits(**{name: value for name, value in values.items() if daily or name != _ZONE})  # type: ignore[arg-type]


def _limits(value: object, place: str) -> dict[str, object]:
    table = _table(value, place)
    _check_names(table, (*_COUNTS, _ZONE), f"{place}.")
    return {name: _limit(name, entry, f"{place}.{name}") for name, entry in table.items()}


def _limit(name: str, value: object, place: str) -> object:
    if name == _ZONE:
        return _zone(value, place)
    if value == _UNLIMITED:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST_LIMIT:
        raise ValueError(f'{place} is a whole number from 1 to 2^53, or "{_UNLIMITED}", not {value!r:.60}')
    return value


def _zone(value: object, place: str) -> str | None:
    if value == _ROLLING:
        return None
    try:
        return checked_zone(value) if isinstance(value, str) else checked_zone("")
    except InvalidQuery as error:
        raise ValueError(
            f'{place} is a time zone such as "Europe/Rome", or "{_ROLLING}" for any 24 hours, not {value!r:.60}'
        ) from error


def _balance(value: object, place: str) -> int | None:
    return None if value == _UNLIMITED else _amount(value, place)


def _price(value: object, place: str) -> Price | None:
    if value == _FREE:
        return None
    table = _table(value, place)
    _check_names(table, (*_PRICES, "effective", "source"), f"{place}.")
    amounts: dict[str, int] = {}
    for key, (name, power) in _PRICES.items():
        if key not in table:
            continue
        if name in amounts:
            raise ValueError(f"{place}.{key} stands beside the same price for another number of tokens: give one")
        amounts[name] = _amount(table[key], f"{place}.{key}", power=power, most_usd=_MOST_USD)
    if "input_nanousd_per_mtok" not in amounts and amounts.keys() != {"call_nanousd"}:
        raise ValueError(f'{place} lacks input_usd_per_mtok: give it, as "0" where these tokens are free')
    effective = "" if "effective" not in table else _date(table["effective"], f"{place}.effective")
    source = _words(table.get("source", _OWN_SOURCE), f"{place}.source")
    try:
        return Price(**{"input_nanousd_per_mtok": 0} | amounts, effective=effective, source=source, tiers=())
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def _amount(value: object, place: str, *, power: int = 0, most_usd: int | None = None) -> int:
    """Nano-dollars; a price is told for 10^-`power` of what it is kept for."""
    if not isinstance(value, str) or not _AMOUNT.fullmatch(value):
        raise ValueError(f'{place} is an amount of dollars in quotes, such as "0.40", not {value!r:.60}')
    try:
        amount = nanousd(f"{value}e{power}")
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
    if most_usd is not None and amount > nanousd(most_usd):
        raise ValueError(f"{place} is {value!r:.60}, above {most_usd} dollars (for 1,000,000 tokens): mind the unit")
    return amount


def _date(value: object, place: str) -> str:
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value.isoformat()
    raise ValueError(f"{place} is a day such as 2026-01-31, without quotes, not {value!r:.60}")


def _words(value: object, place: str) -> str:
    if isinstance(value, str) and value and value.isprintable():
        return value
    raise ValueError(f"{place} is a string of printable characters, not {value!r:.60}")


def _table(value: object, place: str) -> Table:
    if not isinstance(value, dict):
        raise ValueError(f"{place} is a table, not {value!r:.60}")  # noqa: TRY004 - of a file, not of a caller
    return value


def _check_names(table: Table, known: tuple[str, ...], place: str) -> None:
    if unknown := [name for name in table if name not in known]:
        raise ValueError(f"{place}{unknown[0]} is not known here: what is known is {', '.join(known)}")
