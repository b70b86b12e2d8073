"""How far a run goes: planned, and planned again where it turns out cheaper or dearer."""

from __future__ import annotations

import pytest

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.tuning.horizon import Horizon
from lmaas_sdk.tuning.plan import RunCosts

NOTHING = Amounts()
GENERATION, LOOK, LAST = Amounts(1, 8, 100), Amounts(1, 0, 30), Amounts(1, 0, 50)
COSTS = RunCosts(GENERATION, LOOK, 2, LAST)


async def horizon(budget: Budget, generations: int | None) -> Horizon:
    """A run that has set aside what its looks and its test need."""
    aside = await budget.hold_aside("dev and test", COSTS.plan(generations).set_aside)
    return Horizon(budget, aside, COSTS, generations=generations, candidates=8)


async def spend(budget: Budget, amounts: Amounts) -> None:
    """Pays."""
    (hold,) = await budget.hold_all([amounts])
    hold.post(amounts)


async def reaches(run: Horizon, done: int) -> bool:
    return await run.reaches(done, candidates=8, worst=None)


async def test_it_ends_where_it_was_planned_to() -> None:
    """Two generations, a look and the test are 280 tokens, and nothing is left for a third."""
    budget = Budget(tokens=280)
    run = await horizon(budget, 2)
    found = []
    for done in range(3):
        found.append(await reaches(run, done))
        if found[-1]:
            await spend(budget, GENERATION)
    assert [True, True, False] == found
    assert 80 == budget.pending.tokens


async def test_what_was_saved_pays_for_more() -> None:
    """Generations at half the price: a third and, with one more look set aside for it, no fourth."""
    budget = Budget(tokens=380)
    run = await horizon(budget, 2)
    before = run.aside
    for done in range(2):
        assert await reaches(run, done)
        await spend(budget, Amounts(1, 8, 60))
    assert await reaches(run, 2)
    assert (3, 110) == (run.generations, budget.pending.tokens)
    assert run.aside is not before
    await spend(budget, GENERATION)
    assert not await reaches(run, 3)
    run.aside.release()
    assert NOTHING == budget.pending


async def test_what_was_set_aside_and_spent_is_not_set_aside_again() -> None:
    """A look that was made leaves what is left, and what the further one needs."""
    budget = Budget(tokens=1000)
    run = await horizon(budget, 2)
    await spend(run.aside, LOOK)
    for _ in range(2):
        await spend(budget, Amounts(1, 8, 60))
    assert await reaches(run, 2)
    assert budget.pending == COSTS.set_aside(run.generations or 0).above(LOOK)


async def test_a_search_that_has_grown_reaches_less_far() -> None:
    """Twice the candidates, twice the price: two more generations where four had been planned."""
    budget = Budget(tokens=4 * 100 + 2 * 30 + 50)
    run = await horizon(budget, 4)
    done = 0
    while await run.reaches(done, candidates=16, worst=None if done else GENERATION.times(2)):
        await spend(budget, GENERATION.times(2))
        done += 1
    assert (2, 16) == (done, run.candidates)


async def test_without_a_limit_it_never_ends() -> None:
    """Nothing that is counted limits it: time may, and that is looked at elsewhere."""
    run = await horizon(Budget(), None)
    assert await reaches(run, 10**6)


@pytest.mark.parametrize("left", [80, 10])
async def test_somebody_else_may_be_faster(left: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget is shared: what had been set aside is set aside again, or as much as there is, and stays usable."""
    budget = Budget(tokens=1000)
    run = await horizon(budget, 2)
    hold_aside, calls = budget.hold_aside, []

    async def beaten(name: str, amounts: Amounts) -> Budget:
        if not calls:
            await spend(budget, Amounts(tokens=1000 - left))
        calls.append(amounts)
        return await hold_aside(name, amounts)

    monkeypatch.setattr(budget, "hold_aside", beaten)
    assert not await reaches(run, 2)
    run.aside.check_open()
    assert (80 if left == 80 else 0) == budget.pending.tokens
    assert [2, 3][left == 10] == len(calls)
