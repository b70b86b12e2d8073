"""Amounts of the four units."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaas_sdk.accounting.amounts import UNITS, Amounts

NUMBERS = st.integers(min_value=-(10**20), max_value=10**20)
AMOUNTS = st.builds(Amounts, NUMBERS, st.fractions(max_denominator=64), NUMBERS, NUMBERS)


@given(AMOUNTS, AMOUNTS, st.integers(min_value=-9, max_value=9))
def test_arithmetic_is_that_of_each_unit(a: Amounts, b: Amounts, count: int) -> None:
    """Sums, differences, multiples and minima are taken unit by unit, exactly."""
    for unit in UNITS:
        x, y = getattr(a, unit), getattr(b, unit)
        found = [getattr(amounts, unit) for amounts in (a + b, a - b, a.times(count), a.at_most(b))]
        assert [x + y, x - y, x * count, min(x, y)] == found


@pytest.mark.parametrize("unit", UNITS)
def test_one_unit_below_zero_makes_it_negative(unit: str) -> None:
    """Whichever unit it is, and nothing else."""
    assert Amounts(**{unit: -1}).is_negative
    assert not Amounts(**{unit: 1}).is_negative
    assert not Amounts().is_negative


def test_thirds_of_an_evaluation_add_up_to_one() -> None:
    """A candidate scored on three thirds of the texts is exactly one evaluation, and reads so."""
    whole = sum([Amounts(1, Fraction(1, 3))] * 3, Amounts())
    assert Amounts(3, 1) == whole
    assert {"calls": 3, "evaluations": 1, "tokens": 0, "nanousd": 0} == whole.to_dict()
    assert isinstance(whole.to_dict()["evaluations"], int)


def test_a_part_of_an_evaluation_reads_as_a_float() -> None:
    """JSON has no fractions."""
    assert Amounts(evaluations=Fraction(5, 2)).to_dict()["evaluations"] == 2.5


@pytest.mark.parametrize("unit", UNITS)
def test_one_unit_above_is_over(unit: str) -> None:
    """Whatever the others are; as much in every unit is not over."""
    most = Amounts(2, Fraction(5, 2), 30, 400)
    assert not most.is_over(most)
    assert replace(Amounts(), **{unit: getattr(most, unit) + 1}).is_over(most)
