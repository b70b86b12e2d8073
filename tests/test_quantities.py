"""What may be booked: whole numbers in bounds, under texts that a file can hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from lmaas_sdk import Amounts, Budget, open_ledger
from lmaas_sdk.accounting.quantities import as_amounts, quantities, unspent
from lmaas_sdk.accounting.transfers import Label

NO_AMOUNT: list[object] = [-1, 10**27 + 1, True, 1.0, float("nan"), float("inf"), Decimal(1), "1", None]


@pytest.fixture(params=["memory", "file"])
def budget(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Budget]:
    """A budget in memory, or in a file."""
    if request.param == "memory":
        yield Budget()
    else:
        with open_ledger(tmp_path / "ledger") as ledger:
            yield Budget(ledger=ledger, name="run")


@pytest.mark.parametrize("unit", ["calls", "evaluations", "tokens", "nanousd"])
@pytest.mark.parametrize("wrong", NO_AMOUNT, ids=repr)
async def test_what_is_no_amount_is_refused_before_anything_is_booked(budget: Budget, unit: str, wrong: Any) -> None:
    """The message holds the value; the budget is as it was, and books the next reservation."""
    with pytest.raises(ValueError, match=rf"whole numbers from 0 to 10\^27.*{unit}={re.escape(repr(wrong))}"):
        await budget.hold_all([Amounts(**{unit: wrong})])
    assert (budget.posted, budget.pending) == (Amounts(), Amounts())
    [reservation] = await budget.hold_all([Amounts(calls=1)])
    assert budget.pending == Amounts(calls=1)
    reservation.void()


@pytest.mark.parametrize("wrong", NO_AMOUNT, ids=repr)
async def test_what_is_no_amount_cannot_be_posted(budget: Budget, wrong: Any) -> None:
    """The reservation stays pending, and can be posted rightly."""
    [reservation] = await budget.hold_all([Amounts(calls=1, tokens=10)])
    await reservation.mark_sent()
    with pytest.raises(ValueError, match="whole numbers"):
        reservation.post(Amounts(calls=1, tokens=wrong))
    assert budget.pending == Amounts(calls=1, tokens=10)
    reservation.post(Amounts(calls=1, tokens=7))
    await budget.ready()
    assert (budget.posted, budget.pending) == (Amounts(calls=1, tokens=7), Amounts())


async def test_the_largest_amounts_are_booked_exactly(budget: Budget) -> None:
    """Not a unit is lost on the way through a float or a 64-bit column."""
    most = Amounts(10**27, Fraction(10**27 * 7 - 1, 7), 10**27, 10**27)
    [reservation] = await budget.hold_all([most])
    assert budget.pending == most
    await reservation.mark_sent()
    reservation.post(most)
    await budget.ready()
    assert budget.posted == most


@pytest.mark.parametrize("wrong", [None, b"key", 7, "\ud800", "a\udcffb"], ids=repr)
@pytest.mark.parametrize("name", ["purpose", "endpoint", "key"])
def test_a_label_is_text_that_a_file_can_hold(name: str, wrong: Any) -> None:
    """The message names the part and shows the value."""
    with pytest.raises(ValueError, match=rf"the {name} of a transfer is a text.*{re.escape(repr(wrong))}"):
        Label(**{name: wrong})


def test_any_other_text_is_a_label() -> None:
    """Empty, beyond the first plane, with a NUL: all that UTF-8 spells."""
    for text in ("", "train", "\U0001f600", "a\0b", "é" * 10_000):
        assert Label(text, text, text).key == text


def test_what_is_left_of_an_aside_is_never_a_debt() -> None:
    """Per unit; a unit of which nothing was set aside leaves nothing."""
    assert unspent((5, Fraction(1, 2), None, 10), (7, Fraction(1, 3), 100, 4)) == (0, Fraction(1, 6), 0, 6)
    assert quantities(as_amounts((1, Fraction(2), 3, 4))) == (1, 2, 3, 4)
