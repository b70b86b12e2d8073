"""Calls that go out together: the late, the failed, and those that are sent again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from client_cases import SUBSPACE, TEXTS, points

from lmaas_backends.mock import MockBackend
from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.backend import Limits, ScoreQuery
from lmaas_sdk.client import Client
from lmaas_sdk.errors import BudgetExceeded, OutcomeUnknown, ProtocolError, QuotaExceeded
from lmaas_sdk.testing import Attempt, Fault, Faults, run_virtual
from lmaas_sdk.traffic.retry import RetryPolicy
from lmaas_sdk.tuning.parts import Part
from lmaas_sdk.tuning.scheduler import Scheduler
from lmaas_sdk.tuning.scheduling import LatencyRecord, Scheduling
from lmaas_sdk.tuning.volley import Answer, Volley

NOTHING = Amounts()
USUAL_S = 1.0
LATE_S = 1.1  # 1.1 times as long as is usual
HEDGED_S = 1.5  # 1.5 times as long


@dataclass
class Sent:
    """A volley that has come back.

    Args:
        answers: By call.
        seconds: How long it took.
        backend, budget, volley, latencies: What took part.
    """

    answers: list[Answer]
    seconds: float
    backend: MockBackend
    budget: Budget
    volley: Volley
    latencies: LatencyRecord

    @property
    def answered(self) -> list[int]:
        """The calls that have an answer."""
        return [number for number, answer in enumerate(self.answers) if isinstance(answer, np.ndarray)]


def taking(*seconds: float) -> Callable[[Any, np.random.Generator], float]:
    """The latency of attempts in the order of their candidates; the second attempt at one is as quick as is usual."""
    asked: set[float] = set()

    def latency_s(query: ScoreQuery, draw: np.random.Generator) -> float:
        assert query.Z is not None
        first = float(query.Z[0, 0])
        if first in asked:
            return USUAL_S
        asked.add(first)
        return seconds[round(first / 0.4)]

    return latency_s


async def volley(
    scheduling: Scheduling,
    *,
    count: int = 4,
    budget: Budget | None = None,
    retry: RetryPolicy | None = None,
    is_enough: Callable[[Collection[int]], bool] = lambda answered: len(answered) >= 3,
    known: int = 10,
    usual_s: float = USUAL_S,
    **options: Any,
) -> Sent:
    """Sends so many candidates, one a call, where `known` calls have taken `usual_s` each."""
    backend, budget = MockBackend(max_candidates=1, **options), budget or Budget()
    client = Client(backend, budget, retry=retry or RetryPolicy(attempts=1, patience_s=0))
    scheduler, latencies = Scheduler(client, "run"), LatencyRecord()
    for _ in range(known):
        latencies.add(usual_s)
    latencies.calls += known
    sending = Volley(scheduler, scheduling, latencies=latencies, read=read, is_enough=is_enough, label="0")
    clock = asyncio.get_running_loop().time
    began_s = clock()
    parts = scheduler.parts(await scheduler.prepare(TEXTS, SUBSPACE), points(count), "train", label=0)
    try:
        answers = await sending.send(parts, await scheduler.open(parts, label=0))
    finally:
        assert (budget.pending, backend.book.in_flight, len(asyncio.all_tasks())) == (NOTHING, 0, 1)
        assert budget.posted == client.spend.total
        assert backend.book.tokens <= budget.posted.tokens
    return Sent(answers, clock() - began_s, backend, budget, sending, latencies)


def read(part: Part, logits: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The first logit of each candidate."""
    return logits[:, 0, 0].astype(np.float64)


def sent(*args: Any, **named: Any) -> Sent:
    """In virtual time."""
    return run_virtual(volley(*args, **named))


DROP, HEDGE = Scheduling(stragglers="drop"), Scheduling(stragglers="hedge", most_hedged=1.0)


def test_a_late_call_is_dropped_as_soon_as_it_is_late() -> None:
    """Three of four are there after a second; the last is cancelled at 1.1, and booked as what it may have cost."""
    done = sent(DROP, latency_s=taking(1, 1, 1, 60))
    assert ([0, 1, 2], pytest.approx(LATE_S, abs=0.01)) == (done.answered, done.seconds)
    assert done.answers[3] is None
    assert done.budget.posted.calls == 4


def test_a_call_is_not_late_while_nobody_can_tell() -> None:
    """With nine answers or fewer known there is nothing usual, so it is waited for."""
    done = sent(DROP, latency_s=taking(1, 1, 1, 60), known=5)
    assert ([0, 1, 2, 3], 60) == (done.answered, done.seconds)


def test_a_late_call_is_waited_for_while_the_others_are_too_few() -> None:
    """What must be there is waited for, however late: the generation says when it is enough."""
    done = sent(DROP, latency_s=taking(1, 60, 1, 90), is_enough=lambda answered: 1 in answered)
    assert ([0, 1, 2], 60) == (done.answered, done.seconds)
    assert done.answers[3] is None


def test_calls_that_wait_to_be_sent_are_not_late() -> None:
    """One goes out at a time: those that wait for the others have not begun to be slow."""
    done = sent(DROP, latency_s=1.0, limits=Limits(concurrency=1), count=5)
    assert ([0, 1, 2, 3, 4], 5.0) == (done.answered, done.seconds)


def test_a_latency_of_nothing_stops_no_clock() -> None:
    """Where calls have taken no time at all, a call that waits for its quota is waited for all the same."""
    for scheduling in (DROP, HEDGE):
        done = sent(
            scheduling, usual_s=0.0, limits=Limits(requests_per_minute=3), is_enough=lambda some: len(some) == 4
        )
        assert ([0, 1, 2, 3], pytest.approx(60, abs=1)) == (done.answered, done.seconds)


def test_over_asked_calls_are_dropped_once_enough_are_answered() -> None:
    """Late or not: a population is all that the generation needs."""
    done = sent(Scheduling(over_ask=1), latency_s=taking(1, 2, 3, 3.5))
    assert ([0, 1, 2], 3) == (done.answered, done.seconds)
    assert done.answers[3] is None


def test_a_late_call_is_sent_once_more_and_the_first_answer_counts() -> None:
    """The second is answered a second after it was sent; the first is cancelled, and booked."""
    done = sent(HEDGE, latency_s=taking(1, 1, 1, 60))
    assert ([0, 1, 2, 3], pytest.approx(HEDGED_S + USUAL_S, abs=0.01)) == (done.answered, done.seconds)
    assert (5, 5, 1) == (done.budget.posted.calls, done.backend.book.computed, done.latencies.hedged)
    assert 5 == len(set(done.volley.keys)) == len(done.volley.keys)


def test_the_first_call_may_still_win() -> None:
    """Answered before the one that was sent beside it, which is cancelled."""
    done = sent(HEDGE, latency_s=taking(1, 1, 1, 2))
    assert ([0, 1, 2, 3], 2) == (done.answered, done.seconds)
    assert 5 == done.budget.posted.calls


@pytest.mark.parametrize(("longest_s", "calls"), [(1.4, 4), (1.6, 5)])
def test_a_call_is_sent_again_when_it_is_far_later_than_what_is_dropped(longest_s: float, calls: int) -> None:
    """At 1.5 times what is usual, and not at 1.1 times."""
    done = sent(HEDGE, latency_s=taking(1, 1, 1, longest_s))
    assert ([0, 1, 2, 3], longest_s, calls) == (done.answered, done.seconds, done.budget.posted.calls)


@pytest.mark.parametrize(("longest_s", "calls"), [(0.09, 4), (0.11, 5)])
def test_a_call_is_not_sent_again_before_a_tenth_of_a_second(longest_s: float, calls: int) -> None:
    """Where calls take two milliseconds, there is nothing to gain by it."""
    done = sent(HEDGE, latency_s=taking(0.002, 0.002, 0.002, longest_s), usual_s=0.002)
    assert ([0, 1, 2, 3], calls) == (done.answered, done.budget.posted.calls)


@pytest.mark.parametrize(("most", "hedged"), [(0.0, 0), (0.07, 0), (0.08, 1), (0.2, 2), (1.0, 4)])
def test_no_more_calls_are_sent_again_than_is_allowed(most: float, hedged: int) -> None:
    """Of the run's fourteen calls so large a part, though all of four are late at the same moment."""
    done = sent(Scheduling(stragglers="hedge", most_hedged=most), latency_s=taking(60, 60, 60, 60))
    assert (hedged, 4 + hedged) == (done.latencies.hedged, done.budget.posted.calls)
    assert [0, 1, 2, 3] == done.answered


def test_what_cannot_be_paid_for_is_not_sent_again() -> None:
    """The call that was paid for is waited for."""
    done = sent(HEDGE, latency_s=taking(1, 1, 1, 60), budget=Budget(calls=4))
    assert ([0, 1, 2, 3], 60, 0) == (done.answered, done.seconds, done.latencies.hedged)


def striking(candidate: int, kind: str, *, second: str | None = None) -> Faults:
    """Strikes the calls of one candidate, told by the order in which they come."""

    def plan(attempt: Attempt) -> Any:
        if attempt.number == candidate:
            return kind
        return second if attempt.number >= 4 else None

    return Faults(plan=plan)


def test_both_of_two_calls_may_fail() -> None:
    """Then the candidate has failed, by the error of the first; the others are answered, and the volley goes on."""
    retry = RetryPolicy(attempts=1, patience_s=0, attempt_timeout_s=30)
    done = sent(HEDGE, latency_s=1.0, faults=striking(3, "hang", second="server_fault"), retry=retry)
    assert ([0, 1, 2], True) == (done.answered, isinstance(done.answers[3], OutcomeUnknown))
    assert 5 == done.budget.posted.calls


def test_a_second_call_that_fails_leaves_the_first_alone() -> None:
    """Its failure is nobody's: the first is answered later."""
    done = sent(HEDGE, latency_s=taking(1, 1, 1, 20), faults=Faults(script=[None] * 4 + ["wrong_shape"]))
    assert ([0, 1, 2, 3], 20) == (done.answered, done.seconds)


def test_a_second_call_that_would_wait_for_its_quota_leaves_the_first_alone() -> None:
    """The quota of a minute is used up by the first calls: that ends no run."""
    retry = RetryPolicy(attempts=1, patience_s=0, max_wait_s=5)
    done = sent(HEDGE, latency_s=taking(1, 1, 1, 20), limits=Limits(requests_per_minute=4), retry=retry)
    assert ([0, 1, 2, 3], 20) == (done.answered, done.seconds)


@pytest.mark.parametrize("scheduling", [Scheduling(tries=1), Scheduling(stragglers="hedge", tries=1)])
def test_a_failure_that_is_not_retried_fails_its_own_candidate_alone(scheduling: Scheduling) -> None:
    """An answer of no use comes once more, under another key; then the error stands in the place of the answer."""
    done = sent(scheduling, faults=Faults(plan=lambda one: "wrong_shape" if one.number in (3, 4) else None), known=0)
    assert ([0, 1, 2], True) == (done.answered, isinstance(done.answers[3], ProtocolError))
    assert (5, 5) == (done.budget.posted.calls, len(set(done.volley.keys)))


@pytest.mark.parametrize("tries", [0, 1, 3])
def test_an_answer_of_no_use_is_asked_for_again_so_often(tries: int) -> None:
    """Under a new key each time, and paid for each time."""
    done = sent(Scheduling(tries=tries), faults=Faults(plan=lambda one: "wrong_shape" if one.number >= 3 else None))
    assert (4 + tries, 4 + tries) == (done.budget.posted.calls, len(set(done.volley.keys)))
    assert isinstance(done.answers[3], ProtocolError)


def test_what_cannot_be_paid_for_is_not_asked_for_again() -> None:
    """Then the candidate has failed; the budget ends nothing else."""
    faults = Faults(plan=lambda one: "wrong_shape" if one.number == 3 else None)
    done = sent(Scheduling(), faults=faults, budget=Budget(calls=4))
    assert ([0, 1, 2], True) == (done.answered, isinstance(done.answers[3], ProtocolError))


@pytest.mark.parametrize("stragglers", ["wait", "drop", "hedge"])
def test_an_end_of_the_run_ends_all_calls(stragglers: str) -> None:
    """A quota that is used up comes out by itself, out of whatever groups it was in; the others are cancelled."""
    fault = Fault("rate_limit", retry_after_s=600)
    retry = RetryPolicy(attempts=1, patience_s=0, max_wait_s=5)
    scheduling = Scheduling(stragglers=stragglers)  # type: ignore[arg-type]
    with pytest.raises(QuotaExceeded):
        sent(scheduling, latency_s=60.0, faults=Faults(script=[None, None, fault]), retry=retry)


@pytest.mark.parametrize("stragglers", ["drop", "hedge"])
def test_time_that_ends_ends_all_calls(stragglers: str) -> None:
    """Also those that were sent again."""

    async def main() -> None:
        budget = Budget(wall_s=10, clock=asyncio.get_running_loop().time)
        budget.start()
        scheduling = Scheduling(stragglers=stragglers, most_hedged=1.0)  # type: ignore[arg-type]
        with pytest.raises(BudgetExceeded):
            await volley(scheduling, latency_s=60.0, budget=budget)
        assert asyncio.get_running_loop().time() == pytest.approx(10, abs=0.1)

    run_virtual(main())


@pytest.mark.parametrize("scheduling", [DROP, HEDGE, Scheduling(over_ask=1)], ids=["drop", "hedge", "over-ask"])
def test_a_cancellation_after_any_number_of_turns_leaves_nothing(scheduling: Scheduling) -> None:
    """Before a call began, beside a call that was sent again, and between the two: nothing is pending, nobody left."""

    async def main(turns: int) -> bool:
        task = asyncio.create_task(_checked(scheduling))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    cancelled = [run_virtual(main(turns)) for turns in range(60)]
    assert cancelled[0]
    assert sum(cancelled) > 10


async def _checked(scheduling: Scheduling) -> None:
    """As `volley`, where a second task watches."""
    backend, budget = MockBackend(max_candidates=1, latency_s=taking(0, 0, 0, 60)), Budget()
    scheduler, latencies = Scheduler(Client(backend, budget), "run"), LatencyRecord()
    for _ in range(10):
        latencies.add(0.0)
    sending = Volley(
        scheduler, scheduling, latencies=latencies, read=read, is_enough=lambda some: len(some) > 2, label="0"
    )
    parts = scheduler.parts(await scheduler.prepare(TEXTS, SUBSPACE), points(4), "train", label=0)
    try:
        await sending.send(parts, await scheduler.open(parts, label=0))
    finally:
        assert (budget.pending, backend.book.in_flight) == (NOTHING, 0)
        assert len(asyncio.all_tasks()) == 2
