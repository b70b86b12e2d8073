"""The gate in front of an endpoint: first come first served, and nothing left of whoever goes away."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable

import pytest

from lmaas_sdk.backend import Limits
from lmaas_sdk.errors import QuotaExceeded
from lmaas_sdk.testing import run_virtual
from lmaas_sdk.traffic.concurrency import AdaptiveConcurrency
from lmaas_sdk.traffic.gate import Gate, Permit
from lmaas_sdk.traffic.lane import loop_wall
from lmaas_sdk.traffic.quota import MARGIN_S
from lmaas_sdk.traffic.quota_memory import MemoryQuota

MINUTE = 60 + MARGIN_S


def new_gate(most: int = 16) -> Gate:
    """A gate of the running loop."""
    clock = asyncio.get_running_loop().time
    return Gate(MemoryQuota(loop_wall()), AdaptiveConcurrency(most, clock))


async def through(gate: Gate, tokens: int, limits: Limits, log: list[tuple[float, int]]) -> Permit:
    """Goes through, and notes when."""
    permit = await gate.enter(tokens, limits)
    log.append((round(asyncio.get_running_loop().time(), 6), tokens))
    return permit


def times_of(limits: Limits, tokens: list[int], settle: Callable[[Permit], None] = lambda _: None) -> list[float]:
    """When requests that all come at once go out."""

    async def main() -> list[float]:
        gate, log = new_gate(100), list[tuple[float, int]]()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(through(gate, amount, limits, log)) for amount in tokens]
            for task in tasks:
                task.add_done_callback(lambda done: settle(done.result()))
        assert [amount for _, amount in log] == tokens
        return [when_s for when_s, _ in log]

    return run_virtual(main())


def test_requests_a_minute_go_out_as_early_as_they_may() -> None:
    """So many at once, the next as soon as the first no longer counts."""
    assert times_of(Limits(requests_per_minute=2), [1] * 5) == [0, 0, MINUTE, MINUTE, 2 * MINUTE]


def test_a_large_request_is_not_starved_by_small_ones_behind_it() -> None:
    """Who comes later waits behind it, even where it would fit now."""
    assert times_of(Limits(tokens_per_minute=100), [60, 100, 10, 10]) == [0, MINUTE, 2 * MINUTE, 2 * MINUTE]


def test_what_was_not_used_is_there_for_the_next_at_once() -> None:
    """A request that took 10 of its 60 tokens frees 50 when it is answered."""
    times = times_of(Limits(tokens_per_minute=100), [60, 60, 60], lambda permit: permit.settle(10))
    assert times == [0, 0, 0]


def test_what_was_refused_counts_nothing() -> None:
    """It gives its place back; concurrency is halved for a while, which this gate has plenty of."""
    assert times_of(Limits(requests_per_minute=1), [1, 1, 1], lambda permit: permit.refused()) == [0, 0, 0]


def test_no_more_are_under_way_than_the_limit() -> None:
    """The next goes out when one is back."""

    async def main() -> list[float]:
        gate, log = new_gate(), list[tuple[float, int]]()

        async def one(number: int) -> None:
            permit = await through(gate, number, Limits(concurrency=2), log)
            await asyncio.sleep(10)
            permit.settle(number)

        async with asyncio.TaskGroup() as group:
            for number in range(5):
                group.create_task(one(number))
        assert [number for _, number in log] == list(range(5))
        return [when_s for when_s, _ in log]

    assert run_virtual(main()) == [0, 0, 10, 10, 20]


@pytest.mark.parametrize(
    ("limits", "tokens"),
    [
        (Limits(tokens_per_minute=50), 51),
        (Limits(requests_per_minute=0), 1),
        (Limits(requests_per_day=0, day_time_zone="UTC"), 1),
        (Limits(concurrency=0), 1),
    ],
    ids=str,
)
def test_what_can_never_go_out_is_refused_at_once(limits: Limits, tokens: int) -> None:
    """No wait would help."""

    async def main() -> QuotaExceeded:
        with pytest.raises(QuotaExceeded) as refused:
            await new_gate().enter(tokens, limits)
        assert asyncio.get_running_loop().time() == 0
        return refused.value

    assert math.isinf(run_virtual(main()).wait_s)


def test_a_wait_that_is_too_long_is_not_begun() -> None:
    """It fails at once, with the seconds it would take, and who is behind it gets its place."""

    async def main() -> tuple[float, float]:
        gate, limits = new_gate(), Limits(tokens_per_minute=100)
        await gate.enter(60, limits)
        with pytest.raises(QuotaExceeded, match="max_wait_s") as refused:
            await gate.enter(60, limits, patience_s=30)
        await gate.enter(40, limits, patience_s=30)
        return refused.value.wait_s, asyncio.get_running_loop().time()

    assert run_virtual(main()) == (pytest.approx(MINUTE), 0)


def test_waiting_behind_others_is_waiting_too() -> None:
    """Who comes while the first waits for longer than it would is refused at once; who stands there already, too, as
    soon as the waits before it come to more than its patience; who has the patience goes through."""

    async def main() -> list[tuple[str, float]]:
        gate, limits, ends = new_gate(), Limits(requests_per_minute=1), list[tuple[str, float]]()
        clock = asyncio.get_running_loop().time

        async def one(name: str, patience_s: float | None) -> None:
            try:
                await gate.enter(1, limits, patience_s=patience_s)
            except QuotaExceeded as refused:
                name += f" waits {refused.wait_s:.0f}"
            ends.append((name, round(clock())))

        async with asyncio.TaskGroup() as group:
            for name, patience_s in (("a", None), ("b", None), ("c", 90.0), ("d", 150.0), ("e", 30.0)):
                group.create_task(one(name, patience_s))
            await asyncio.sleep(20)
            for name, patience_s in (("f", 39.0), ("g", 45.0), ("h", 400.0)):
                group.create_task(one(name, patience_s))
        return ends

    assert run_virtual(main()) == [
        ("a", 0),
        ("e waits 60", 0),
        ("f waits 40", 20),
        ("b", 60),
        ("c waits 60", 60),
        ("g waits 60", 60),
        ("d", 120),
        ("h", 181),
    ]


def test_who_stands_in_line_hears_of_a_wait_that_is_too_long() -> None:
    """As soon as the first in line does, which has waited for a place until then."""

    async def main() -> float:
        gate, limits = new_gate(1), Limits(requests_per_minute=1)
        permit = await gate.enter(1, limits)
        first, second = (asyncio.create_task(gate.enter(1, limits, patience_s=most_s)) for most_s in (None, 30))
        await asyncio.sleep(10)
        permit.settle(1)
        with pytest.raises(QuotaExceeded):
            await second
        first.cancel()
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 10


def test_waiting_for_a_place_needs_no_patience() -> None:
    """It has no known end, and is not what max_wait_s is about."""

    async def main() -> float:
        gate, limits = new_gate(), Limits(concurrency=1)
        clock = asyncio.get_running_loop().time

        async def one() -> None:
            permit = await gate.enter(1, limits, patience_s=5)
            await asyncio.sleep(10)
            permit.settle(1)

        async with asyncio.TaskGroup() as group:
            for _ in range(6):
                group.create_task(one())
        return clock()

    assert run_virtual(main()) == 60


def test_cancelling_the_first_in_line_lets_the_next_go_first() -> None:
    """Also at the moment at which its turn came."""

    async def main() -> list[float]:
        gate, limits, log = new_gate(), Limits(requests_per_minute=1), list[tuple[float, int]]()
        tasks = [asyncio.create_task(through(gate, number, limits, log)) for number in range(5)]
        await asyncio.sleep(1)
        tasks[1].cancel()
        tasks[3].cancel()
        await asyncio.sleep(0)
        tasks[2].cancel()
        await asyncio.wait(tasks)
        assert [number for _, number in log] == [0, 4]
        return [when_s for when_s, _ in log]

    assert run_virtual(main()) == [0, MINUTE]


def test_a_permit_is_used_once() -> None:
    """A second answer to the same request would free a place that another one has."""

    async def main() -> None:
        permit = await new_gate().enter(1, Limits())
        permit.settle(1)
        for again in (permit.refused, permit.give_back, lambda: permit.settle(None)):
            with pytest.raises(RuntimeError, match="used once"):
                again()

    run_virtual(main())


def test_before_wait_is_told_and_may_end_it() -> None:
    """What it raises comes out, and nothing is left."""

    async def main() -> tuple[list[float], float]:
        gate, limits, told = new_gate(), Limits(requests_per_minute=1), list[float]()
        await gate.enter(1, limits)

        def refuse(wait_s: float) -> None:
            told.append(round(wait_s, 6))
            raise ValueError("no time")

        with pytest.raises(ValueError, match="no time"):
            await gate.enter(1, limits, before_wait=refuse)
        await gate.enter(1, limits, before_wait=lambda wait_s: told.append(round(wait_s, 6)))
        return told, asyncio.get_running_loop().time()

    assert run_virtual(main()) == ([MINUTE, MINUTE], pytest.approx(MINUTE))


class Looking(MemoryQuota):
    """A count that is looked into every ten seconds, as one that others share is."""

    def pause_s(self, wait_s: float) -> float:
        return min(wait_s, 10.0)


@pytest.mark.parametrize("book", [MemoryQuota, Looking])
def test_before_wait_is_told_of_every_wait(book: type[MemoryQuota]) -> None:
    """One that turns out longer is another wait when the first is over; one that is looked into is not. So what is told
    comes to what is waited."""

    async def main() -> tuple[list[tuple[float, float]], float]:
        clock, told = asyncio.get_running_loop().time, list[tuple[float, float]]()
        gate, limits = Gate(book(loop_wall()), AdaptiveConcurrency(16, clock)), Limits(tokens_per_minute=100)
        await gate.enter(40, limits)
        await asyncio.sleep(30)
        second = await gate.enter(20, limits)
        third = await gate.enter(1, limits)
        await asyncio.sleep(10)
        waiting = asyncio.create_task(
            gate.enter(60, limits, before_wait=lambda wait_s: told.append((round(clock(), 6), round(wait_s, 6))))
        )
        await asyncio.sleep(5)
        third.give_back()  # changes nothing
        await asyncio.sleep(5)
        second.settle(60)  # it took more than it was let through for
        await waiting
        return told, round(clock(), 6)

    assert run_virtual(main()) == ([(40, MINUTE - 40), (MINUTE, 30)], 30 + MINUTE)


@pytest.mark.parametrize("seed", range(4))
def test_a_thousand_random_cancellations_leave_nothing(seed: int) -> None:
    """While they wait in line, for the quota, for a place, or are under way; the limit holds all the time."""
    draw = random.Random(seed)
    limits = Limits(requests_per_minute=50, tokens_per_minute=600, concurrency=5)

    async def main() -> tuple[int, int]:
        gate, sent, under_way, most = new_gate(), list[tuple[float, int]](), 0, 0
        clock = asyncio.get_running_loop().time

        async def one(tokens: int) -> None:
            nonlocal under_way, most
            permit = await gate.enter(tokens, limits)
            under_way += 1
            most = max(most, under_way)
            sent.append(entry := (clock(), tokens))
            try:
                await asyncio.sleep(draw.random() * 3)
            finally:
                under_way -= 1
                if draw.random() < 0.2:
                    permit.give_back()
                    sent.remove(entry)
                else:
                    permit.settle(draw.choice([tokens, None]))

        tasks = []
        for _ in range(1000):
            tasks.append(asyncio.create_task(one(draw.randrange(1, 40))))
            asyncio.get_running_loop().call_later(draw.random() * 60, tasks[-1].cancel)
            await asyncio.sleep(draw.random() * 0.5)
        await asyncio.wait(tasks)
        assert not gate._line
        for when_s, _ in sent:
            within = [tokens for at_s, tokens in sent if when_s <= at_s < when_s + 60]
            assert len(within) <= 50
            assert sum(within) <= 600
        assert len(asyncio.all_tasks()) == 1
        await asyncio.sleep(61)
        for _ in range(5):
            await gate.enter(120, limits)
        assert clock() - sent[-1][0] < 200
        return sum(task.cancelled() for task in tasks), most

    cancelled, most = run_virtual(main())
    assert cancelled > 300
    assert most == 5
