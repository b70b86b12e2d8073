"""How far a budget reaches, against counting generation by generation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaas_sdk.accounting.amounts import UNITS, Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.errors import BudgetExceeded, BudgetTooSmall
from lmaas_sdk.tuning.plan import Plan, RunCosts, plan_run

NOTHING = Amounts()
GENERATION = Amounts(1, 20, 1000, 400)
DEV = Amounts(1, 0, 100, 40)
TEST = Amounts(2, 0, 500, 200)
SMALL = st.integers(0, 5)
LIMIT = st.none() | st.integers(0, 150)


def budget_of(**limits: int | None) -> Budget:
    """A budget whose money is in nano-dollars."""
    nanousd = limits.pop("nanousd", None)
    return Budget(**limits, usd=None if nanousd is None else f"{nanousd}e-9")


def counted(free: dict[str, int | None], costs: RunCosts) -> int:
    """Generations that fit, found by spending one after another with a dev scoring when it is due and at the end."""
    left = {unit: limit - getattr(costs.test, unit) for unit, limit in free.items() if limit is not None}
    done, spent = 0, NOTHING
    while done < 1000:
        spent += costs.generation
        at_end = spent if done % costs.dev_every else spent + costs.dev_scoring
        if any(getattr(at_end, unit) > most for unit, most in left.items()):
            return done
        spent, done = at_end, done + 1
    raise AssertionError("nothing ends this run")


@given(
    st.builds(Amounts, st.integers(1, 5), st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)),
    st.builds(Amounts, SMALL, st.just(0), SMALL, SMALL),
    st.builds(Amounts, SMALL, st.just(0), SMALL, SMALL),
    st.integers(1, 12),
    st.fixed_dictionaries(dict.fromkeys(UNITS, LIMIT)),
)
def test_the_plan_is_what_counting_finds(
    generation: Amounts, dev: Amounts, test: Amounts, every: int, limits: dict[str, int | None]
) -> None:
    """The arithmetic agrees with a loop for every budget: how many generations, and what is set aside for the rest."""
    costs, budget = RunCosts(generation, dev, every, test), budget_of(**limits)
    if all(limit is None for limit in limits.values()):
        assert plan_run(budget, costs).generations is None
        return
    expected = counted(limits, costs)
    if expected == 0:
        with pytest.raises(BudgetTooSmall):
            plan_run(budget, costs)
        return
    aside = dev.times(-(-expected // every)) + test
    assert plan_run(budget, costs) == Plan(expected, aside)
    budget.set_aside("dev and test", aside)
    budget.reserve(generation.times(expected))


AGAIN = tuple(Amounts(1, candidates, 50 * candidates, 20 * candidates) for candidates in range(2, 9))


@pytest.mark.parametrize(
    ("limits", "generations", "again"),
    [
        ({"evaluations": 20}, 1, NOTHING),
        ({"evaluations": 41}, 1, NOTHING),
        ({"evaluations": 42}, 2, AGAIN[0]),
        ({"evaluations": 62}, 2, AGAIN[0]),
        ({"evaluations": 63}, 3, AGAIN[1]),
        ({"evaluations": 8 * 21}, 8, AGAIN[-1]),
        ({"evaluations": 9 * 20 + 7}, 8, AGAIN[-1]),
        ({"evaluations": 9 * 20 + 8}, 9, AGAIN[-1]),
        ({"evaluations": 8000}, 399, AGAIN[-1]),
        ({"calls": 2 + 1}, 1, NOTHING),
        ({"calls": 2 + 2}, 1, NOTHING),
        ({"calls": 2 + 3}, 2, AGAIN[0]),
        ({"tokens": 500 + 3 * 1050}, 3, AGAIN[1]),
        ({"tokens": 500 + 3 * 1050 - 1}, 2, AGAIN[0]),
        ({"nanousd": 200 + 9 * 400 + 160, "evaluations": 8000}, 9, AGAIN[-1]),
        ({"nanousd": 200 + 9 * 400 + 159, "evaluations": 8000}, 8, AGAIN[-1]),
    ],
)
def test_scoring_again_is_paid_before_the_generations(limits: dict[str, int], generations: int, again: Amounts) -> None:
    """As many candidates as there are generations, up to eight; a single one has no rival."""
    plan = plan_run(budget_of(**limits), RunCosts(GENERATION, NOTHING, 10, TEST, rescoring=AGAIN))
    assert Plan(generations, again + TEST) == plan


def test_time_is_kept_for_the_dearest_scoring_again() -> None:
    """The steps after the search have it where it is done, and are as many as before where it is not."""
    assert RunCosts(GENERATION, DEV, 10, TEST, rescoring=AGAIN).after == (DEV, AGAIN[-1], TEST, NOTHING)
    assert RunCosts(GENERATION, DEV, 10, TEST).after == (DEV, TEST, NOTHING)


@pytest.mark.parametrize(
    ("limits", "generations"),
    [
        ({"evaluations": 8000}, 400),
        ({"evaluations": 8019}, 400),
        ({"calls": 2 + 400 + 40}, 400),
        ({"calls": 2 + 401 + 40}, 400),
        ({"calls": 2 + 401 + 41}, 401),
        ({"tokens": 500 + 10 * 1000 + 100, "evaluations": 8000}, 10),
        ({"nanousd": 10**15}, 2_475_247_524_751),
    ],
)
def test_dev_and_test_are_paid_before_the_generations(limits: dict[str, int], generations: int) -> None:
    """One dev scoring every ten generations and at the end, and the test, at budgets that just fit and just do not."""
    plan = plan_run(budget_of(**limits), RunCosts(GENERATION, DEV, 10, TEST))
    assert Plan(generations, DEV.times(-(-generations // 10)) + TEST) == plan


def test_only_what_is_free_counts() -> None:
    """What is posted, pending or set aside in this budget or one above it is gone."""
    top = Budget(evaluations=200, name="top")
    budget = top.child("run", Budget(evaluations=1000))
    top.reserve(Amounts(evaluations=30)).post(Amounts(evaluations=30))
    top.reserve(Amounts(evaluations=10))
    top.set_aside("other", Amounts(evaluations=40))
    assert plan_run(budget, RunCosts(GENERATION, NOTHING, 10, NOTHING)) == Plan(6, NOTHING)


def test_what_was_set_aside_can_be_planned_with() -> None:
    """A budget set aside reaches as far as its own amounts, though its parent has nothing free."""
    aside = Budget(evaluations=60).set_aside("run", Amounts(9, 60, 9000, 9000))
    assert plan_run(aside, RunCosts(GENERATION, NOTHING, 10, NOTHING)).generations == 3


def test_a_budget_below_one_generation_says_what_lacks() -> None:
    """Which budget, which unit, and every figure; dev and test are part of what is asked."""
    top = Budget(tokens=1700, name="top")
    budget = top.child("run", Budget(evaluations=500))
    top.reserve(Amounts(tokens=50)).post(Amounts(tokens=50))
    top.reserve(Amounts(tokens=70))
    with pytest.raises(BudgetTooSmall, match="'top' allows 1700 tokens: 50 posted, 70 pending, 1600 more") as small:
        plan_run(budget, RunCosts(GENERATION, DEV, 10, TEST))
    error = small.value
    assert isinstance(error, BudgetExceeded)
    assert isinstance(error, ValueError)
    figures = (error.budget, error.unit, error.limit, error.posted, error.pending, error.asked)
    assert figures == ("top", "tokens", 1700, 50, 70, 1600)


def test_time_and_money_on_a_free_model_limit_no_generations() -> None:
    """Nothing that can be counted beforehand binds."""
    free_of_charge = RunCosts(Amounts(1, 20, 1000), NOTHING, 10, TEST)
    assert plan_run(Budget(wall_s=60), free_of_charge).generations is None
    assert plan_run(Budget(usd="1"), RunCosts(Amounts(1, 20, 1000), NOTHING, 10, NOTHING)) == Plan(None, NOTHING)
