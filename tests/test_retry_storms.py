"""A backend of which almost half the attempts fail: retries stay within their budget, and a tuner loses nothing."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from client_cases import PRICE, call
from tuning_cases import SMALL, TRAIN

from lmaas_backends.mock import MockBackend
from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.client import Client
from lmaas_sdk.errors import LmaasError
from lmaas_sdk.outside import of_a_simulation, within_outside
from lmaas_sdk.testing import Faults, run_virtual
from lmaas_sdk.traffic.retry import RetryPolicy
from lmaas_sdk.tuning.tuner import Tuner

CALLS = 1000
AT_ONCE = 50


def stormy(seed: int) -> MockBackend:
    """30 % answer 5xx, 10 % of the connections fail, 5 % of the answers never come."""
    faults = Faults(seed=seed, server_fault=0.30, refused=0.10, timeout=0.05)
    return MockBackend(price=PRICE, faults=faults, latency_s=0.2, max_candidates=2)


async def ends_of(client: Client) -> Counter[str]:
    """How many calls end how."""
    numbers, ends = iter(range(CALLS)), Counter[str]()

    async def worker() -> None:
        for number in numbers:
            try:
                await client.score(call(client, f"call {number}"))
            except LmaasError as error:
                ends[type(error).__name__] += 1
            else:
                ends["answered"] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(worker())
    return ends


@pytest.mark.parametrize("seed", range(3))
def test_the_default_retry_budget_holds_and_the_rest_fails_fast(seed: int) -> None:
    """At most 10 % of the calls and ten more are tried again; what is booked covers what was billed."""

    async def main() -> None:
        backend, budget = stormy(seed), Budget()
        client = Client(backend, budget)
        ends = await ends_of(client)
        assert backend.book.received <= 1.1 * CALLS + 10
        assert sum(ends.values()) == CALLS
        assert ends["answered"] + ends["RetryBudgetExhausted"] >= CALLS - 5  # a few have used up their own attempts
        assert ends["CircuitOpen"] == 0
        assert ends["answered"] >= 550
        check_unknown_outcomes(backend, budget, client)

    run_virtual(main())


@pytest.mark.parametrize("seed", range(3))
def test_with_a_retry_for_every_call_all_end_within_twice_as_many_attempts(seed: int) -> None:
    """Five attempts are enough for all but one in fifty, and those end by their own last error."""

    async def main() -> None:
        backend, budget = stormy(seed), Budget()
        client = Client(backend, budget, retry=RetryPolicy(budget_ratio=1.0, budget_floor=0))
        ends = await ends_of(client)
        assert sum(ends.values()) == CALLS
        assert backend.book.received <= 2.0 * CALLS
        assert ends["answered"] >= 0.96 * CALLS
        assert ends["RetryBudgetExhausted"] == ends["CircuitOpen"] == 0
        check_unknown_outcomes(backend, budget, client)

    run_virtual(main())


def check_unknown_outcomes(backend: MockBackend, budget: Budget, client: Client) -> None:
    """Every unknown outcome is booked until an answer under its key puts it right, and no bill is above the books."""
    assert budget.pending == Amounts()
    assert backend.book.computed <= budget.posted.calls
    assert backend.book.tokens <= budget.posted.tokens
    assert backend.book.nanousd <= budget.posted.nanousd
    assert client.spend.total == budget.posted
    unknown = [entry.transfer for entry in budget.ledger.entries() if entry.unknown]
    corrected = {entry.transfer for entry in budget.ledger.entries() if entry.kind == "correct"}
    assert len(set(unknown) - corrected) == client.spend.unknown_outcomes
    assert unknown


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "retry", [RetryPolicy(), RetryPolicy(attempts=2, budget_ratio=1.0)], ids=["budget", "attempts"]
)
def test_a_tuner_waits_and_asks_again_and_loses_no_candidate(seed: int, retry: RetryPolicy) -> None:
    """The run through the storm has the bytes of the run in fair weather, whichever limit ends its calls.

    Its names and its chance are those of a simulation: of real ones, which decide what fails, a call in tens of
    thousands fails until the tuner's patience ends, and its candidates are lost then, as they should be.
    """

    async def main(backend: MockBackend) -> tuple[bytes, float]:
        with within_outside(of_a_simulation(began_s=0.0, clock=asyncio.get_running_loop().time, seed=seed)):
            tuner = Tuner(backend, budget=Budget(evaluations=200), preset=SMALL, seed=3, retry=retry)
            result = await tuner.fit(TRAIN)
        assert result.failure is None
        return result.core.to_bytes(), float(result.core.evaluations)

    stormy_run, fair_run = (
        run_virtual(main(stormy(seed))),
        run_virtual(main(MockBackend(price=PRICE, max_candidates=2))),
    )
    assert stormy_run == fair_run
    assert stormy_run[1] == 200
