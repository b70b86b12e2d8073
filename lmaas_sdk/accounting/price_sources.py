"""Where a price comes from: one's own tables, then the sheets that ship, then commercial list prices."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence

from lmaas_sdk.accounting.commercial_prices import commercial_price
from lmaas_sdk.accounting.price_tables import SHEETS, PriceTable, check_day, near_names, price_sheet
from lmaas_sdk.accounting.prices import Price
from lmaas_sdk.errors import MissingExtra, UnknownPrice

__all__ = ["find_price"]


def find_price(
    model: str,
    *,
    tables: Sequence[PriceTable] = (),
    on: datetime.date | None = None,
    today: Callable[[], datetime.date] = datetime.date.today,
) -> Price:
    """A model's price: of the first source that has the model.

    It reads files and takes up to a second: ask once for a model, not before every call.

    Args:
        model: The model's name.
        tables: One's own, asked first and in this order; after them the sheets that ship, and genai-prices where it is
            installed.
        on: The day it is to hold on; None: today.
        today: Says what day it is.

    Raises:
        UnknownPrice: No source has it, or the first that has it has no price on that day; the message says how to give
            one's own.
        TypeError: `on` is no day.
    """
    check_day(on)
    day = on or today()
    known = [*tables, *map(price_sheet, SHEETS)]
    for table in known:
        if model in table:
            return table.price_of(model, day)
    near = near_names(model, [name for table in known for name in table.names])
    advice = "write a table of your own (docs/prices.md) and give it"
    try:
        return commercial_price(model, day)
    except MissingExtra as missing:
        raise UnknownPrice(f"no price is known of model {model!r}{near}: {advice}; {missing}") from missing
    except UnknownPrice as unknown:
        raise UnknownPrice(f"no price is known of model {model!r}{near}: {unknown}; {advice}") from unknown
