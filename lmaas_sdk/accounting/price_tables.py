"""Tables of prices with the dates they hold from: those that ship, and anyone's own in TOML (docs/prices.md)."""

from __future__ import annotations

import datetime
import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from lmaas_sdk.accounting.price_files import parse_price_entries
from lmaas_sdk.accounting.prices import Price
from lmaas_sdk.errors import UnknownPrice

__all__ = ["SHEETS", "PriceEntry", "PriceTable", "near_names", "price_sheet", "read_price_table"]

SHEETS = {"gpt3-2022": "gpt3_2022.toml"}


@dataclass(frozen=True, slots=True)
class PriceEntry:
    """A model's price from a date on, until the next entry of that model.

    Args:
        model: The model's name.
        effective: The first day it holds.
        price: The price; its `effective` and `source` say the same in words.
        aliases: Other names of the model.
    """

    model: str
    effective: datetime.date
    price: Price
    aliases: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All its names."""
        return (self.model, *self.aliases)


class PriceTable:
    """Prices by model and date. Upper and lower case are the same in a name.

    Args:
        name: The table's, for messages.
        entries: In any order.
        today: Says what day it is, where a price is asked for without one.

    Raises:
        ValueError: Two entries of one name hold from the same day.
    """

    def __init__(
        self, name: str, entries: Iterable[PriceEntry], *, today: Callable[[], datetime.date] = datetime.date.today
    ) -> None:
        self.name = name
        self.entries: tuple[PriceEntry, ...] = tuple(sorted(entries, key=lambda entry: (entry.model, entry.effective)))
        self._today = today
        self._by_name: dict[str, list[PriceEntry]] = {}
        for entry in sorted(self.entries, key=lambda entry: entry.effective):
            for known in dict.fromkeys(map(_folded, entry.names)):
                self._add(known, entry)

    def __repr__(self) -> str:
        return f"PriceTable({self.name!r}, {len(self.entries)} entries)"

    def __contains__(self, model: str) -> bool:
        return _folded(model) in self._by_name

    @property
    def names(self) -> tuple[str, ...]:
        """All names that have a price on some day, sorted."""
        return tuple(sorted({name for entry in self.entries for name in entry.names}))

    def entries_on(self, on: datetime.date | None = None) -> tuple[PriceEntry, ...]:
        """The entry in force of every model that has one on a day (None: today), by model."""
        day = on or self._today()
        found = {_folded(entry.model): entry for entry in self.entries if entry.effective <= day}
        return tuple(found.values())

    def price_of(self, model: str, on: datetime.date | None = None) -> Price:
        """A model's price.

        Args:
            model: Its name or an alias.
            on: The day it is to hold on; None: today.

        Raises:
            UnknownPrice: The table does not have the model, or has no price of it on that day; the message says what
                it has.
        """
        entries = self._by_name.get(_folded(model))
        if entries is None:
            raise UnknownPrice(f"table {self.name!r} has no price of model {model!r}{near_names(model, self.names)}")
        day = on or self._today()
        in_force = [entry for entry in entries if entry.effective <= day]
        if not in_force:
            raise UnknownPrice(
                f"table {self.name!r} has a price of model {model!r} from {entries[0].effective} on, none on {day}"
            )
        return in_force[-1].price

    def _add(self, known: str, entry: PriceEntry) -> None:
        entries = self._by_name.setdefault(known, [])
        if entries and entries[-1].effective == entry.effective:
            raise ValueError(
                f"table {self.name!r} has two prices of {known!r} from {entry.effective} on ({entries[-1].model!r} and "
                f"{entry.model!r}): leave one"
            )
        entries.append(entry)


def read_price_table(path: str | Path, *, today: Callable[[], datetime.date] = datetime.date.today) -> PriceTable:
    """Reads a table in TOML; docs/prices.md describes it.

    Args:
        path: The file.
        today: As in `PriceTable`.

    Raises:
        ValueError: It is not such a table; the message names the file, the entry and the value.
        OSError: It cannot be read.
    """
    return _table(str(path), Path(path).read_bytes(), today=today)


@cache
def price_sheet(name: str) -> PriceTable:
    """A table that ships: one of `SHEETS`.

    Raises:
        ValueError: There is none of that name.
    """
    if name not in SHEETS:
        raise ValueError(f"the price sheets that ship are {', '.join(SHEETS)}, not {name!r}")
    content = resources.files("lmaas_sdk.accounting").joinpath(SHEETS[name]).read_bytes()
    return _table(name, content)


def near_names(model: str, names: Sequence[str]) -> str:
    """Words that name models called alike, to end a sentence with; "" where there are none."""
    by_folded = {_folded(name): name for name in names}
    near = difflib.get_close_matches(_folded(model), by_folded, n=3)
    return f" (near it: {', '.join(by_folded[name] for name in near)})" if near else ""


def _table(name: str, content: bytes, *, today: Callable[[], datetime.date] = datetime.date.today) -> PriceTable:
    entries = [PriceEntry(*parts) for parts in parse_price_entries(name, content)]
    return PriceTable(name, entries, today=today)


def _folded(name: str) -> str:
    return name.strip().casefold()
