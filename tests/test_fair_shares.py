"""Fair shares: what a fluid server would have done, beside what was done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaas_sdk.planning.fair_shares import FairShares, Share


def played(priorities: Mapping[str, float], wanted: Mapping[str, float], served: Sequence[str]) -> Mapping[str, Share]:
    """All want something at once, and are served a generation at a time."""
    shares = FairShares(priorities, dict.fromkeys(priorities, 1.0))
    for name, amount in wanted.items():
        shares.wants(name, amount)
    for name in served:
        shares.served(name, 1.0)
    return shares.shares


def test_taking_turns_is_fair_to_less_than_a_generation() -> None:
    """Whoever is first is half a generation ahead, and the other as much behind: less and less, in proportion."""
    found = played({"a": 1, "b": 1}, {"a": 50, "b": 50}, "ab" * 50)
    assert (0.5, 0.5) == (found["a"].ahead, found["b"].behind)
    assert (6 / 5.5, 5 / 5.5) == pytest.approx((found["a"].highest, found["b"].lowest))
    assert (50, 50) == (found["a"].used, pytest.approx(found["a"].fair))


def test_who_is_served_twice_as_often_has_a_third_too_much() -> None:
    """Two of three, where half is fair."""
    found = played({"a": 1, "b": 1}, {"a": 200, "b": 200}, "aab" * 60)
    assert 4 / 3 == pytest.approx(found["a"].used / found["a"].fair)
    assert found["a"].highest is not None
    assert found["a"].highest > 1.3
    assert 2 / 3 == pytest.approx(found["b"].used / found["b"].fair)


def test_by_priority_twice_as_often_is_fair() -> None:
    """The same turns, where one may have two thirds."""
    found = played({"a": 2, "b": 1}, {"a": 120, "b": 60}, "aab" * 60)
    assert max(found["a"].ahead, found["b"].ahead) <= 1
    assert found["a"].highest is not None
    assert found["a"].highest <= 1.2


def test_one_who_comes_late_has_a_part_of_what_comes_then() -> None:
    """And whoever was alone before had all of it by right."""
    shares = FairShares({"a": 1, "b": 1}, {"a": 1, "b": 1})
    shares.wants("a", 20)
    for _ in range(10):
        shares.served("a", 1)
    assert (1.0, 0.0) == (shares.shares["a"].highest, shares.shares["a"].ahead)
    shares.wants("b", 10)
    for name in "ba" * 10:
        shares.served(name, 1)
    assert (20, 10) == pytest.approx((shares.shares["a"].fair, shares.shares["b"].fair))
    assert 0.5 == shares.shares["b"].ahead


def test_who_wants_little_leaves_the_rest_to_the_others() -> None:
    """One generation of ten goes to the modest one, whenever: nine are no more than fair for the other."""
    found = played({"a": 1, "b": 1}, {"a": 9, "b": 1}, "b" + "a" * 9)
    assert (9, 1) == pytest.approx((found["a"].fair, found["b"].fair))
    assert found["a"].ahead == 0


def test_who_wants_more_before_he_has_it_all_stays_in_line() -> None:
    """His two wants are one."""
    shares = FairShares({"a": 1, "b": 1}, {"a": 1, "b": 1})
    for name in ("a", "b", "a"):
        shares.wants(name, 5)
    for name in "ababababab":
        shares.served(name, 1)
    assert (5, 5) == pytest.approx((shares.shares["a"].fair, shares.shares["b"].fair))
    assert 10 == shares.shares["a"].wanted


@given(st.lists(st.sampled_from("abc"), max_size=60), st.tuples(*[st.floats(0.1, 10)] * 3))
def test_what_is_fair_adds_up_to_what_was_served(served: list[str], priorities: tuple[float, float, float]) -> None:
    """Whoever is served, and whatever the priorities: nothing is anybody's that was not served."""
    shares = FairShares(dict(zip("abc", priorities, strict=True)), dict.fromkeys("abc", 1.0))
    for name in "abc":
        shares.wants(name, served.count(name) + 1)
    for name in served:
        shares.served(name, 1.0)
    assert len(served) == pytest.approx(sum(share.fair for share in shares.shares.values()))
    assert len(served) == sum(share.used for share in shares.shares.values())
