"""Current prices of commercial models, from the data inside the package genai-prices; nothing is downloaded."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from lmaas_sdk.accounting.money import nanousd
from lmaas_sdk.accounting.price_tables import PriceEntry, check_day, near_names
from lmaas_sdk.accounting.prices import Price, PriceTier
from lmaas_sdk.errors import MissingExtra, UnknownPrice

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, ModelPrice, Provider

__all__ = ["commercial_entries", "commercial_price", "commercial_providers"]

_BATCH = {"processing": "batch"}
_OUTPUTS = ("output_mtok", "output_reasoning_mtok", "output_citation_mtok")
_CHARGED = ("input_mtok", "cache_read_mtok", *_OUTPUTS)
_CACHE_WRITES = ("cache_write_mtok", "cache_write_1h_mtok")
_ENDLESS = sys.maxsize  # as an input's length: beyond all tiers


def commercial_price(model: str, on: datetime.date) -> Price:
    """A commercial model's list price on a day, worked out once.

    Where it depends on the length of the input, the price has tiers. Where it depends on the time of day, it is the
    dearest, and `source` says so. Amounts are exact. Where the package knows no first day, `effective` is the day asked
    for, and `source` says that too.

    Args:
        model: The model's name, or provider/name where several sell it.
        on: The day; what is known reaches back to the package's first entry of the model.

    Raises:
        MissingExtra: genai-prices is not installed.
        UnknownPrice: It does not know the model, or its price is not one of text tokens.
        TypeError: `on` is no day.
    """
    check_day(on)
    return _worked_out(model, on)


@lru_cache(maxsize=1024)
def _worked_out(model: str, on: datetime.date) -> Price:
    provider, found = _find(model)
    return _price(provider, found, on)


def commercial_providers() -> list[str]:
    """Those whose prices are known, sorted.

    Raises:
        MissingExtra: genai-prices is not installed.
    """
    return sorted(one.id for one in _snapshot().providers)


def commercial_entries(provider: str, on: datetime.date) -> list[PriceEntry]:
    """A provider's models with a price of text tokens, by name; `model` is provider/name.

    Args:
        provider: One of `commercial_providers`.
        on: The day.

    Raises:
        MissingExtra: genai-prices is not installed.
        ValueError: There is no such provider.
    """
    if provider not in (known := commercial_providers()):
        raise ValueError(f"the providers are {', '.join(known)}, not {provider!r}")
    entries = []
    for seller in _snapshot().providers:
        for model in seller.models if seller.id == provider else ():
            try:
                price = _price(seller, model, on)
            except UnknownPrice:
                continue  # it is sold by the minute, the page or the picture
            entries.append(PriceEntry(f"{seller.id}/{model.id}", on, price))
    return sorted(entries, key=lambda entry: entry.model)


@cache
def _snapshot() -> DataSnapshot:
    try:
        from genai_prices import data, data_snapshot  # noqa: PLC0415  (an extra, and half a second)
    except ImportError as error:
        raise MissingExtra(
            "current commercial prices need the package genai-prices: pip install 'lmaas-sdk[prices]'"
        ) from error
    return data_snapshot.DataSnapshot(providers=data.providers, from_auto_update=False)


def _find(model: str) -> tuple[Provider, ModelInfo]:
    provider, _, name = model.partition("/")
    for reference, of in ((model, None), (name, provider)):
        try:
            if reference:
                return _snapshot().find_provider_model(reference, None, of, None)
        except LookupError:
            continue
    return _find_by_id(model)


def _find_by_id(model: str) -> tuple[Provider, ModelInfo]:
    """The one model of exactly that name, where the package does not say whose it is."""
    sold = {f"{provider.id}/{one.id}": (provider, one) for provider in _snapshot().providers for one in provider.models}
    alike = [name for name, (_, one) in sold.items() if one.id.casefold() == model.casefold()]
    if len(alike) == 1:
        return sold[alike[0]]
    if alike:
        raise UnknownPrice(f"several providers sell model {model!r}: say which ({', '.join(alike)})")
    names = [*sold, *(one.id for _, one in sold.values())]
    raise UnknownPrice(f"genai-prices has no price of model {model!r}{near_names(model, names)}")


def _price(provider: Provider, model: ModelInfo, on: datetime.date) -> Price:
    standard, batch = _prices_of_day(model, on), _batch_prices_of_day(model, on)
    if not all(_is_of_tokens(price) for price in standard):
        raise UnknownPrice(f"genai-prices has no price of text tokens for model {provider.id}/{model.id}")
    *shorter, longest = _lengths([*standard, *batch])
    first_day = _first_day(model, on)
    return replace(
        _price_at(longest, standard, batch),
        effective=first_day or on.isoformat(),
        source=_source(provider, model, standard, is_dated=bool(first_day)),
        tiers=tuple(PriceTier(length, _price_at(length, standard, batch)) for length in shorter),
    )


def _price_at(length: int, standard: Sequence[ModelPrice], batch: Sequence[ModelPrice]) -> Price:
    """What calls of at most so many input tokens cost."""
    per_request = _dearest(standard, length, "requests_kcount")
    return Price(
        _nanousd(standard, length, "input_mtok") or 0,
        _nanousd(standard, length, *_OUTPUTS) or 0,
        _nanousd(standard, length, "cache_read_mtok") if _all_have(standard, "cache_read_mtok") else None,
        0 if per_request is None else nanousd(per_request.scaleb(-3)),
        batch_input_nanousd_per_mtok=_nanousd(batch, length, "input_mtok") if batch else None,
        batch_output_nanousd_per_mtok=(_nanousd(batch, length, *_OUTPUTS) or 0) if batch else None,
    )


def _prices_of_day(model: ModelInfo, on: datetime.date) -> list[ModelPrice]:
    return [model.get_prices(moment) for moment in _moments(model, on)]


def _batch_prices_of_day(model: ModelInfo, on: datetime.date) -> list[ModelPrice]:
    """The batch prices through a day; none where there is no offer all day."""
    prices = []
    for moment in _moments(model, on):
        offers = [
            variant
            for variant in model.price_variants or ()
            if variant.when == _BATCH and (variant.constraint is None or variant.constraint.active(moment))
        ]
        if not offers:
            return []
        prices.append(model.get_prices(moment, _BATCH))
    return prices


def _moments(model: ModelInfo, on: datetime.date) -> list[datetime.datetime]:
    """Moments of a day between which no price changes: midnight and every border of a daily interval."""
    times = {datetime.time(0)}
    conditions = [] if not isinstance(model.prices, list) else [one.constraint for one in model.prices]
    for condition in conditions:
        times |= {getattr(condition, name) for name in ("start_time", "end_time") if hasattr(condition, name)}
    return [datetime.datetime.combine(on, time, time.tzinfo or datetime.UTC) for time in sorted(times, key=str)]


def _first_day(model: ModelInfo, on: datetime.date) -> str:
    """The first day of the newest price that holds on a day; "" where the package does not say."""
    conditions = [] if not isinstance(model.prices, list) else [one.constraint for one in model.prices]
    days = [getattr(condition, "start_date", None) for condition in conditions]
    return max((day.isoformat() for day in days if day is not None and day <= on), default="")


def _is_of_tokens(price: ModelPrice) -> bool:
    charged = {key for key, value in vars(price).items() if value is not None}
    unknown_output = "output_mtok" not in charged and any(key.startswith("output_") for key in charged)
    return "input_mtok" in charged and not unknown_output


def _lengths(prices: Iterable[ModelPrice]) -> list[int]:
    """The most input tokens of each tier, ascending; the last has no end."""
    values = (getattr(price, key, None) for price in prices for key in _CHARGED)
    return [*sorted({tier.start for value in values for tier in getattr(value, "tiers", ())}), _ENDLESS]


def _amounts(prices: Iterable[ModelPrice], key: str, length: int = _ENDLESS) -> set[Decimal]:
    """All that a kind of token may cost in a call of at most so many input tokens."""
    found: set[Decimal] = set()
    for price in prices:
        value = getattr(price, key, None)
        if isinstance(value, Decimal):
            found.add(value)
        elif value is not None:
            # A tier holds from the token after its start on.
            found |= {value.base, *(tier.price for tier in value.tiers if tier.start < length)}
    return found


def _dearest(prices: Sequence[ModelPrice], length: int, *keys: str) -> Decimal | None:
    return max((amount for key in keys for amount in _amounts(prices, key, length)), default=None)


def _nanousd(prices: Sequence[ModelPrice], length: int, *keys: str) -> int | None:
    dearest = _dearest(prices, length, *keys)
    return None if dearest is None else nanousd(dearest)


def _all_have(prices: Iterable[ModelPrice], key: str) -> bool:
    return all(getattr(price, key, None) is not None for price in prices)


def _source(provider: Provider, model: ModelInfo, prices: Sequence[ModelPrice], *, is_dated: bool) -> str:
    import genai_prices  # noqa: PLC0415  (an extra; it is there, or no price would be)

    notes = [f"genai-prices {genai_prices.__version__}: {provider.id}/{model.id}", *(provider.pricing_urls or ())[:1]]
    if not is_dated:
        notes.append("its first day is not known, so it is dated by the day asked for")
    cheapest, (length, *_) = min(_amounts(prices, "input_mtok")), _lengths(prices)
    if length != _ENDLESS:
        notes.append(f"dearer in calls of more than {length} input tokens, from ${cheapest} of input on")
    if any(len({max(_amounts([price], key), default=None) for price in prices}) > 1 for key in _CHARGED):
        notes.append(f"the dearest of its prices through a day, which begin at ${cheapest} of input")
    if _dearest(prices, _ENDLESS, *_CACHE_WRITES) is not None:
        notes.append("writing to its cache is not included")
    return "; ".join(notes)
