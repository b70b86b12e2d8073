"""Money in whole nano-dollars."""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaas_sdk.accounting.money import NANOUSD_PER_USD, ceil_div, format_usd, nanousd, usd


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        ("5.00", 5_000_000_000),
        (".5", 500_000_000),
        ("5.", 5_000_000_000),
        (5, 5_000_000_000),
        (Decimal("0.0004"), 400_000),
        ("0", 0),
        ("0.0000000001", 1),
        ("1.0000000001", 1_000_000_001),
        ("1e-999999999", 1),
        ("1.0000000000000000000000000000000000001", 1_000_000_001),
        ("999999999999999999", 999_999_999_999_999_999_000_000_000),
    ],
)
def test_dollars_become_whole_nano_dollars_rounded_up(amount: str | int | Decimal, expected: int) -> None:
    """An amount is exact, and what is below a nano-dollar rounds up however small it is."""
    assert expected == nanousd(amount)


@pytest.mark.parametrize("amount", [5.0, True, None, [1], np.float64(1.0)])
def test_an_amount_of_another_type_is_refused(amount: object) -> None:
    """A float has no exact meaning in dollars, and nothing else is money either."""
    with pytest.raises(TypeError, match="a string, int or Decimal"):
        nanousd(amount)  # type: ignore[arg-type]


OTHER_SPELLINGS = ["1_000", " 5 ", "5\n", "+5", ".", "e5", "\u0665", "\uff15", "1.\u0665"]


@pytest.mark.parametrize(
    "amount", ["-0.01", "NaN", "sNaN", "inf", "5 dollars", "", "1e18", "1e999999999", -1, *OTHER_SPELLINGS]
)
def test_an_amount_that_is_none_is_refused(amount: str | int) -> None:
    """Negative, endless, unreadable and absurd amounts are ValueErrors that name the amount; so are other scripts'."""
    with pytest.raises(ValueError, match=r"dollars.*"):
        nanousd(amount)


def test_the_callers_decimal_context_changes_nothing() -> None:
    """Somebody else's precision of three digits does not round money."""
    with localcontext(prec=3):
        assert nanousd("123456789.123456789") == 123_456_789_123_456_789
        assert usd(123_456_789_123_456_789) == Decimal("123456789.123456789")


@given(st.integers(min_value=0, max_value=10**27 - 1))
def test_there_and_back(amount: int) -> None:
    """Nano-dollars survive the way to dollars and back, as a Decimal and as text."""
    assert amount == nanousd(usd(amount))
    assert amount == nanousd(format_usd(amount).removeprefix("$"))


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        (0, "$0.00"),
        (5 * NANOUSD_PER_USD, "$5.00"),
        (4_200_000, "$0.0042"),
        (1, "$0.000000001"),
        (-100_000_000, "-$0.10"),
        (10**30 + 1, "$1000000000000000000000.000000001"),
    ],
)
def test_dollars_for_people(amount: int, expected: str) -> None:
    """At least two decimals, never a rounded one."""
    assert expected == format_usd(amount)


@given(st.integers(), st.integers(min_value=1))
def test_ceil_div_is_the_least_that_is_enough(numerator: int, denominator: int) -> None:
    """The quotient times the denominator reaches the numerator, and one less does not."""
    quotient = ceil_div(numerator, denominator)
    assert (quotient - 1) * denominator < numerator <= quotient * denominator
