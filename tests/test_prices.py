"""What a call costs."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaas_sdk.accounting.prices import PRICE_KINDS, Price, PriceTier, Usage
from lmaas_sdk.errors import UnknownPrice

COUNTS = st.integers(min_value=0, max_value=10**12)


def test_one_thousand_tokens_of_ada() -> None:
    """0.0008 dollars per 1,000 tokens is 800,000 nano-dollars for them."""
    assert Price(800_000_000).cost_nanousd(Usage(1000)) == 800_000


def test_a_charge_is_rounded_up_once_a_call() -> None:
    """Three kinds of tokens that cost a third each are one nano-dollar together, not three."""
    price = Price(1, 1, 1)
    assert price.cost_nanousd(Usage(2, 1, 1)) == 1
    assert price.cost_nanousd(Usage()) == 0


def test_cached_tokens_are_part_of_the_input() -> None:
    """Of 10 input tokens 4 are cached and cost half."""
    price = Price(2_000_000, 10_000_000, 1_000_000, call_nanousd=7)
    assert price.cost_nanousd(Usage(10, 4, 1)) == 6 * 2 + 4 * 1 + 10 + 7
    assert Price(2_000_000).cost_nanousd(Usage(10, 4)) == 20


@given(st.tuples(COUNTS, COUNTS, COUNTS, COUNTS), st.tuples(COUNTS, COUNTS, COUNTS))
def test_the_charge_is_the_exact_one_rounded_up(prices: tuple[int, ...], counts: tuple[int, ...]) -> None:
    """However large the numbers, the charge is that of exact fractions."""
    per_input, per_output, per_cached, per_call = prices
    fresh, cached, output = counts
    exact = Fraction(fresh * per_input + cached * per_cached + output * per_output, 10**6)
    price = Price(per_input, per_output, per_cached, per_call)
    assert per_call + ceil(exact) == price.cost_nanousd(Usage(fresh + cached, cached, output))


@pytest.mark.parametrize("name", ["input", "output", "cached", "call", "batch_input", "batch_output"])
@pytest.mark.parametrize(("amount", "error"), [(-1, ValueError), (0.5, TypeError), ("4", TypeError), (True, TypeError)])
def test_a_price_is_a_whole_number_of_nano_dollars(name: str, amount: Any, error: type[Exception]) -> None:
    """A negative price, or one that would make money a float, is refused by its name."""
    field = "call_nanousd" if name == "call" else f"{name}_nanousd_per_mtok"
    with pytest.raises(error, match=f"{field} is"):
        Price(**({"input_nanousd_per_mtok": 1} | {field: amount}))


@pytest.mark.parametrize(
    ("usage", "error"),
    [
        (Usage(10, cached_tokens=100), ValueError),
        (Usage(-5), ValueError),
        (Usage(5, -1), ValueError),
        (Usage(5, 0, -1), ValueError),
        (Usage(5.0), TypeError),  # type: ignore[arg-type]
        (Usage(5, 0, "1"), TypeError),  # type: ignore[arg-type]
    ],
)
def test_a_usage_that_counts_nothing_has_no_cost(usage: Usage, error: type[Exception]) -> None:
    """A negative charge would give money back, and a float would make money one."""
    with pytest.raises(error, match="a usage counts tokens"):
        Price(1_000_000).cost_nanousd(usage)


LONG = Price(6_000_000, 22_000_000, 600_000, 2, "2026-01-01", "a list", 3_000_000, 11_000_000)
SHORT = Price(3_000_000, 15_000_000, 300_000, 1, "", "", 1_500_000, 7_500_000)
TIERED = replace(LONG, tiers=(PriceTier(200, SHORT), PriceTier(1000, replace(LONG, input_nanousd_per_mtok=5_000_000))))


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (Usage(200, 0, 1000), 200 * 3 + 1000 * 15 + 1),
        (Usage(200, 200), 60 + 1),
        (Usage(201), 201 * 5 + 2),
        (Usage(1000, 10, 1), 990 * 5 + 6 + 22 + 2),
        (Usage(1001), 1001 * 6 + 2),
    ],
)
def test_a_call_costs_its_own_tier(usage: Usage, expected: int) -> None:
    """All its tokens, also those of the output, are charged by how many went in, cached ones included."""
    assert expected == TIERED.cost_nanousd(usage)


def test_a_batch_has_tiers_too() -> None:
    """And none of them where there is no offer."""
    assert [200 * 3 // 2 + 1, 2000 * 3 + 2] == [TIERED.cost_nanousd(Usage(n), batch=True) for n in (200, 2000)]
    plain = Price(2, source="a list", tiers=(PriceTier(5, Price(1)),))
    with pytest.raises(UnknownPrice, match=r"no batch price \(a list\)"):
        plain.cost_nanousd(Usage(1), batch=True)


@given(COUNTS, COUNTS, COUNTS)
def test_more_tokens_never_cost_less(fresh: int, cached: int, more: int) -> None:
    """So the cost of the most tokens that a call may take is the most that it may cost, whatever its tier."""
    fresh, cached, more = fresh % 2000, cached % 2000, more % 2000
    used = Usage(fresh + cached, cached)
    most = fresh + cached + more
    assert TIERED.cost_nanousd(used) <= max(TIERED.cost_nanousd(Usage(most, part)) for part in (0, most))


@pytest.mark.parametrize(
    ("tiers", "why"),
    [
        ([(5, Price(3))], "dearer than what longer calls cost"),
        ([(5, Price(1)), (5, Price(2))], "shortest first"),
        ([(5, Price(2)), (6, Price(1))], "dearer than"),
        ([(5, Price(1, 1))], "dearer than"),
        ([(5, Price(1, 0, 4))], "dearer than"),
        ([(5, Price(1, call_nanousd=1))], "dearer than"),
        ([(5, Price(1, batch_input_nanousd_per_mtok=0, batch_output_nanousd_per_mtok=0))], "of all tiers, or of none"),
        ([(-1, Price(1))], "a tier has a number of input tokens"),
        ([(5, Price(1, tiers=(PriceTier(1, Price(0)),)))], "a price without tiers"),
    ],
)
def test_tiers_that_no_worst_could_be_told_of_are_refused(tiers: list[tuple[int, Price]], why: str) -> None:
    """A longer call is never cheaper by the token."""
    with pytest.raises(ValueError, match=why):
        Price(2, tiers=tuple(PriceTier(*tier) for tier in tiers))


def test_usage_adds_up() -> None:
    """Usages add kind by kind."""
    assert Usage(1, 0, 3) + Usage(10, 5, 30) == Usage(11, 5, 33)


def test_a_batch_has_prices_of_its_own() -> None:
    """Input and output at half price; cached tokens at the dearer of the two that they may have."""
    price = Price(4_000_000, 8_000_000, 1_000_000, 3, "", "", 2_000_000, 4_000_000)
    assert price.cost_nanousd(Usage(10, 4, 5), batch=True) == 6 * 2 + 4 * 2 + 5 * 4 + 3
    assert Price(4, 0, None, 0, "", "", 2_000_000, 0).cost_nanousd(Usage(10, 4), batch=True) == 20
    assert Price(4, 0, 3_000_000, 0, "", "", 2_000_000, 0).cost_nanousd(Usage(10, 4), batch=True) == 6 * 2 + 4 * 3


def test_without_a_batch_offer_a_batch_has_no_price() -> None:
    """It is not taken as the price of other calls, nor as free."""
    with pytest.raises(UnknownPrice, match="no batch price"):
        Price(4_000_000, source="a list").cost_nanousd(Usage(10), batch=True)
    with pytest.raises(ValueError, match="both batch_input_nanousd_per_mtok and batch_output"):
        Price(4, batch_input_nanousd_per_mtok=2)


def test_a_price_is_told_by_kind() -> None:
    """Every kind of the list, and no other."""
    price = Price(1, 2, 3, 4, "", "", 5, 6)
    assert [1, 2, 3, 5, 6, 4] == [price.of(kind) for kind in PRICE_KINDS]
    with pytest.raises(ValueError, match="a kind of price is one of input, output"):
        price.of("images")


def test_a_price_is_plain_values_for_json() -> None:
    """All its fields, under their names."""
    price = Price(1, 2, None, 4, "2022-01-01", "a list")
    assert Price(**price.to_dict()) == price  # type: ignore[arg-type]
    told = json.loads(json.dumps(TIERED.to_dict()))["tiers"][0]
    assert told == {"up_to_input_tokens": 200, "price": SHORT.to_dict() | {"tiers": []}}
