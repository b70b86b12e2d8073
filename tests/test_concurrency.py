"""Adaptive concurrency: halved once by a storm, back soon after it, and never frozen by one who waits."""

from __future__ import annotations

import asyncio

import numpy as np
from client_cases import COUNTS, SUBSPACE, TEXTS

from lmaas_backends.mock import MockBackend
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.backend import Limits, ScoreQuery
from lmaas_sdk.client import Client
from lmaas_sdk.testing import Fault, Faults, run_virtual
from lmaas_sdk.traffic.concurrency import AdaptiveConcurrency


class SetClock:
    """A clock that is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_it_is_halved_once_for_all_that_were_sent_before() -> None:
    """Sixteen refusals of one round are one piece of news; one of the next round is another, after the cool-down."""
    clock = SetClock()
    concurrency = AdaptiveConcurrency(16, clock)
    numbers = []
    for _ in range(16):
        concurrency.enter()
        numbers.append(concurrency.number)
    assert not concurrency.has_room
    for number in numbers:
        concurrency.refused(number)
    assert concurrency.limit == 8
    for clock.now in (0.5, 1.5):
        concurrency.enter()
        concurrency.refused(concurrency.number)
    assert concurrency.limit == 4


def test_so_many_answers_as_the_limit_raise_it_by_one_up_to_the_maximum() -> None:
    """Additive increase."""
    concurrency = AdaptiveConcurrency(4, SetClock())
    concurrency.enter()
    concurrency.refused(1)
    limits = []
    for _ in range(12):
        concurrency.enter()
        concurrency.leave(answered=True)
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


def test_after_a_storm_of_429s_the_rate_is_back_within_a_minute() -> None:
    """Twenty seconds of nothing but 429s, every fifth of them with an hour to wait; then 90 % of what is allowed."""

    async def main() -> tuple[float, float]:
        clock = asyncio.get_running_loop().time

        def storm(attempt: object) -> Fault | None:
            if not 100 <= clock() < 120:
                return None
            return Fault("rate_limit", retry_after_s=3600.0 if attempt.number % 5 == 0 else 1.0)  # type: ignore[attr-defined]

        backend = MockBackend(limits=Limits(requests_per_minute=600), latency_s=0.5, faults=Faults(plan=storm))
        client = Client(backend, Budget())
        answered_s = await load(client, 400)
        before = sum(40 <= when_s < 100 for when_s in answered_s)
        after = sum(180 <= when_s < 240 for when_s in answered_s)
        return before / 600, after / 600

    before, after = run_virtual(main())
    assert before >= 0.9
    assert after >= 0.9


def test_the_provider_has_nothing_to_refuse_and_its_quota_is_used_up() -> None:
    """Requests and tokens a minute, with latencies at random: no 429, and 95 % of what is allowed."""

    async def main() -> tuple[int, float]:
        tokens = sum(COUNTS)
        backend = MockBackend(
            limits=Limits(requests_per_minute=200, tokens_per_minute=150 * tokens),
            latency_s=lambda _, draw: float(draw.random() * 2),
        )
        answered_s = await load(Client(backend, Budget()), 600)
        return backend.book.limited, sum(120 <= when_s < 600 for when_s in answered_s) / (150 * 8)

    limited, share = run_virtual(main())
    assert limited == 0
    assert share >= 0.95
