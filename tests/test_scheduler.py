"""How candidates are split over calls, sent together and put together again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from fractions import Fraction
from math import ceil

import numpy as np
import pytest
from client_cases import PRICE, SUBSPACE, TEXTS, points, text_set
from hypothesis import given
from hypothesis import strategies as st

from lmaas_backends.mock import MockBackend
from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.backend import Limits
from lmaas_sdk.client import Client
from lmaas_sdk.errors import BudgetExceeded, ProtocolError, ServerFault
from lmaas_sdk.testing import Fault, Faults, run_virtual
from lmaas_sdk.traffic.retry import RetryPolicy
from lmaas_sdk.tuning.parts import Part, Scorable
from lmaas_sdk.tuning.scheduler import Scheduler

NOTHING = Amounts()
ONCE = RetryPolicy(attempts=1, patience_s=0)


def scheduler(backend: MockBackend | None = None, budget: Budget | None = None, *, run: str = "run") -> Scheduler:
    return Scheduler(Client(backend or MockBackend(), budget or Budget(), retry=ONCE), run)


def scorable(n_texts: int, *counts: int) -> Scorable:
    """Texts of some tokens each, made up where nothing is sent."""
    texts = text_set(*(f"text {number}" for number in range(n_texts)))
    return Scorable(texts, SUBSPACE, counts or tuple(range(10, 10 + n_texts)))


def covered(parts: list[Part], n_candidates: int, n_texts: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """How often each pair of candidate and text is asked for."""
    times = np.zeros((n_candidates, n_texts), np.int64)
    for part in parts:
        times[part.candidates, part.rows] += 1
    return times


@given(st.integers(1, 50), st.integers(1, 40), st.integers(1, 60), st.integers(1, 50))
def test_as_few_calls_as_the_card_allows(
    n_candidates: int, n_texts: int, most_candidates: int, most_texts: int
) -> None:
    """Every pair is asked for once, in the fewest calls, none above the card, all of nearly the same size."""
    backend = MockBackend(max_candidates=most_candidates, max_texts=most_texts)
    ready, Z = scorable(n_texts), points(n_candidates)
    parts = scheduler(backend).parts(ready, Z, "train", label=0)
    assert len(parts) == ceil(n_candidates / most_candidates) * ceil(n_texts / most_texts)
    assert (covered(parts, n_candidates, n_texts) == 1).all()
    for part in parts:
        query, rows = part.call.query, range(part.rows.start, part.rows.stop)
        assert query.n_candidates <= most_candidates
        assert len(rows) <= most_texts
        assert tuple(rows) == (tuple(range(n_texts)) if query.rows is None else query.rows)
        assert np.array_equal(query.Z, Z[part.candidates])
        assert part.call.worst.tokens == query.n_candidates * sum(ready.token_counts[row] for row in rows)
    assert sum(part.call.worst.evaluations for part in parts) == n_candidates


@given(st.integers(1, 50), st.integers(1, 40), st.integers(1, 60), st.integers(1, 50), st.integers(1, 9))
def test_every_replica_gets_a_call_where_there_are_candidates_for_it(
    n_candidates: int, n_texts: int, most_candidates: int, most_texts: int, replicas: int
) -> None:
    """In as few calls as that needs, of nearly the same size, and every pair is still asked for once."""
    backend = MockBackend(max_candidates=most_candidates, max_texts=most_texts)
    backend.card = replace(backend.card, replicas=replicas)
    spread = scheduler(backend)
    parts = spread.parts(scorable(n_texts), points(n_candidates), "train", label=0)
    by_texts, needed = ceil(n_texts / most_texts), ceil(n_candidates / most_candidates)
    assert len(parts) == by_texts * max(needed, min(n_candidates, ceil(replicas / by_texts)))
    assert len(parts) >= min(replicas, n_candidates * by_texts)
    assert (covered(parts, n_candidates, n_texts) == 1).all()
    sizes = {part.candidates.stop - part.candidates.start for part in parts}
    assert max(sizes) - min(sizes) <= 1
    assert len({part.call.key for part in parts}) == len(parts)
    assert spread.worst(scorable(n_texts), n_candidates, "train") == sum((part.call.worst for part in parts), NOTHING)


@given(st.integers(1, 12), st.lists(st.integers(1, 60), min_size=1, max_size=20), st.integers(60, 3000))
def test_no_call_is_above_the_tokens_of_a_minute(n_candidates: int, counts: list[int], quota: int) -> None:
    """Such a call could never be admitted; where everything fits into one, one it is."""
    backend = MockBackend(limits=Limits(tokens_per_minute=quota))
    parts = scheduler(backend).parts(scorable(len(counts), *counts), points(n_candidates), "train", label=0)
    assert max(part.call.worst.tokens for part in parts) <= quota
    assert (covered(parts, n_candidates, len(counts)) == 1).all()
    if n_candidates * sum(counts) <= quota:
        assert len(parts) == 1


def test_calls_for_every_replica_are_under_way_at_once() -> None:
    """More replicas than calls that one server is trusted with: all of a generation is sent before it is answered."""

    async def main() -> tuple[float, int]:
        backend = MockBackend(latency_s=1.0)
        backend.card = replace(backend.card, replicas=20)
        spread = scheduler(backend)
        await spread.score(await spread.prepare(TEXTS, SUBSPACE), points(20), "train", label=0)
        return asyncio.get_running_loop().time(), backend.book.max_in_flight

    assert run_virtual(main()) == (1.0, 20)


@pytest.mark.parametrize(("most_candidates", "most_texts"), [(64, 64), (3, 64), (64, 3), (3, 3), (1, 1)])
async def test_the_answer_is_that_of_a_single_call(most_candidates: int, most_texts: int) -> None:
    """However it was split, the bits are the same, the spend of a free call is too, and evaluations are whole."""
    backend, budget = MockBackend(max_candidates=most_candidates, max_texts=most_texts), Budget()
    split, whole = scheduler(backend, budget), scheduler()
    ready = await split.prepare(TEXTS, SUBSPACE)
    expected = await whole.score(await whole.prepare(TEXTS, SUBSPACE), points(7), "train", label=0)
    found = await split.score(ready, points(7), "train", label=0)
    assert found.dtype == np.float32
    assert expected.tobytes() == found.tobytes()
    n_calls = ceil(7 / most_candidates) * ceil(4 / most_texts)
    assert budget.posted == Amounts(n_calls, Fraction(7), 7 * sum(ready.token_counts))
    assert backend.book.attempts == n_calls


async def test_answers_that_come_in_another_order_land_in_their_places() -> None:
    """The first part is the last to be answered."""

    def latency_s(query: object, draw: object) -> float:
        return next(waits_s)

    waits_s = iter(sorted((0.001 * number for number in range(14)), reverse=True))
    mixed = scheduler(MockBackend(max_candidates=1, max_texts=2, latency_s=latency_s))
    plain = scheduler()
    found = await mixed.score(await mixed.prepare(TEXTS, SUBSPACE), points(7), "dev", label=0)
    assert np.array_equal(found, await plain.score(await plain.prepare(TEXTS, SUBSPACE), points(7), "dev", label=0))


async def test_the_manual_prompt_is_one_candidate() -> None:
    """Without a subspace there is no Z, and the worst case is that of one candidate."""
    backend = MockBackend(max_texts=3)
    manual = scheduler(backend)
    ready = await manual.prepare(TEXTS, None)
    worst = manual.worst(ready, 1, "test")
    logits = await manual.score(ready, None, "test", label=0)
    assert logits.shape == (1, 4, 2)
    assert worst == manual.client.budget.posted == Amounts(2, 0, sum(ready.token_counts))


async def test_the_worst_case_is_known_before_there_are_candidates() -> None:
    """It is what a generation then takes, split as it will be, money rounded up once a call."""
    backend = MockBackend(max_candidates=3, max_texts=3, price=PRICE)
    dear = scheduler(backend)
    ready = await dear.prepare(TEXTS, SUBSPACE)
    worst = dear.worst(ready, 7, "train")
    await dear.score(ready, points(7), "train", label="any")
    assert worst == dear.client.budget.posted
    assert worst.nanousd == backend.book.nanousd


@pytest.mark.parametrize(
    ("precision", "asked", "expected"),
    [("float32", False, False), ("float32", True, False), ("bfloat16", False, False), ("bfloat16", True, True)],
)
async def test_float32_is_asked_for_where_it_is_not_given_anyway(precision: str, asked: bool, expected: bool) -> None:
    """Of a backend that claims no precise queries nothing is asked, so its calls are what they always were."""
    backend = MockBackend(max_candidates=3, max_texts=3, precision=precision)  # type: ignore[arg-type]
    tuning = scheduler(backend)
    ready = await tuning.prepare(TEXTS, SUBSPACE, precise=asked)
    parts = tuning.parts(ready, points(7), "dev", label=0)
    assert (ready.precise, {part.call.query.precise for part in parts}) == (expected, {expected})  # type: ignore[union-attr]
    assert tuning.worst(ready, 7, "dev") == tuning.worst(replace(ready, precise=not expected), 7, "dev")
    assert tuning.sees_fewer_bits is (precision == "bfloat16")


def keys(run: str, purpose: str, label: object) -> list[str]:
    """The idempotency keys of six parts."""
    backend = MockBackend(max_candidates=3, max_texts=3)
    parts = scheduler(backend, run=run).parts(scorable(4), points(7), purpose, label=label)  # type: ignore[arg-type]
    return [part.call.key for part in parts]


def test_keys_tell_calls_apart_and_repeat() -> None:
    """Each part, label, purpose and run has a key of its own, and asking again gives the same."""
    cases = [(run, purpose, label) for run in ("a", "b") for purpose in ("train", "dev") for label in (0, 1, "1", None)]
    found = [key for case in cases for key in keys(*case)]
    assert len(set(found)) == len(cases) * 6
    assert found == [key for case in cases for key in keys(*case)]


@pytest.mark.parametrize("limits", [{"calls": 5}, {"evaluations": 6}])
async def test_a_generation_that_does_not_fit_whole_is_not_sent(limits: dict[str, int]) -> None:
    """Five of six calls would fit, and none goes out."""
    backend, budget = MockBackend(max_candidates=3, max_texts=3), Budget(**limits)
    tight = scheduler(backend, budget)
    ready = await tight.prepare(TEXTS, SUBSPACE)
    with pytest.raises(BudgetExceeded):
        await tight.score(ready, points(7), "train", label=0)
    assert (backend.book.received, budget.posted, budget.pending) == (0, NOTHING, NOTHING)


@pytest.mark.parametrize("lost", range(6))
def test_one_failing_part_cancels_and_books_the_others(lost: int) -> None:
    """The failure comes out by itself, at once; what was in flight is booked as unknown, and no task is left."""

    async def main() -> tuple[float, int, int, int]:
        faults = Faults(plan=lambda attempt: "server_fault" if attempt.number == lost else None)
        backend, budget = MockBackend(max_candidates=3, max_texts=3, latency_s=30.0, faults=faults), Budget()
        failing = scheduler(backend, budget)
        ready = await failing.prepare(TEXTS, SUBSPACE)
        with pytest.raises(ServerFault):
            await failing.score(ready, points(7), "train", label=0)
        assert budget.posted == failing.worst(ready, 7, "train")
        assert budget.pending == NOTHING
        unknown = failing.client.spend.unknown_outcomes
        return asyncio.get_running_loop().time(), unknown, backend.book.in_flight, len(asyncio.all_tasks())

    assert run_virtual(main()) == (0.0, 6, 0, 1)


def test_parts_that_were_answered_or_wait_are_booked_as_such() -> None:
    """One is answered, one waits out a 429, one is damaged: two calls are posted and the third is given back."""

    async def main() -> tuple[Amounts, Amounts, int]:
        script = [None, Fault("rate_limit", retry_after_s=60), "nan"]
        backend = MockBackend(
            max_candidates=1, latency_s=lambda query, draw: float(query.Z[0, 0] > 0), faults=Faults(script=script)
        )  # type: ignore[union-attr,arg-type]
        budget = Budget()
        failing = scheduler(backend, budget)
        ready = await failing.prepare(TEXTS, SUBSPACE)
        with pytest.raises(ProtocolError):
            await failing.score(ready, points(3), "train", label=0)
        return budget.posted, budget.pending, failing.client.spend.unknown_outcomes

    assert run_virtual(main()) == (Amounts(2, 2, 2 * 46), NOTHING, 0)


@pytest.mark.parametrize("turns", range(8))
async def test_cancelling_a_generation_leaves_nothing_behind(turns: int) -> None:
    """After any number of turns of the loop, also before a part began: nothing is pending, and no task is left."""
    backend, budget = MockBackend(max_candidates=1, latency_s=3600.0), Budget()
    hanging = scheduler(backend, budget)
    ready = await hanging.prepare(TEXTS, SUBSPACE)
    task = asyncio.create_task(hanging.score(ready, points(5), "train", label=0))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (budget.pending, backend.book.in_flight, len(asyncio.all_tasks())) == (NOTHING, 0, 1)
    assert backend.book.tokens <= budget.posted.tokens
    assert backend.book.received <= budget.posted.calls


async def test_a_part_that_never_began_gives_its_reservation_back() -> None:
    """With a reservation short, every part is cancelled before its first step: nothing is sent or kept."""
    backend, budget = MockBackend(max_candidates=1), Budget()
    short = scheduler(backend, budget)
    parts = short.parts(await short.prepare(TEXTS, SUBSPACE), points(3), "train", label=0)
    holds = await short.client.hold([part.call for part in parts])
    with pytest.raises(ValueError, match="shorter"):
        await short.send(parts, holds[:2])
    assert (backend.book.received, budget.posted) == (0, NOTHING)
    assert budget.pending == parts[2].call.worst  # the one that was left out is its caller's
