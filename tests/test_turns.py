"""Turns: everybody who waits gets his part, by priority, of a quota or of a backend's places."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmaas_sdk import Amounts, Limits
from lmaas_sdk.testing import run_virtual
from lmaas_sdk.traffic.concurrency import AdaptiveConcurrency
from lmaas_sdk.traffic.gate import Gate
from lmaas_sdk.traffic.quota_memory import MemoryQuota
from lmaas_sdk.tuning.turns import Flow, Turns


@dataclass
class Provider:
    """A backend behind its gate, and what every run has got of it."""

    limits: Limits
    places: int = 1000
    latency_s: float = 0.5
    got: Counter[int] = field(default_factory=Counter)
    requests: Counter[int] = field(default_factory=Counter)
    most_at_once: int = 0

    def __post_init__(self) -> None:
        clock = asyncio.get_running_loop().time
        self.turns = Turns(self.limits, self.places)
        self.gate = Gate(MemoryQuota(clock), AdaptiveConcurrency(self.places, clock))
        self._at_once = 0

    async def call(self, flow: Flow, run: int, tokens: int) -> None:
        permit = await self.gate.enter(tokens, self.limits)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            with flow.in_flight():
                await asyncio.sleep(self.latency_s)
        except asyncio.CancelledError:
            permit.give_back()
            raise
        finally:
            self._at_once -= 1
        permit.settle(tokens)
        self.got[run] += tokens
        self.requests[run] += 1

    def flow(self, run: int, priority: float) -> Flow:
        return Flow(self.turns, priority, lambda: Amounts(calls=self.requests[run], tokens=self.got[run]))

    async def generations(
        self, run: int, priority: float, *, from_s: float = 0.0, until_s: float, tokens: int = 1
    ) -> None:
        """One run that always wants more, between two moments."""
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(from_s)
        flow = self.flow(run, priority)
        while clock() < until_s:
            async with flow.turn():
                await self.call(flow, run, tokens)
        flow.end()


def shares(provider: Provider, priorities: Sequence[float]) -> list[float]:
    """What everybody got, as a multiple of the fair share."""
    unit = sum(provider.got.values()) / sum(priorities)
    return [provider.got[run] / (unit * priority) for run, priority in enumerate(priorities)]


async def contended(provider: Provider, priorities: Sequence[float], *, minutes: float) -> None:
    async with asyncio.TaskGroup() as group:
        for run, priority in enumerate(priorities):
            group.create_task(provider.generations(run, priority, until_s=60 * minutes))


@pytest.mark.parametrize("latency_s", [0.01, 0.5, 1.0])
@pytest.mark.parametrize("kind", ["requests_per_minute", "tokens_per_minute"])
def test_a_quota_is_shared_by_priority_and_used_up(latency_s: float, kind: str) -> None:
    """1:2:4 get a seventh, two and four; together all that the quota lets through."""

    async def run() -> Provider:
        provider = Provider(Limits(**{kind: 60}), latency_s=latency_s)
        await contended(provider, [1, 2, 4], minutes=20)
        return provider

    provider = run_virtual(run())
    assert shares(provider, [1, 2, 4]) == pytest.approx([1, 1, 1], abs=0.05)
    assert 0.97 * 60 * 20 < sum(provider.got.values()) <= 60 * 21


def fair(priorities: Sequence[float], total: float, most: float) -> list[float]:
    """What each gets of a total by priority where nobody can take more than `most`."""
    found = [0.0] * len(priorities)
    left = sorted(range(len(priorities)), key=lambda run: -priorities[run])
    while left:
        run = left.pop(0)
        found[run] = min(most, total * priorities[run] / (priorities[run] + sum(priorities[other] for other in left)))
        total -= found[run]
    return found


@settings(max_examples=8, deadline=None)
@given(
    priorities=st.lists(st.sampled_from([1.0, 1.5, 2.0, 4.0]), min_size=3, max_size=12),
    latency_s=st.sampled_from([0.01, 0.7, 1.9, 3.1]),
)
def test_nobody_gets_more_than_a_fifth_above_his_share(priorities: list[float], latency_s: float) -> None:
    """However slow the backend: of what the quota has left, where others cannot go faster than they are answered."""

    async def run() -> Provider:
        provider = Provider(Limits(requests_per_minute=60), latency_s=latency_s)
        await contended(provider, priorities, minutes=15)
        return provider

    provider = run_virtual(run())
    taken = sum(provider.got.values())
    slowest = max(900 / (latency_s + 1), taken / len(priorities))  # with a wait of a second for every turn
    shares = zip(fair(priorities, taken, slowest), fair(priorities, taken, taken), strict=True)
    assert all(provider.got[run] < 1.2 * max(both) + 2 for run, both in enumerate(shares))
    assert taken > 0.95 * min(900, len(priorities) * 900 / (latency_s + 0.1))


def test_a_days_quota_is_shared_by_priority() -> None:
    """1:2:4, by requests, whatever these are made of; on the first day, and after each midnight."""

    async def run() -> Provider:
        provider = Provider(Limits(requests_per_day=70), places=2)
        async with asyncio.TaskGroup() as group:
            for number, priority in enumerate([1.0, 2.0, 4.0] * 3):
                tokens = 1 if number < 3 else 2
                group.create_task(provider.generations(number, priority, until_s=6 * 86_400, tokens=tokens))
        return provider

    requests = run_virtual(run()).requests
    assert 6 * 70 <= requests.total() <= 6 * 70 + 9
    assert [20, 40, 80] * 3 == pytest.approx([requests[number] for number in range(9)], abs=2)


def test_many_runs_share_one_quota() -> None:
    """200 of them, of three priorities: none above 1.2 times its share."""
    priorities = [1.0, 2.0, 4.0, 1.0] * 50

    async def run() -> Provider:
        provider = Provider(Limits(requests_per_minute=1200), latency_s=1.0)
        await contended(provider, priorities, minutes=10)
        return provider

    provider = run_virtual(run())
    assert max(shares(provider, priorities)) < 1.2
    assert min(shares(provider, priorities)) > 0.8


def test_places_are_shared_by_priority() -> None:
    """Without a quota, what the backend computes at once is what runs take turns at: by tokens, not by turns."""

    async def run() -> Provider:
        provider = Provider(Limits(), places=2)
        sizes = {0: 10, 1: 10, 2: 30, 3: 10}
        async with asyncio.TaskGroup() as group:
            for number, tokens in sizes.items():
                priority = 2.0 if number == 3 else 1.0
                group.create_task(provider.generations(number, priority, until_s=600, tokens=tokens))
        return provider

    provider = run_virtual(run())
    assert shares(provider, [1, 1, 1, 2]) == pytest.approx([1, 1, 1, 1], abs=0.05)
    assert provider.most_at_once == 2


def test_whoever_comes_late_gets_his_part_of_what_is_left() -> None:
    """He does not make up for the time when he was not there; nor does one who pauses."""

    async def run() -> Provider:
        provider = Provider(Limits(requests_per_minute=60))
        async with asyncio.TaskGroup() as group:
            group.create_task(provider.generations(0, 1.0, until_s=1200))
            group.create_task(provider.generations(1, 1.0, until_s=1200))
            group.create_task(provider.generations(2, 1.0, from_s=600, until_s=1200))
        return provider

    got = run_virtual(run()).got
    assert [got[0], got[1], got[2]] == pytest.approx([500, 500, 200], abs=12)


def test_a_quota_that_nobody_contends_for_holds_nobody_up() -> None:
    """One run alone goes as fast as its backend answers, from the first call on."""

    async def run() -> Provider:
        provider = Provider(Limits(requests_per_minute=600), latency_s=0.2)
        await provider.generations(0, 1.0, until_s=60)
        return provider

    assert run_virtual(run()).got[0] == 300


def test_a_run_that_is_cancelled_in_line_or_in_its_turn_leaves_it_to_others() -> None:
    """Whoever is behind it goes on, and at most as many as may."""

    async def run() -> tuple[int, int]:
        provider = Provider(Limits(), places=1)
        tasks = [asyncio.create_task(provider.generations(number, 1.0, until_s=100)) for number in range(4)]
        await asyncio.sleep(10.2)
        for task in tasks[:3]:
            task.cancel()
        before = provider.got[3]
        await asyncio.wait(tasks)
        return provider.got[3] - before, provider.most_at_once

    alone, most = run_virtual(run())
    assert (alone, most) == (pytest.approx(180, abs=3), 1)


def test_a_turn_that_sends_nothing_is_no_turn() -> None:
    """Answers that were known already hold nobody up, and teach nothing of how long turns take."""

    async def run() -> float:
        turns = Turns(Limits(requests_per_minute=1), 16)
        flows = [Flow(turns, 1.0, Amounts) for _ in range(3)]
        for _ in range(100):
            for flow in flows:
                async with flow.turn():
                    await asyncio.sleep(0)
        return asyncio.get_running_loop().time()

    assert run_virtual(run()) == 0.0
