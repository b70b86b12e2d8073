"""Budgets: what concurrency, trees and late corrections cannot break."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from fractions import Fraction
from threading import Barrier
from typing import Any

import pytest
from client_cases import COST, PRICE, TOKENS, call

from lmaas_backends.mock import MockBackend
from lmaas_sdk.accounting.amounts import UNITS, Amounts
from lmaas_sdk.accounting.budget import Budget, Reservation
from lmaas_sdk.client import Client
from lmaas_sdk.errors import BudgetExceeded
from lmaas_sdk.testing import run_virtual

ONE = Amounts(1, 2, 3, 4)
NOTHING = Amounts()


def test_a_limit_can_be_used_to_the_last_unit() -> None:
    """What is exactly free fits; one more does not, and the error tells the figures."""
    budget = Budget(tokens=10, name="mine")
    budget.reserve(Amounts(tokens=4)).post(Amounts(tokens=3))
    budget.reserve(Amounts(tokens=5))
    with pytest.raises(BudgetExceeded, match="'mine' allows 10 tokens: 3 posted, 5 pending, 3 more") as refused:
        budget.reserve(Amounts(tokens=3))
    error = refused.value
    assert (error.unit, error.limit, error.posted, error.pending, error.asked) == ("tokens", 10, 3, 5, 3)
    assert budget.reserve(Amounts(tokens=2)).is_pending


def test_without_limits_nothing_is_refused() -> None:
    """No limit is None, not 0."""
    budget = Budget()
    budget.reserve(Amounts(10**27, 10**27, 10**27, 10**27))
    assert [budget.free(unit) for unit in UNITS] == [None] * 4


def test_reserve_all_takes_everything_or_nothing() -> None:
    """Three that fit one by one and not together leave the budget as it was."""
    budget = Budget(calls=10, evaluations=5)
    with pytest.raises(BudgetExceeded, match="evaluations"):
        budget.reserve_all([ONE, ONE, ONE])
    assert budget.pending == NOTHING
    assert [hold.amounts for hold in budget.reserve_all([ONE, ONE])] == [ONE, ONE]
    assert budget.pending == ONE.times(2)


def test_a_child_takes_from_every_budget_above_or_from_none() -> None:
    """The limit in the middle binds, and the ones above and below it are left untouched."""
    top = Budget(calls=10)
    middle = top.child("middle", Budget(calls=1))
    low = middle.child("low", Budget(calls=5))
    hold = low.reserve(Amounts(1))
    with pytest.raises(BudgetExceeded, match="'middle' allows 1 calls"):
        low.reserve(Amounts(1))
    assert [budget.pending.calls for budget in (top, middle, low)] == [1, 1, 1]
    hold.post(Amounts(1))
    assert [budget.posted.calls for budget in (top, middle, low)] == [1, 1, 1]
    assert (low.least_free("calls"), low.free("calls")) == (0, 4)


@pytest.mark.parametrize("first", ["post", "void"])
@pytest.mark.parametrize("second", ["post", "void"])
def test_a_reservation_resolves_exactly_once(first: str, second: str) -> None:
    """A second post or void is refused and books nothing."""
    budget = Budget(calls=5)
    hold = budget.reserve(Amounts(1))
    _resolve(hold, first)
    with pytest.raises(ValueError, match="resolved already"):
        _resolve(hold, second)
    assert (budget.pending, budget.posted.calls) == (NOTHING, int(first == "post"))


def _resolve(hold: Reservation, how: str) -> None:
    hold.post(hold.amounts) if how == "post" else hold.void()


def test_a_correction_only_lowers_what_was_posted() -> None:
    """Pending and void reservations cannot be corrected, and a posted one not upwards."""
    budget = Budget(tokens=10)
    pending, void, posted = (budget.reserve(Amounts(tokens=3)) for _ in range(3))
    void.void()
    posted.post(Amounts(tokens=2))
    for hold, actual in ((pending, 1), (void, 1), (posted, 3)):
        with pytest.raises(ValueError, match="cannot be corrected"):
            hold.correct(Amounts(tokens=actual))
    posted.correct(Amounts(tokens=1))
    assert (budget.posted.tokens, budget.free("tokens")) == (1, 6)


def test_a_negative_amount_is_refused_everywhere() -> None:
    """It would make room that nobody paid for."""
    budget = Budget(tokens=10)
    hold, posted = budget.reserve(Amounts(tokens=1)), budget.reserve(Amounts(tokens=1))
    posted.post(Amounts(tokens=1))
    minus = Amounts(tokens=-1)
    for act in (budget.reserve, hold.post, posted.correct, lambda amounts: budget.set_aside("aside", amounts)):
        with pytest.raises(ValueError, match="from 0 to"):
            act(minus)
    assert (budget.posted.tokens, budget.pending.tokens, hold.is_pending) == (1, 1, True)


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        ({"calls": -1}, ValueError),
        ({"calls": 1.5}, TypeError),
        ({"evaluations": True}, TypeError),
        ({"tokens": "10"}, TypeError),
        ({"usd": 5.0}, TypeError),
        ({"usd": "-1"}, ValueError),
        ({"wall_s": -1}, ValueError),
        ({"wall_s": float("nan")}, ValueError),
        ({"wall_s": float("inf")}, ValueError),
        ({"wall_s": "60"}, TypeError),
    ],
)
def test_senseless_limits_are_refused(limits: dict[str, Any], error: type[Exception]) -> None:
    """Wrong types and values are told apart, with the value in the message."""
    with pytest.raises(error, match=str(next(iter(limits.values())))):
        Budget(**limits)


def test_limits_are_shown_in_their_units() -> None:
    """Money is in nano-dollars, wall time in seconds, and no limit is None."""
    limits = Budget(usd=Decimal("0.5"), wall_s=60, evaluations=3).limits
    assert limits == {"calls": None, "evaluations": 3, "tokens": None, "nanousd": 500_000_000, "wall_s": 60}
    assert "'nanousd': 500000000" in repr(Budget(usd="0.5"))


def test_what_is_set_aside_cannot_be_spent_by_others() -> None:
    """It is pending in the parent, spends as posted, and the rest comes back on release."""
    budget = Budget(tokens=10)
    aside = budget.set_aside("dev", Amounts(tokens=6))
    with pytest.raises(BudgetExceeded):
        budget.reserve(Amounts(tokens=5))
    aside.reserve(Amounts(tokens=4)).post(Amounts(tokens=3))
    assert (budget.posted.tokens, budget.pending.tokens, aside.free("tokens")) == (3, 3, 3)
    aside.release()
    aside.release()
    assert (budget.posted.tokens, budget.pending.tokens, budget.free("tokens")) == (3, 0, 7)


def test_setting_aside_more_than_is_free_takes_nothing() -> None:
    """And a set-aside budget spends nothing beyond what was put there, however much its parent has."""
    budget = Budget(tokens=10)
    with pytest.raises(BudgetExceeded, match="11 more"):
        budget.set_aside("dev", Amounts(tokens=11))
    assert budget.pending == NOTHING
    with pytest.raises(BudgetExceeded, match="'dev' allows 2 tokens"):
        budget.set_aside("dev", Amounts(tokens=2)).reserve(Amounts(tokens=3))


def test_release_waits_for_pending_reservations() -> None:
    """Giving back what is still pending would let it be spent twice."""
    budget = Budget(tokens=10)
    aside = budget.set_aside("dev", Amounts(tokens=5))
    hold = aside.reserve(Amounts(tokens=5))
    with pytest.raises(ValueError, match="still has"):
        aside.release()
    hold.void()
    aside.release()
    assert budget.free("tokens") == 10


def test_a_released_budget_is_over_even_after_a_correction() -> None:
    """What a late correction frees goes to the parent; the released budget spends nothing more."""
    budget = Budget(tokens=10)
    aside = budget.set_aside("dev", Amounts(tokens=6))
    hold = aside.reserve(Amounts(tokens=6))
    hold.post(Amounts(tokens=6))
    aside.release()
    hold.correct(Amounts(tokens=1))
    assert (budget.posted.tokens, budget.free("tokens")) == (1, 9)
    with pytest.raises(BudgetExceeded, match="released"):
        aside.reserve(Amounts(tokens=1))


def test_an_overrun_is_booked_in_full_and_closes_the_line() -> None:
    """The child, all above it and all below those refuse everything after; what was reserved can still resolve."""
    top = Budget(tokens=10)
    child, sibling = top.child("child"), top.child("sibling")
    aside = top.set_aside("aside", Amounts(tokens=2))
    held = sibling.reserve(Amounts(tokens=1))
    child.reserve(Amounts(tokens=5)).post(Amounts(tokens=50))
    assert (top.posted.tokens, child.posted.tokens) == (50, 50)
    assert (top.overrun, child.overrun, sibling.overrun) == (True, True, False)
    for budget in (top, child, sibling, aside):
        with pytest.raises(BudgetExceeded, match="a bill above its reservation closed it"):
            budget.reserve(Amounts(1))
    held.post(Amounts(tokens=1))
    assert (top.posted.tokens, top.pending.tokens) == (51, 2)


def test_an_overrun_below_the_limit_closes_too() -> None:
    """The provider broke its word, however much is left."""
    budget = Budget()
    budget.reserve(Amounts(1, 0, 5)).post(Amounts(1, 0, 6))
    with pytest.raises(BudgetExceeded, match="closed"):
        budget.reserve(Amounts(1))


def test_an_overrun_of_what_was_set_aside_leaves_no_debt() -> None:
    """The parent pays the excess once, and a correction after it does not set aside anew what is gone."""
    budget = Budget(tokens=100)
    aside = budget.set_aside("dev", Amounts(tokens=10))
    lost, dear = aside.reserve(Amounts(tokens=5)), aside.reserve(Amounts(tokens=5))
    lost.post(Amounts(tokens=5))
    dear.post(Amounts(tokens=12))
    assert (budget.posted.tokens, budget.pending.tokens) == (17, 0)
    lost.correct(Amounts(tokens=1))
    assert (budget.posted.tokens, budget.pending.tokens) == (13, 0)
    aside.release()
    assert (budget.posted.tokens, budget.pending.tokens) == (13, 0)


class Clock:
    """Seconds that move when told to."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_wall_time_counts_only_while_a_run_is_on() -> None:
    """Idle hours are free, and overlapping runs count once."""
    clock = Clock()
    budget = Budget(wall_s=10, clock=clock)
    clock.now_s = 1000
    assert budget.reserve(ONE).is_pending
    assert budget.remaining_s() is None
    budget.start()
    clock.now_s += 3
    budget.start()
    clock.now_s += 3
    budget.stop()
    assert budget.remaining_s() == 4
    budget.stop()
    clock.now_s += 1000
    budget.start()
    assert budget.remaining_s() == 4
    clock.now_s += 4
    with pytest.raises(BudgetExceeded, match="allows 10 wall_s: 10") as over:
        budget.reserve(ONE)
    assert over.value.unit == "wall_s"
    budget.stop()
    assert budget.reserve(ONE).is_pending


def test_a_run_on_a_child_is_a_run_of_all_above() -> None:
    """The parent's wall time binds its children's runs, and two at once count once."""
    clock = Clock()
    budget = Budget(wall_s=10, clock=clock)
    first, second = budget.child("first"), budget.child("second", Budget(wall_s=4))
    first.start()
    second.start()
    clock.now_s = 3
    assert (first.remaining_s(), second.remaining_s()) == (7, 1)
    clock.now_s = 4
    with pytest.raises(BudgetExceeded, match="'second' allows 4 wall_s"):
        second.reserve(ONE)
    second.stop()
    clock.now_s = 10
    with pytest.raises(BudgetExceeded, match="'budget' allows 10 wall_s"):
        first.reserve(ONE)


def test_a_run_ends_only_where_one_is_on() -> None:
    """A stop too many would let the next run go on for ever."""
    with pytest.raises(ValueError, match="start"):
        Budget(wall_s=1).stop()


def test_an_attempt_that_would_begin_after_the_end_is_refused() -> None:
    """A wait that ends exactly with the wall time ends too late."""
    clock = Clock()
    budget = Budget(wall_s=10, clock=clock)
    budget.start()
    budget.child("child").check_open(9.5)
    with pytest.raises(BudgetExceeded, match=r"0.0 posted, 0 pending, 10.0 more"):
        budget.child("child").check_open(10.0)


@pytest.mark.parametrize(
    ("limits", "fit"),
    [
        ({"calls": 37}, 37),
        ({"evaluations": 2 * 37 + 1}, 37),
        ({"tokens": TOKENS * 38 - 1}, 37),
        ({"usd": Decimal(COST * 38 - 1) / 10**9}, 37),
        ({"calls": 500, "tokens": TOKENS * 12, "evaluations": 100}, 12),
    ],
)
def test_of_1000_calls_at_once_exactly_those_that_fit_are_sent(limits: dict[str, Any], fit: int) -> None:
    """The limit is met to the call, at the backend's own count, and every other call is refused."""

    async def main() -> tuple[int, int]:
        backend, budget = MockBackend(price=PRICE, latency_s=1.0), Budget(**limits)
        client = Client(backend, budget)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_sent(client, f"call-{number}")) for number in range(1000)]
        assert Amounts(fit, 2 * fit, TOKENS * fit, COST * fit) == budget.posted
        assert budget.pending == NOTHING
        return sum(task.result() for task in tasks), backend.book.computed

    assert run_virtual(main()) == (fit, fit)


async def _sent(client: Client, key: str) -> bool:
    try:
        await client.score(call(client, key))
    except BudgetExceeded:
        return False
    return True


def test_threads_cannot_overrun_a_budget() -> None:
    """Sixteen threads at two children of one budget: what fits is granted to the unit, and all sums agree."""
    budget = Budget(calls=1000, tokens=2001)
    children = [budget.child("left"), budget.child("right", Budget(calls=700))]
    together = Barrier(16)

    def work(number: int) -> int:
        together.wait()
        return sum(_spent(children[number % 2]) for _ in range(200))

    with ThreadPoolExecutor(16) as threads:
        granted = sum(threads.map(work, range(16)))
    assert granted == 1000
    assert budget.posted == Amounts(granted, Fraction(granted, 2), 2 * granted)
    assert budget.posted == children[0].posted + children[1].posted
    assert budget.pending == NOTHING


def _spent(budget: Budget) -> bool:
    try:
        hold = budget.reserve(Amounts(1, Fraction(1, 2), 2))
    except BudgetExceeded:
        return False
    hold.post(hold.amounts)
    return True
