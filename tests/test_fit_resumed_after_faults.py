"""A run that was cut short, whatever went wrong before, goes on from its journal."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from dataclasses import replace
from pathlib import Path

import pytest
from fault_scenarios import PRICE, TRANSIENT, Scenario, check_nothing_is_left, draw, paid_of
from test_fit_under_faults import DOCUMENTED, check_result

from lmaas_backends.mock import MockBackend
from lmaas_sdk import Tuner, TuningResult
from lmaas_sdk.testing import Faults, run_virtual

SOME = range(60)
MANY = range(1000, 2000)


async def cut_short(scenario: Scenario, backend: MockBackend, path: Path) -> str:
    """Runs until it ends, is cancelled or is stopped; then the journal says what the books say."""
    draws, budget = random.Random(scenario.number), scenario.open_budget()
    tuner = scenario.tuner(backend, budget, path)
    task = asyncio.create_task(scenario.fit(tuner))
    how = draws.choice(("cancel", "cancel", "stop", "wait"))
    if how != "wait":
        await asyncio.wait([task], timeout=draws.uniform(0, draws.choice((2, 20, 100))))
        (task.cancel if how == "cancel" else tuner.stop)()
    await asyncio.wait([task])
    check_nothing_is_left(backend, budget)
    if await asyncio.to_thread(path.exists):
        assert await asyncio.to_thread(paid_of, path) == budget.posted
    if not task.cancelled():
        assert task.exception() is None or isinstance(task.exception(), DOCUMENTED)
    return how


async def gone_on(scenario: Scenario, backend: MockBackend, path: Path) -> TuningResult:
    """The end of the run, with no further faults, within a budget like the first."""
    backend.faults = Faults()
    budget = replace(scenario, has_parent=False).open_budget()
    policy, cache = scenario.policy, scenario.cache
    tuner = await asyncio.to_thread(lambda: Tuner.resume(path, backend, budget=budget, retry=policy, cache=cache))
    try:
        result = await scenario.fit(tuner)
    finally:
        check_nothing_is_left(backend, budget)
    assert result.spend.total == budget.posted
    assert await asyncio.to_thread(paid_of, path) == budget.posted
    check_result(result)
    return result


@pytest.mark.parametrize("numbers", [SOME, pytest.param(MANY, marks=pytest.mark.long)], ids=["some", "many"])
def test_whatever_went_wrong_the_run_goes_on(numbers: range, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It ends within its budget, with a result or a documented error, and the books are right."""
    caplog.set_level(logging.CRITICAL, "lmaas_sdk")

    async def main(number: int) -> None:
        scenario, path = draw(number), tmp_path / f"{number}.journal"
        backend = scenario.open_backend()
        await cut_short(scenario, backend, path)
        if await asyncio.to_thread(path.exists):
            with contextlib.suppress(*DOCUMENTED):
                await gone_on(scenario, backend, path)

    for number in numbers:
        run_virtual(main(number))


def transient(number: int) -> Scenario:
    """All faults pass, and calls are asked for until they have; attempts take no money where a key bills once."""
    scenario, draws = draw(number, kinds=TRANSIENT, stragglers="wait"), random.Random(number)
    budgets = [
        {"evaluations": scenario.budget["evaluations"]},
        {"tokens": draws.randint(3_000, 20_000)},
        {"usd": f"0.0{draws.randint(10, 80):04d}"},
    ]
    return replace(
        scenario,
        budget=draws.choice(budgets),
        has_parent=False,
        slow=0.0,
        retry=scenario.retry | {"max_wait_s": None, "patience_s": 1e5, "attempts": 3},
        backend=scenario.backend | {"price": PRICE, "noise": 0.0},
        capabilities={},
    )


@pytest.mark.parametrize("numbers", [SOME, pytest.param(MANY, marks=pytest.mark.long)], ids=["some", "many"])
def test_where_all_faults_pass_the_bytes_are_those_of_an_undisturbed_run(
    numbers: range, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Core, prompt and evaluations, however the run was cut short and wherever it was then."""
    caplog.set_level(logging.CRITICAL, "lmaas_sdk")

    async def main(number: int) -> None:
        scenario, path = transient(number), tmp_path / f"{number}.journal"
        backend = scenario.open_backend()
        await cut_short(scenario, backend, path)
        if not await asyncio.to_thread(path.exists):
            return  # its budget was too small
        result = await gone_on(scenario, backend, path)
        calm = scenario.open_backend(is_calm=True)
        expected = await scenario.fit(scenario.tuner(calm, scenario.open_budget()))
        assert expected.core.to_bytes() == result.core.to_bytes()
        assert expected.prompt.to_bytes() == result.prompt.to_bytes()
        assert (expected.test, expected.manual) == (result.test, result.manual)
        assert expected.spend.total.tokens == result.spend.total.tokens

    for number in numbers:
        run_virtual(main(number))
