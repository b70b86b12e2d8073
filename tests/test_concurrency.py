"""Adaptive concurrency: halved once by a storm, back soon after it, and never frozen by one who waits."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from client_cases import COUNTS, SUBSPACE, TEXTS

from lmaas_backends.mock import MockBackend
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.backend import Limits, ScoreQuery
from lmaas_sdk.client import Client
from lmaas_sdk.testing import Attempt, Fault, Faults, run_virtual
from lmaas_sdk.traffic.concurrency import AdaptiveConcurrency


class SetClock:
    """A clock that is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_it_is_halved_once_for_all_that_were_sent_before() -> None:
    """Refusals of one round are one piece of news, however late; the next round is another, after a second."""
    clock = SetClock()
    concurrency = AdaptiveConcurrency(16, clock)
    numbers = []
    for _ in range(16):
        concurrency.enter()
        numbers.append(concurrency.number)
    assert not concurrency.has_room
    for number in numbers:
        clock.now += 2
        concurrency.refused(number)
    assert concurrency.limit == 8
    clock.now = 0.0
    concurrency = AdaptiveConcurrency(8, clock)
    for clock.now in (0.0, 0.5, 1.5, 1.6):
        concurrency.enter()
        concurrency.refused(concurrency.number)
    assert concurrency.limit == 2


def test_so_many_answers_as_the_limit_raise_it_by_one_up_to_the_maximum() -> None:
    """Additive increase."""
    concurrency = AdaptiveConcurrency(4, SetClock())
    concurrency.enter()
    concurrency.refused(1)
    limits = []
    for _ in range(12):
        concurrency.enter()
        concurrency.leave(concurrency.number, answered=True)
        limits.append(concurrency.limit)
    assert limits == [2, 2, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4]


def test_it_never_falls_below_one() -> None:
    """Somebody has to find out that the storm is over."""
    clock = SetClock()
    concurrency = AdaptiveConcurrency(8, clock)
    for second in range(20):
        clock.now = 2.0 * second
        concurrency.enter()
        concurrency.refused(concurrency.number)
    assert (concurrency.limit, concurrency.has_room) == (1, True)


async def load(client: Client, until_s: float) -> list[float]:
    """When calls were answered, of 32 callers that ask without a pause."""
    clock, answered_s = asyncio.get_running_loop().time, list[float]()
    numbers = iter(range(10**6))

    async def caller() -> None:
        while clock() < until_s:
            number = next(numbers)
            z = np.full((1, SUBSPACE.d), number, np.float32)
            call = client.call(
                ScoreQuery(TEXTS, subspace=SUBSPACE, Z=z), f"{number}", purpose="train", token_counts=COUNTS
            )
            await client.score(call)
            answered_s.append(clock())

    async with asyncio.TaskGroup() as group:
        for _ in range(32):
            group.create_task(caller())
    return answered_s


async def arrivals(client: Client, every_s: float, until_s: float) -> list[float]:
    """When calls were answered that come one after the other, whatever becomes of those before."""
    clock, answered_s = asyncio.get_running_loop().time, list[float]()

    async def one(number: int) -> None:
        z = np.full((1, SUBSPACE.d), number, np.float32)
        query = ScoreQuery(TEXTS, subspace=SUBSPACE, Z=z)
        await client.score(client.call(query, f"{number}", purpose="train", token_counts=COUNTS))
        answered_s.append(clock())

    tasks = []
    while clock() < until_s:
        tasks.append(asyncio.create_task(one(len(tasks))))
        await asyncio.sleep(every_s)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return answered_s


@pytest.mark.parametrize(
    ("limits", "latency_s", "every_s"),
    [
        (Limits(requests_per_minute=600, concurrency=40), 3.0, 0.09),
        (Limits(concurrency=16), 4.0, 0.24),
        (Limits(concurrency=40), 3.0, 0.07),
    ],
    ids=["a rate", "places", "many places"],
)
def test_after_a_storm_of_429s_the_rate_is_back_within_a_minute(
    limits: Limits, latency_s: float, every_s: float
) -> None:
    """Twenty seconds of 429s alone, every fifth of them with ten minutes to wait; then 90 % of what is allowed."""

    async def main() -> tuple[int, float, float]:
        clock, refused = asyncio.get_running_loop().time, 0

        def storm(attempt: Attempt) -> Fault | None:
            nonlocal refused
            if not 100 <= clock() < 120:
                return None
            refused += 1
            return Fault("rate_limit", retry_after_s=600.0 if refused % 5 == 0 else 1.0)

        backend = MockBackend(limits=limits, latency_s=latency_s, faults=Faults(plan=storm))
        answered_s = await arrivals(Client(backend, Budget()), every_s, 240)
        allowed = min(limits.requests_per_minute or 10**6, 60 / latency_s * (limits.concurrency or 0))
        before, after = (sum(at_s <= when_s < at_s + 60 for when_s in answered_s) for at_s in (40, 180))
        return refused, before / allowed, after / allowed

    refused, before, after = run_virtual(main())
    assert refused > 100
    assert before >= 0.9
    assert after >= 0.9


def test_what_a_storm_took_is_back_soon_and_what_the_provider_does_not_bear_is_not() -> None:
    """Halved without an answer in between, it rises by one for each answer to where it was; with one, it does not."""
    clock = SetClock()

    def refuse(concurrency: AdaptiveConcurrency) -> None:
        clock.now += 2
        concurrency.enter()
        concurrency.refused(concurrency.number)

    def answers(concurrency: AdaptiveConcurrency, count: int) -> int:
        for _ in range(count):
            concurrency.enter()
            concurrency.leave(concurrency.number, answered=True)
        return concurrency.limit

    storm, slow = AdaptiveConcurrency(64, clock), AdaptiveConcurrency(64, clock)
    for _ in range(6):
        refuse(storm)
    assert [storm.limit, answers(storm, 31), answers(storm, 32), answers(storm, 99)] == [1, 32, 64, 64]
    refuse(storm)
    assert [storm.limit, answers(storm, 31), answers(storm, 3)] == [32, 32, 33]
    for _ in range(5):
        refuse(slow)
        answers(slow, 1)
    assert [slow.limit, answers(slow, 1)] == [2, 3]


def test_a_call_that_is_told_to_wait_an_hour_waits_alone() -> None:
    """The others go on, at the rate that they had."""

    async def main() -> tuple[int, float, int]:
        clock = asyncio.get_running_loop().time

        def once(attempt: Attempt) -> Fault | None:
            is_first = attempt.key == "5" and attempt.nth == 0
            return Fault("rate_limit", retry_after_s=3600.0) if is_first else None

        backend = MockBackend(limits=Limits(concurrency=8), latency_s=1.0, faults=Faults(plan=once))
        answered_s = await load(Client(backend, Budget()), 120)
        return sum(60 <= when_s < 120 for when_s in answered_s), round(clock()), backend.book.by_key["5"]

    assert run_virtual(main()) == (8 * 60, 3601, 2)


def test_a_limit_that_changes_holds_from_then_on() -> None:
    """More is learned from answers; fewer at once."""
    concurrency = AdaptiveConcurrency(16, SetClock())
    limits = []
    for most in (4, 16, 32, 2):
        concurrency.allow(most)
        limits.append(concurrency.limit)
    concurrency.enter()
    concurrency.refused(1)
    concurrency.allow(8)
    assert (limits, concurrency.limit) == ([4, 16, 32, 2], 1)


@pytest.mark.parametrize("given", ["by the card", "by the user"])
def test_the_provider_has_nothing_to_refuse_and_its_quota_is_used_up(given: str) -> None:
    """Requests and tokens a minute, with latencies at random: no 429, and 95 % of what is allowed."""

    async def main() -> tuple[int, float]:
        limits = Limits(requests_per_minute=200, tokens_per_minute=150 * sum(COUNTS))
        backend = MockBackend(limits=limits, latency_s=lambda _, draw: float(draw.random() * 2))
        if given == "by the user":
            backend.card = replace(backend.card, limits=Limits())
        client = Client(backend, Budget(), quotas=limits if given == "by the user" else None)
        answered_s = await load(client, 600)
        return backend.book.limited, sum(120 <= when_s < 600 for when_s in answered_s) / (150 * 8)

    limited, share = run_virtual(main())
    assert limited == 0
    assert share >= 0.95


def test_tokens_are_taken_by_what_was_used() -> None:
    """Where answers take a third of the worst case, three times as many calls fit; the provider counts what is used."""

    async def main() -> tuple[int, float]:
        tokens = sum(COUNTS)
        backend = MockBackend(limits=Limits(tokens_per_minute=60 * tokens), latency_s=0.3)
        client, clock = Client(backend, Budget()), asyncio.get_running_loop().time
        numbers, sent = iter(range(10**6)), 0

        async def caller() -> None:
            nonlocal sent
            while clock() < 600:
                number = next(numbers)
                query = ScoreQuery(TEXTS, subspace=SUBSPACE, Z=np.full((1, SUBSPACE.d), number, np.float32))
                worst = [3 * count for count in COUNTS]
                await client.score(client.call(query, f"{number}", purpose="train", token_counts=worst))
                sent += 120 <= clock() < 600

        async with asyncio.TaskGroup() as group:
            for _ in range(32):
                group.create_task(caller())
        return backend.book.limited, sent / (60 * 8)

    limited, share = run_virtual(main())
    assert limited == 0
    assert share >= 0.95
