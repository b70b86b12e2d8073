"""Faults and cancellations at random: nothing stays pending, and nobody is billed for more than was booked."""

from __future__ import annotations

import asyncio
import random

import pytest
from client_cases import COST, PRICE, TOKENS, call
from hypothesis import given, settings
from hypothesis import strategies as st

from lmaas_backends.mock import MockBackend
from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.backend import Capabilities, Limits
from lmaas_sdk.client import Client
from lmaas_sdk.errors import LmaasError
from lmaas_sdk.testing import FaultInjectingBackend, Faults, run_virtual
from lmaas_sdk.testing.faults import KINDS
from lmaas_sdk.traffic.retry import RetryPolicy

NOTHING = Amounts()
WAYS = ((1, 1), (2, 1), (2, 2))  # calls posted, and how many of them at the full price
FORGETFUL = Capabilities(deterministic=True)  # not idempotent
MIXTURES = st.lists(st.sampled_from([None, *KINDS]), min_size=1, max_size=8)


async def outcome(client: Client, key: str) -> str:
    """How a call ends, under a patience of its own: "ok" or the kind of its end."""
    try:
        async with asyncio.timeout(500):
            await client.score(call(client, key))
    except (LmaasError, TimeoutError) as error:
        return type(error).__name__
    return "ok"


def check_books(budget: Budget, backend: MockBackend) -> None:
    """What the provider computed and billed was paid for, and nothing is left over."""
    book, posted = backend.book, budget.posted
    assert (budget.pending, book.in_flight) == (NOTHING, 0)
    assert book.computed <= posted.calls
    assert book.evaluations <= posted.evaluations
    assert book.tokens <= posted.tokens
    assert book.nanousd <= posted.nanousd


@settings(max_examples=150)
@given(st.integers(0, 2**32), MIXTURES, st.booleans(), st.booleans(), st.integers(1, 20))
def test_nobody_is_billed_for_more_than_was_booked(
    seed: int, kinds: list[str | None], charged: bool, idempotent: bool, n_calls: int
) -> None:
    """Any mixture of faults, with keys that bill once and keys that do not, calls at once, a budget that may end."""
    chances = {kind: kinds.count(kind) / len(kinds) for kind in KINDS if kind in kinds}

    async def main() -> None:
        faults = Faults(seed=seed, charged=charged, **chances)  # type: ignore[arg-type]
        capabilities = None if idempotent else FORGETFUL
        backend = MockBackend(price=PRICE, faults=faults, capabilities=capabilities, latency_s=1.0)
        budget = Budget(tokens=15 * TOKENS, usd=None, calls=18)
        client = Client(backend, budget, retry=RetryPolicy(max_wait_s=100))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(outcome(client, f"call {number}")) for number in range(n_calls)]
        check_books(budget, backend)
        assert client.spend.total == budget.posted
        assert budget.posted.calls <= 18
        assert budget.posted.tokens <= 15 * TOKENS
        if not chances:
            assert [task.result() for task in tasks].count("ok") == min(n_calls, 15)

    run_virtual(main())


@pytest.mark.parametrize("capabilities", [None, FORGETFUL], ids=["idempotent", "not"])
def test_a_cancellation_at_any_moment_leaves_nothing_behind(capabilities: Capabilities | None) -> None:
    """Ten calls through a storm of 429s and faults, all cancelled at a random time, 300 times over."""
    ends = random.Random(7)
    cancelled = 0

    async def main(seed: int, end_s: float) -> int:
        faults = Faults(seed=seed, rate_limit=0.2, refused=0.1, server_fault=0.2, timeout=0.2, charged=seed % 2 == 0)
        limits = Limits(requests_per_minute=8, concurrency=4)
        backend = MockBackend(
            price=PRICE,
            faults=faults,
            limits=limits,
            capabilities=capabilities,
            latency_s=lambda _, draw: draw.random(),
        )
        budget = Budget()
        client = Client(backend, budget)
        tasks = [asyncio.create_task(client.score(call(client, f"call {number}"))) for number in range(10)]
        await asyncio.sleep(end_s)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        check_books(budget, backend)
        assert client.spend.total == budget.posted
        assert len(asyncio.all_tasks()) == 1
        return sum(task.cancelled() for task in tasks)

    for seed in range(300):
        cancelled += run_virtual(main(seed, ends.choice([0.0, ends.random(), ends.random() * 5, ends.random() * 90])))
    assert 300 < cancelled < 3000


@pytest.mark.parametrize("turns", range(12))
async def test_a_cancellation_after_any_number_of_turns_of_the_loop(turns: int) -> None:
    """Before the first step, between any two, and after the last: booked in full or not at all."""
    backend, budget = MockBackend(price=PRICE, faults=Faults(script=["rate_limit", "timeout"])), Budget()
    client = Client(backend, budget, retry=RetryPolicy(first_wait_s=0))
    task = asyncio.create_task(client.score(call(client)))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    check_books(budget, backend)
    assert budget.posted in (NOTHING, *(Amounts(calls, 2 * full, TOKENS * full, COST * full) for calls, full in WAYS))


def test_a_hang_is_booked_when_its_caller_gives_up() -> None:
    """No answer ever: the deadline ends it, and the worst case is posted."""

    async def main() -> tuple[str, Amounts]:
        inner = MockBackend(price=PRICE)
        client = Client(FaultInjectingBackend(inner, Faults(script=["hang"])), Budget())
        return await outcome(client, "k"), client.budget.posted

    assert run_virtual(main()) == ("TimeoutError", Amounts(1, 2, TOKENS, COST))
