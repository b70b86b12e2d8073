"""What a call costs."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaas_sdk.accounting.prices import PRICE_KINDS, Price, Usage
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
