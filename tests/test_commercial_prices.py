"""Commercial prices from genai-prices: exact, on the safe side, and never made up."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal, localcontext
from pathlib import Path

import pytest
from genai_prices.data_snapshot import DataSnapshot
from genai_prices.types import (
    ClauseEquals,
    ClauseStartsWith,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    Provider,
    StartDateConstraint,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)
from genai_prices.types import Usage as GenaiUsage

from lmaas_sdk.accounting import commercial_prices
from lmaas_sdk.accounting.commercial_prices import commercial_entries, commercial_price, commercial_providers
from lmaas_sdk.accounting.money import nanousd
from lmaas_sdk.accounting.price_sources import find_price
from lmaas_sdk.accounting.price_tables import PriceEntry, PriceTable
from lmaas_sdk.accounting.prices import Price, PriceTier, Usage
from lmaas_sdk.errors import MissingExtra, UnknownPrice

DAY = date(2026, 10, 20)
FLAT = ModelPrice(input_mtok=Decimal("0.15"), output_mtok=Decimal("0.6"))


def model(name: str, prices: ModelPrice | list[ConditionalPrice], *variants: PriceVariant) -> ModelInfo:
    return ModelInfo(name, ClauseEquals(name), prices=prices, price_variants=list(variants) or None)


def usd(**amounts: str) -> ModelPrice:
    return ModelPrice(**{key: Decimal(amount) for key, amount in amounts.items()})


def at_night(prices: ModelPrice) -> ConditionalPrice:
    return ConditionalPrice(TimeOfDateConstraint(time(16, 30, tzinfo=UTC), time(0, 30, tzinfo=UTC)), prices=prices)


def since(day: date, prices: ModelPrice) -> ConditionalPrice:
    return ConditionalPrice(StartDateConstraint(day), prices=prices)


TIERS = TieredPrices(Decimal(3), [Tier(200_000, Decimal(6))])
OTHER_TIERS = TieredPrices(Decimal(7), [Tier(100_000, Decimal(8)), Tier(200_000, Decimal(9))])
FALLING = TieredPrices(Decimal(2), [Tier(100, Decimal(1))])
BATCH = PriceVariant({"processing": "batch"}, usd(input_mtok="0.07", output_mtok="0.3"), StartDateConstraint(DAY))
FLEX = PriceVariant({"service_tier": "flex"}, usd(input_mtok="0.01", output_mtok="0.01"))
MODELS = [
    model("flat", FLAT, FLEX),
    model("batch", FLAT, FLEX, BATCH),
    model("tiers", ModelPrice(input_mtok=TIERS, output_mtok=Decimal(9), cache_read_mtok=Decimal("0.3"))),
    model("two-borders", ModelPrice(input_mtok=TIERS, output_mtok=OTHER_TIERS, cache_read_mtok=Decimal("0.3"))),
    model("falls", ModelPrice(input_mtok=FALLING, output_mtok=Decimal(1))),
    model("night", [ConditionalPrice(prices=usd(input_mtok="2", output_mtok="1")), at_night(FLAT)]),
    model("dear-night", [ConditionalPrice(prices=FLAT), at_night(usd(input_mtok="2", output_mtok="1"))]),
    model("dated", [ConditionalPrice(prices=FLAT), since(DAY, usd(input_mtok="1", output_mtok="2"))]),
    model("fee", usd(input_mtok="1", output_mtok="1", requests_kcount="12")),
    model("thinks", usd(input_mtok="2", output_mtok="8", output_reasoning_mtok="9", cache_write_mtok="3")),
    model("embeds", usd(input_mtok="0.1")),
    model("speaks", usd(input_mtok="1", output_audio_mtok="9")),
    model("hears", usd(audio_hours="1")),
    model("unpriced", ModelPrice()),
]
PROVIDERS = [
    Provider("first", "First", "first", ["https://first.example/prices"], models=MODELS),
    Provider("second", "Second", "second", models=[model("flat", FLAT), model("only-here", FLAT)]),
    Provider("third", "Third", "third", model_match=ClauseStartsWith("third-"), models=[model("third-one", FLAT)]),
]


@pytest.fixture(autouse=True)
def _few_models(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package's own kinds of price, on a few models, whatever data are installed."""
    snapshot = DataSnapshot(providers=PROVIDERS, from_auto_update=False)
    monkeypatch.setattr(commercial_prices, "_snapshot", lambda: snapshot)
    commercial_prices._worked_out.cache_clear()
    yield
    commercial_prices._worked_out.cache_clear()


def priced(name: str, on: date = DAY) -> Price:
    """Without the words around the amounts, and the date where it is the day asked for."""
    price = commercial_price(name, on)
    return replace(price, source="", effective="" if "dated by the day" in price.source else price.effective)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("first/flat", Price(150_000_000, 600_000_000)),
        ("only-here", Price(150_000_000, 600_000_000)),
        ("third-one", Price(150_000_000, 600_000_000)),
        ("batch", replace(Price(150_000_000, 600_000_000), batch_input_nanousd_per_mtok=70_000_000,
                          batch_output_nanousd_per_mtok=300_000_000)),
        ("tiers", Price(6_000_000_000, 9_000_000_000, 300_000_000,
                        tiers=(PriceTier(200_000, Price(3_000_000_000, 9_000_000_000, 300_000_000)),))),
        ("night", Price(2_000_000_000, 1_000_000_000)),
        ("dear-night", Price(2_000_000_000, 1_000_000_000)),
        ("dated", Price(1_000_000_000, 2_000_000_000, effective="2026-10-20")),
        ("fee", Price(1_000_000_000, 1_000_000_000, call_nanousd=12_000_000)),
        ("thinks", Price(2_000_000_000, 9_000_000_000)),
        ("embeds", Price(100_000_000)),
    ],
)  # fmt: skip
def test_a_price_is_exact_and_the_dearest_that_may_be_asked(name: str, expected: Price) -> None:
    """Tiers, times of the day, fees and dates, in whole nano-dollars."""
    assert expected == priced(name)


def test_a_call_is_charged_by_its_own_tier() -> None:
    """As the package itself would charge it, at a border, above it, and where two kinds have borders of their own."""
    for name in ("tiers", "two-borders"):
        mine = commercial_price(name, DAY)
        listed = next(one for one in MODELS if one.id == name).get_prices(datetime.combine(DAY, time(12), UTC))
        for sent in (0, 1, 1000, 100_000, 100_001, 200_000, 200_001, 500_000):
            cached, output = sent // 3, 1000
            theirs = listed.calc_price(GenaiUsage(input_tokens=sent, cache_read_tokens=cached, output_tokens=output))[
                "total_price"
            ]
            assert nanousd(theirs) == mine.cost_nanousd(Usage(sent, cached, output)), (name, sent)


def test_a_tier_that_is_cheaper_than_a_shorter_ones_costs_as_that() -> None:
    """So the most tokens of a call still bound its cost."""
    tiers = commercial_price("falls", DAY).tiers
    assert [(100, 2_000_000_000)] == [(tier.up_to_input_tokens, tier.price.input_nanousd_per_mtok) for tier in tiers]
    assert commercial_price("falls", DAY).input_nanousd_per_mtok == 2_000_000_000


def test_a_price_without_a_first_day_is_dated_by_the_day_asked_for() -> None:
    """And says so; where the package knows the first day, it is that."""
    prices = [commercial_price("only-here", DAY), commercial_price("dated", DAY)]
    assert [("2026-10-20", True), ("2026-10-20", False)] == [
        (price.effective, "dated by the day asked for" in price.source) for price in prices
    ]
    assert commercial_price("dated", date(2026, 10, 25)).effective == "2026-10-20"


def test_before_a_new_price_the_old_one_holds() -> None:
    """Also for what is offered in a batch."""
    before = date(2026, 10, 19)
    assert Price(150_000_000, 600_000_000) == priced("dated", before) == priced("batch", before)


def test_the_source_says_what_was_chosen() -> None:
    """The package, the provider's page, and what the amounts leave out."""
    sources = {name: commercial_price(name, DAY).source for name in ("first/flat", "tiers", "thinks", "night")}
    assert "first/flat; https://first.example/prices" in sources["first/flat"]
    assert sources["first/flat"].startswith("genai-prices ")
    assert "dearest" not in sources["first/flat"]
    assert "dearer in calls of more than 200000 input tokens, from $3 of input on" in sources["tiers"]
    assert "the dearest of its prices through a day, which begin at $0.15 of input" in sources["night"]
    assert ["dearest" in sources[name] for name in ("tiers", "thinks")] == [False] * 2
    assert "writing to its cache is not included" in sources["thinks"]


@pytest.mark.parametrize("name", ["hears", "speaks", "unpriced"])
def test_what_is_not_priced_by_text_tokens_is_refused(name: str) -> None:
    """Its cost could not be bounded by tokens."""
    with pytest.raises(UnknownPrice, match=f"no price of text tokens for model first/{name}"):
        commercial_price(name, DAY)


def test_a_name_that_several_sell_is_refused() -> None:
    """The message says whose there are."""
    with pytest.raises(UnknownPrice, match=r"say which \(first/flat, second/flat\)"):
        commercial_price("flat", DAY)


def test_an_unknown_name_is_answered_with_those_called_alike() -> None:
    """Whether or not a provider is named."""
    with pytest.raises(UnknownPrice, match=r"near it: .*tiers"):
        commercial_price("tierz", DAY)
    with pytest.raises(UnknownPrice, match=r"near it: .*first/fee"):
        commercial_price("first/feee", DAY)


def test_a_price_is_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time nothing is looked up."""
    first = commercial_price("only-here", DAY)
    monkeypatch.setattr(commercial_prices, "_snapshot", lambda: pytest.fail("looked up again"))
    assert commercial_price("only-here", DAY) is first


def test_the_callers_decimal_context_does_not_round() -> None:
    """Amounts are the same where the caller works with two digits."""
    with localcontext(prec=2):
        assert Price(150_000_000, 600_000_000) == priced("only-here")


def test_providers_and_their_models_are_listed() -> None:
    """Without those that have no price of text tokens; a provider that is not there is answered with those that are."""
    assert ["first", "second", "third"] == commercial_providers()
    names = [entry.model for entry in commercial_entries("first", DAY)]
    assert sorted(f"first/{one.id}" for one in MODELS if one.id not in {"hears", "speaks", "unpriced"}) == names
    with pytest.raises(ValueError, match="the providers are first, second, third, not 'fourth'"):
        commercial_entries("fourth", DAY)


def test_ones_own_table_comes_first_then_the_sheets_then_the_list() -> None:
    """The first source that has the model decides, also that it has no price yet."""
    mine = PriceTable("mine", [PriceEntry(name, DAY, Price(7)) for name in ("davinci", "fee")])
    assert (
        Price(7) == find_price("davinci", tables=[mine], on=DAY) == find_price("fee", tables=[mine], today=lambda: DAY)
    )
    assert find_price("davinci", on=date(2022, 8, 31)).input_nanousd_per_mtok == 60_000_000_000
    assert find_price("fee", on=DAY).call_nanousd == 12_000_000
    with pytest.raises(UnknownPrice, match="from 2026-10-20 on"):
        find_price("fee", tables=[mine], on=date(2026, 1, 1))


def test_an_unknown_model_is_told_what_to_do() -> None:
    """Near names, and a table of one's own."""
    with pytest.raises(UnknownPrice, match=r"model 'tierz'.*near it.*write a table of your own \(docs/prices.md\)"):
        find_price("tierz", on=DAY)
    mine = PriceTable("mine", [PriceEntry("my-model", DAY, Price(7))])
    with pytest.raises(UnknownPrice, match=r"model 'my-modle' \(near it: my-model\)"):
        find_price("my-modle", tables=[mine], on=DAY)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Prices that ship are there all the same."""
    monkeypatch.undo()
    commercial_prices._snapshot.cache_clear()
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    with pytest.raises(MissingExtra, match=r"pip install 'lmaas-sdk\[prices\]'"):
        commercial_price("fee", DAY)
    with pytest.raises(UnknownPrice, match=r"near it: davinci.*table of your own.*pip install 'lmaas-sdk\[prices\]'"):
        find_price("davinchi", on=DAY)
    assert find_price("ada", on=date(2022, 1, 31)).input_nanousd_per_mtok == 800_000_000


def test_the_installed_data_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every provider's models have positive prices of input, and well-known ones are there."""
    monkeypatch.undo()
    for provider in commercial_providers():
        for entry in commercial_entries(provider, DAY):
            assert entry.price.input_nanousd_per_mtok > 0, entry
    known = find_price("gpt-4o", on=DAY)
    assert known.output_nanousd_per_mtok >= known.input_nanousd_per_mtok > (known.cached_nanousd_per_mtok or 0)
