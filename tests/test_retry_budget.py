"""The retry budget: how many retries all calls of a client may make together."""

from __future__ import annotations

import pytest

from lmaas_sdk.traffic.retry_budget import RetryBudget


def taken(budget: RetryBudget, most: int = 10_000) -> int:
    """How many retries there are to take."""
    return next((count for count in range(most) if not budget.take()), most)


def test_before_any_call_there_is_the_floor() -> None:
    """Ten retries, and not one more."""
    assert taken(RetryBudget()) == 10


@pytest.mark.parametrize(("ratio", "calls", "retries"), [(0.1, 100, 20), (0.1, 9, 10), (1.0, 50, 60), (0.0, 500, 10)])
def test_every_call_earns_its_share(ratio: float, calls: int, retries: int) -> None:
    """Ten calls at 10 % earn one whole retry: no rounding eats it."""
    budget = RetryBudget(ratio=ratio, floor=10)
    for _ in range(calls):
        budget.earn()
    assert taken(budget) == retries


def test_good_times_save_up_for_a_thousand_calls_and_no_more() -> None:
    """A million calls without a failure leave as many retries as the last thousand earned."""
    budget = RetryBudget()
    for _ in range(1_000_000):
        budget.earn()
    assert budget.left == 110


def test_what_was_taken_is_earned_again() -> None:
    """Attempts never go above calls * 1.1 + 10, however takes and calls follow each other."""
    budget, retries = RetryBudget(), 0
    for calls in range(1, 5001):
        budget.earn()
        retries += budget.take()
        if calls % 7 == 0:
            retries += budget.take()
        assert retries <= 0.1 * calls + 10
    assert retries == 510
