"""The client: every attempt is paid for before it goes out, and booked as what it was."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from client_cases import (
    COST,
    COUNTS,
    NOTHING,
    PRICE,
    SUBSPACE,
    TEXTS,
    TOKENS,
    WORST,
    Altered,
    call,
    failing,
    mock,
    points,
    query,
    text_set,
)

from lmaas_backends.mock import MockBackend
from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.prices import Price, Usage
from lmaas_sdk.backend import Capabilities, Registration, ScoreQuery
from lmaas_sdk.client import Client
from lmaas_sdk.errors import (
    AttemptTimeout,
    AuthenticationFailed,
    BackendError,
    BackendUnavailable,
    BudgetExceeded,
    InvalidQuery,
    PaymentRequired,
    QuotaExceeded,
    ServerFault,
    ServerUntrusted,
    UnknownDataset,
    Unsupported,
)
from lmaas_sdk.testing import Fault, Faults, run_virtual
from lmaas_sdk.texts import TextSet
from lmaas_sdk.traffic.retry import RetryPolicy

ONCE = RetryPolicy(attempts=1)
AT_ONCE = RetryPolicy(first_wait_s=0)
FORGETFUL = Capabilities(deterministic=True)  # not idempotent: a repeated key is computed and billed anew


async def test_success_posts_what_was_used() -> None:
    """The worst case is reserved, the actual usage posted, and both sides' books agree."""
    backend, budget = mock(), Budget(calls=1)
    reply = await Client(backend, budget).score(call(Client(backend, budget)))
    assert reply.logits.shape == (2, 4, 2)
    assert (budget.posted, budget.pending) == (WORST, NOTHING)
    assert (backend.book.tokens, backend.book.nanousd, backend.book.evaluations) == (TOKENS, COST, 2)


async def test_what_was_not_used_becomes_free() -> None:
    """The bill is below the worst case where nobody counts tokens beforehand."""
    budget = Budget(tokens=2 * 1000)
    client = Client(Altered(lambda reply: reply), budget)
    roomy = client.call(query(), "k", purpose="dev", token_counts=(250,) * 4)
    await client.score(roomy)
    assert (budget.posted.tokens, budget.posted.evaluations, budget.free("tokens")) == (TOKENS, 0, 2000 - TOKENS)


@pytest.mark.parametrize("kind", ["rate_limit", "refused"])
def test_what_was_not_taken_up_is_not_counted_and_keeps_its_place(kind: Any) -> None:
    """While a call waits after a 429 or a refused connection its reservation stands; in the end it is one call."""

    async def main() -> tuple[Amounts, Amounts]:
        backend, budget = mock(*[Fault(kind, retry_after_s=10)] * 2), Budget(calls=1)
        client = Client(backend, budget)
        async with asyncio.TaskGroup() as group:
            group.create_task(client.score(call(client)))
            await asyncio.sleep(15)
            waiting = budget.pending
        assert (backend.book.received, backend.book.attempts) == (3, 1)
        assert budget.pending == NOTHING
        return waiting, budget.posted

    assert run_virtual(main()) == (WORST, WORST)


async def test_a_server_that_is_never_there_costs_nothing() -> None:
    """After the last refused connection the reservation is given back."""
    backend, budget = mock(*["refused"] * 3), Budget()
    with pytest.raises(BackendUnavailable):
        await Client(backend, budget, retry=RetryPolicy(attempts=3, first_wait_s=0)).score(
            call(Client(backend, budget))
        )
    assert (budget.posted, budget.pending, backend.book.received) == (NOTHING, NOTHING, 3)


async def test_a_server_that_is_not_trusted_costs_nothing() -> None:
    """Nothing was sent, so the reservation is free again; and it is not tried again."""
    budget = Budget(calls=1)
    client = Client(failing(ServerUntrusted("no")), budget)
    with pytest.raises(ServerUntrusted, match="no"):
        await client.score(call(client))
    assert (budget.posted, budget.pending, client.spend.unknown_outcomes) == (NOTHING, NOTHING, 0)


@pytest.mark.parametrize("kind", [AuthenticationFailed, InvalidQuery, PaymentRequired, UnknownDataset, Unsupported])
async def test_a_refusal_counts_as_a_call_without_tokens(kind: type[BackendError]) -> None:
    """It reached the backend, did no work, and is not tried again."""
    budget = Budget()
    client = Client(failing(kind("no")), budget)
    with pytest.raises(kind, match="no"):
        await client.score(call(client))
    assert (budget.posted, budget.pending, client.spend.unknown_outcomes) == (Amounts(1), NOTHING, 0)


@pytest.mark.parametrize("fault", ["server_fault", "timeout", Fault("server_fault", charged=True)], ids=str)
async def test_an_unknown_outcome_is_posted_at_the_worst_case(fault: Any) -> None:
    """Whether or not the provider charged it, the budget must not have it back."""
    backend, budget = mock(fault), Budget()
    client = Client(backend, budget, retry=ONCE)
    with pytest.raises((ServerFault, AttemptTimeout)):
        await client.score(call(client))
    assert (budget.posted, budget.pending, client.spend.unknown_outcomes) == (WORST, NOTHING, 1)


@pytest.mark.parametrize(
    ("capabilities", "posted", "unknown"),
    [(None, Amounts(3, 2, TOKENS, COST), 0), (FORGETFUL, WORST.times(3), 2)],
    ids=["idempotent", "not"],
)
async def test_a_later_answer_corrects_only_where_a_key_bills_once(
    capabilities: Capabilities | None, posted: Amounts, unknown: int
) -> None:
    """Two lost answers and a third: bare calls where the card says idempotent, worst cases where it does not."""
    backend, budget = mock("timeout", "timeout", capabilities=capabilities), Budget()
    client = Client(backend, budget, retry=AT_ONCE)
    await client.score(call(client))
    assert (budget.posted, client.spend.total, client.spend.unknown_outcomes) == (posted, posted, unknown)
    assert backend.book.nanousd == posted.nanousd


async def test_attempts_end_and_carry_one_key() -> None:
    """Every attempt has the call's own key, is paid for, and the last error comes out."""
    backend = MockBackend(faults=Faults(plan=lambda attempt: "server_fault"))
    budget = Budget()
    client = Client(backend, budget, retry=RetryPolicy(attempts=4, first_wait_s=0))
    with pytest.raises(ServerFault):
        await client.score(call(client, "the key"))
    assert backend.book.by_key == {"the key": 4}
    assert (budget.posted.calls, budget.pending) == (4, NOTHING)


async def test_a_retry_needs_a_reservation_of_its_own() -> None:
    """When the lost attempt took the last of the budget, no other goes out."""
    backend, budget = mock("server_fault"), Budget(calls=1)
    client = Client(backend, budget, retry=AT_ONCE)
    with pytest.raises(BudgetExceeded, match="allows 1 calls"):
        await client.score(call(client))
    assert (backend.book.received, budget.posted) == (1, WORST)


def test_retry_after_is_obeyed_exactly() -> None:
    """The client's own requests come when the provider said, to the tick."""

    async def main() -> list[float]:
        loop, times_s = asyncio.get_running_loop(), []

        def plan(attempt: Any) -> Fault | None:
            times_s.append(loop.time())
            waits_s = (7.25, 0.125, 3600.0)
            return Fault("rate_limit", retry_after_s=waits_s[attempt.nth]) if attempt.nth < 3 else None

        client = Client(MockBackend(faults=Faults(plan=plan)), Budget())
        await client.score(call(client))
        return times_s

    assert run_virtual(main()) == [0.0, 7.25, 7.375, 3607.375]


async def test_patience_with_quotas_ends_in_quota_exceeded() -> None:
    """Nothing was sent that counts, so nothing is booked or kept."""
    backend, budget = mock(Fault("rate_limit", retry_after_s=61)), Budget()
    client = Client(backend, budget, retry=RetryPolicy(max_wait_s=60))
    with pytest.raises(QuotaExceeded) as stopped:
        await client.score(call(client))
    assert (stopped.value.wait_s, budget.posted, budget.pending) == (61, NOTHING, NOTHING)


def wall_limited(backend: MockBackend, retry: RetryPolicy | None = None) -> Client:
    """A client whose run of 5 s has just begun."""
    budget = Budget(wall_s=5, clock=asyncio.get_running_loop().time)
    budget.start()
    return Client(backend, budget, retry=retry)


def test_a_call_in_flight_when_the_wall_time_ends() -> None:
    """It is given up on the spot and posted at the worst case."""

    async def main() -> tuple[float, str, Amounts, Amounts]:
        client = wall_limited(mock(latency_s=60.0))
        with pytest.raises(BudgetExceeded) as over:
            await client.score(call(client))
        return asyncio.get_running_loop().time(), over.value.unit, client.budget.posted, client.budget.pending

    assert run_virtual(main()) == (5.0, "wall_s", WORST, NOTHING)


@pytest.mark.parametrize("kind", ["rate_limit", "refused", "server_fault"])
def test_a_wait_beyond_the_wall_time_is_not_begun(kind: Any) -> None:
    """Retry-After points past the end, so the call ends now and not in an hour."""

    async def main() -> tuple[float, str, int, Amounts]:
        client = wall_limited(backend := mock(Fault(kind, retry_after_s=3600)))
        with pytest.raises(BudgetExceeded) as over:
            await client.score(call(client))
        assert client.budget.posted.calls == int(kind == "server_fault")
        return asyncio.get_running_loop().time(), over.value.unit, backend.book.received, client.budget.pending

    assert run_virtual(main()) == (0.0, "wall_s", 1, NOTHING)


def test_a_reservation_is_not_sent_after_the_wall_time() -> None:
    """It was made in time, and time went by."""

    async def main() -> tuple[str, int, Amounts]:
        client = wall_limited(backend := mock())
        (hold,) = await client.hold([call(client)])
        await asyncio.sleep(6)
        with pytest.raises(BudgetExceeded) as over:
            await client.score(call(client), hold)
        return over.value.unit, backend.book.received, client.budget.posted + client.budget.pending

    assert run_virtual(main()) == ("wall_s", 0, NOTHING)


async def test_a_backends_own_timeout_is_an_unknown_outcome() -> None:
    """A bare TimeoutError that escapes a backend is not mistaken for the end of the wall time."""
    budget = Budget(calls=2, wall_s=3600)
    budget.start()
    client = Client(failing(TimeoutError("socket")), budget, retry=RetryPolicy(attempts=2, first_wait_s=0))
    with pytest.raises(AttemptTimeout):
        await client.score(call(client))
    assert (budget.posted, client.spend.unknown_outcomes) == (WORST + Amounts(calls=1), 2)  # the key bills once


async def test_spend_by_purpose_sums_to_what_was_posted() -> None:
    """Over two budgets of one tree, with faults: each purpose has its own line, and the total is the tree's."""
    faults = Faults(seed=5, server_fault=0.2, timeout=0.2, refused=0.1, rate_limit=0.1)
    budget = Budget()
    retry = RetryPolicy(attempts=50, first_wait_s=0, budget_floor=100)
    client = Client(MockBackend(price=PRICE, faults=faults), budget, retry=retry)
    other = client.with_budget(budget.set_aside("dev", Amounts(99, 0, 99 * TOKENS, 99 * COST)))
    for number in range(12):
        await client.score(call(client, f"train {number}"))
        await other.score(call(other, f"dev {number}", purpose="dev"))
        await other.score(call(other, f"test {number}", purpose="test"))
    assert set(client.spend.by_purpose) == {"train", "dev", "test"}
    assert client.spend.total == budget.posted
    assert client.spend.by_purpose["train"] == budget.posted - other.budget.posted
    assert client.spend.by_purpose["dev"].evaluations == client.spend.by_purpose["test"].evaluations == 0
    assert client.spend.by_purpose["train"].evaluations >= 24


async def test_a_part_of_the_texts_is_a_part_of_an_evaluation() -> None:
    """Three thirds of a generation are exactly one, and the backend counts the same."""
    backend, budget = MockBackend(), Budget(evaluations=2)
    client = Client(backend, budget)
    texts = text_set("one", "two", "three")
    counts = (await client.register(texts, SUBSPACE)).token_counts
    for row in range(3):
        part = ScoreQuery(texts, rows=(row,), subspace=SUBSPACE, Z=points(2))
        await client.score(
            client.call(part, f"row {row}", purpose="train", token_counts=counts[row : row + 1], of_texts=3)
        )
        assert budget.posted.evaluations == Fraction(2 * (row + 1), 3)
    assert backend.book.evaluations == budget.posted.evaluations == 2


async def test_the_worst_case_is_that_of_the_dearer_kind_of_token() -> None:
    """Where cached tokens cost more than others, a fully cached bill is no overrun."""
    price = Price(1_000_000, cached_nanousd_per_mtok=5_000_000)
    backend = Altered(lambda reply: replace(reply, usage=Usage(TOKENS, TOKENS)), MockBackend(price=price))
    budget = Budget()
    client = Client(backend, budget)
    await client.score(call(client))
    assert (budget.posted.nanousd, budget.overrun) == (5 * TOKENS, False)


@pytest.mark.parametrize("counts", [(), COUNTS[:3], (*COUNTS, 1)])
def test_every_text_has_a_token_count(counts: tuple[int, ...]) -> None:
    """A text without one would go out unpaid."""
    with pytest.raises(ValueError, match="give one a text"):
        Client(MockBackend(), Budget()).call(query(), "k", purpose="train", token_counts=counts)


async def test_registering_is_tried_again_and_free() -> None:
    """A counting that fails for a moment is repeated, and books nothing."""

    class Shaky(Altered):
        failures = 2

        async def register(self, texts: TextSet, subspace: Any = None) -> Registration:
            if self.failures:
                self.failures -= 1
                raise BackendUnavailable("starting")
            return await self.inner.register(texts, subspace)

    budget = Budget()
    registered = await Client(Shaky(lambda reply: reply), budget, retry=AT_ONCE).register(TEXTS, SUBSPACE)
    assert (registered.token_counts, budget.posted) == (COUNTS, NOTHING)
