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

__all__ = ["SHEETS", "PriceEntry", "PriceTable", "check_day", "near_names", "price_sheet", "read_price_table"]

SHEETS = {"gpt3-2022": "gpt3_2022.toml"}


@dataclass(frozen=True, slots=True)
class PriceEntry:
    """A model's price from a date on, until its last day or the next entry of that model.

    Args:
        model: The model's name.
        effective: The first day it holds.
        price: The price; its `effective` and `source` say the same in words.
        aliases: Other names of the model, on all days that it has a price on.
        last_day: The last day it holds; None: it holds until the next entry.
    """

    model: str
    effective: datetime.date
    price: Price
    aliases: tuple[str, ...] = ()
    last_day: datetime.date | None = None

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
        ValueError: Two entries of a model hold from the same day, or two models share a name.
    """

    def __init__(
        self, name: str, entries: Iterable[PriceEntry], *, today: Callable[[], datetime.date] = datetime.date.today
    ) -> None:
        self.name = name
        self.entries: tuple[PriceEntry, ...] = tuple(
            sorted(entries, key=lambda entry: (_folded(entry.model), entry.effective))
        )
        self._today = today
        self._of_model: dict[str, list[PriceEntry]] = {}
        self._model_of: dict[str, str] = {}
        for entry in self.entries:
            self._add(entry)

    def __repr__(self) -> str:
        return f"PriceTable({self.name!r}, {len(self.entries)} entries)"

    def __contains__(self, model: str) -> bool:
        return _folded(model) in self._model_of

    @property
    def names(self) -> tuple[str, ...]:
        """All names that have a price on some day, sorted."""
        return tuple(sorted({name for entry in self.entries for name in entry.names}))

    def entries_on(self, on: datetime.date | None = None) -> tuple[PriceEntry, ...]:
        """The entry in force of every model that has one on a day (None: today), by model."""
        day = self._day(on)
        found = (_in_force(entries, day) for entries in self._of_model.values())
        return tuple(entry for entry in found if entry is not None)

    def last_entries(self, on: datetime.date | None = None) -> tuple[PriceEntry, ...]:
        """The last entry of every model that began by a day (None: today), in force or ended, by model."""
        day = self._day(on)
        begun = ([entry for entry in entries if entry.effective <= day] for entries in self._of_model.values())
        return tuple(entries[-1] for entries in begun if entries)

    def price_of(self, model: str, on: datetime.date | None = None) -> Price:
        """A model's price.

        Args:
            model: Its name or an alias.
            on: The day it is to hold on; None: today.

        Raises:
            UnknownPrice: The table does not have the model, or has no price of it on that day; the message says what
                it has.
        """
        known = self._model_of.get(_folded(model))
        if known is None:
            raise UnknownPrice(f"table {self.name!r} has no price of model {model!r}{near_names(model, self.names)}")
        entries, day = self._of_model[known], self._day(on)
        entry = _in_force(entries, day)
        if entry is None:
            raise UnknownPrice(
                f"table {self.name!r} has a price of model {model!r} {_span(entries, day)}, none on {day}: ask for "
                "another day, or write a table of your own (docs/prices.md) and give it"
            )
        return entry.price

    def _day(self, on: datetime.date | None) -> datetime.date:
        check_day(on)
        return on or self._today()

    def _add(self, entry: PriceEntry) -> None:
        model = _folded(entry.model)
        entries = self._of_model.setdefault(model, [])
        if entries and entries[-1].effective == entry.effective:
            raise ValueError(f"table {self.name!r} has two prices of {model!r} from {entry.effective} on: leave one")
        entries.append(entry)
        for name in entry.names:
            if self._model_of.setdefault(_folded(name), model) != model:
                raise ValueError(
                    f"table {self.name!r} calls two models {name!r}, {self._model_of[_folded(name)]!r} and {model!r}: "
                    "a name is one model's, on all days"
                )


def check_day(on: object) -> None:
    """Refuses what is no day; None passes.

    Raises:
        TypeError: It is something else; a moment too, for which day that is depends on the place.
    """
    if on is not None and (isinstance(on, datetime.datetime) or not isinstance(on, datetime.date)):
        raise TypeError(f"on is a day, such as datetime.date(2026, 1, 31), not {on!r:.60}")


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


def _in_force(entries: Sequence[PriceEntry], day: datetime.date) -> PriceEntry | None:
    """Which of a model's entries, oldest first, holds on a day."""
    begun = [entry for entry in entries if entry.effective <= day]
    if not begun or (begun[-1].last_day is not None and begun[-1].last_day < day):
        return None
    return begun[-1]


def _span(entries: Sequence[PriceEntry], day: datetime.date) -> str:
    """When the price nearest to a day without one holds, in words."""
    last_days = [entry.last_day for entry in entries if entry.effective <= day]
    return f"until {last_days[-1]}" if last_days else f"from {entries[0].effective} on"


def _folded(name: str) -> str:
    return name.strip().casefold()
