"""Spend by purpose."""

from __future__ import annotations

from fractions import Fraction

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.spend import Spend


def test_nothing_is_spent_at_first() -> None:
    """No purpose has a line before something is booked under it."""
    assert Spend().to_dict() == {"total": {"calls": 0, "evaluations": 0, "tokens": 0, "nanousd": 0}}


def test_bookings_add_up_by_purpose() -> None:
    """Each purpose has its own line, corrections lower it, and the total is the sum of the lines."""
    spend = Spend()
    spend.add("train", Amounts(2, Fraction(1, 2), 10, 100))
    spend.add("dev", Amounts(1, 0, 5, 50))
    spend.add("train", Amounts(0, 0, -4, -40))
    assert spend.by_purpose == {"train": Amounts(2, Fraction(1, 2), 6, 60), "dev": Amounts(1, 0, 5, 50)}
    assert spend.total == Amounts(3, Fraction(1, 2), 11, 110)


def test_rows_for_json_are_sorted_with_the_total_last() -> None:
    """Purposes by name, money in whole nano-dollars."""
    spend = Spend()
    spend.add("train", Amounts(1, 2, 3, 4))
    spend.add("dev", Amounts(1))
    assert list(spend.to_dict()) == ["dev", "train", "total"]
    assert spend.to_dict()["train"] == {"calls": 1, "evaluations": 2, "tokens": 3, "nanousd": 4}


def test_two_spends_share_nothing() -> None:
    """A new spend begins with an empty table of its own."""
    Spend().add("test", Amounts(1))
    assert Spend().by_purpose == {}


def test_several_spends_come_to_their_sum() -> None:
    """By purpose, one that is given twice counted once, unknown outcomes and attempts included; none is changed."""
    one, other = Spend(attempts=2), Spend(attempts=3)
    one.add("train", Amounts(1, 2, 3, 4))
    other.add("train", Amounts(1))
    other.add_unknown("t", "dev", Amounts(1, 0, 9))
    found = Spend.together([one, other, one])
    assert found.by_purpose == {"train": Amounts(2, 2, 3, 4), "dev": Amounts(1, 0, 9)}
    assert (found.attempts, found.unknown_outcomes) == (5, 1)
    assert one.by_purpose == {"train": Amounts(1, 2, 3, 4)}
