"""How long calls wait, and what for."""

from __future__ import annotations

import asyncio

import pytest
from tuning_cases import SMALL, TRAIN, mock

from lmaas_sdk import Budget, Limits, RetryPolicy, Tuner, TunerGroup, TuningResult
from lmaas_sdk.errors import RateLimited
from lmaas_sdk.testing import Attempt, Fault, Faults, run_virtual
from lmaas_sdk.traffic.concurrency import AdaptiveConcurrency
from lmaas_sdk.traffic.gate import Gate
from lmaas_sdk.traffic.lane import loop_wall
from lmaas_sdk.traffic.quota import MARGIN_S
from lmaas_sdk.traffic.quota_memory import MemoryQuota
from lmaas_sdk.traffic.retry import Patience
from lmaas_sdk.traffic.waits import CAUSES, Cause, WaitMeter
from lmaas_sdk.tuning.events import Event, Waiting

MINUTE = 60 + MARGIN_S


def waited(found: dict[Cause, float] | object) -> dict[str, float]:
    """The causes that took any time, to the microsecond."""
    assert isinstance(found, dict)
    assert set(CAUSES) == found.keys()
    return {cause: round(seconds, 6) for cause, seconds in found.items() if seconds}


def test_waits_side_by_side_count_once() -> None:
    """0 .. 3 and 2 .. 6 are six seconds; another cause counts by itself, and what is under way counts."""

    async def main() -> list[dict[str, float]]:
        meter, seen = WaitMeter(), []

        async def wait(after_s: float, seconds: float, cause: Cause) -> None:
            await asyncio.sleep(after_s)
            with meter.during(cause):
                await asyncio.sleep(seconds)

        async with asyncio.TaskGroup() as group:
            for after_s, seconds in ((0, 3), (2, 4), (10, 1)):
                group.create_task(wait(after_s, seconds, "quota"))
            group.create_task(wait(1, 1, "retry"))
            await asyncio.sleep(4)
            seen.append(waited(meter.seconds()))
        return [*seen, waited(meter.seconds())]

    assert run_virtual(main()) == [{"quota": 4.0, "retry": 1.0}, {"quota": 7.0, "retry": 1.0}]


def test_a_cancelled_wait_counts_until_then() -> None:
    """Of the hour that a call was told to wait, two seconds."""

    async def main() -> dict[str, float]:
        meter = WaitMeter()

        async def attempt() -> None:
            raise RateLimited("429", retry_after_s=3600)

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await Patience(RetryPolicy(), meter=meter).call(attempt)
        await asyncio.sleep(5)
        return waited(meter.seconds())

    assert run_virtual(main()) == {"rate_limit": 2.0}


def test_who_stands_in_line_behind_a_wait_waits_too() -> None:
    """Each client counts its own: one is told of the wait, the others stand behind it and came half a minute later."""

    async def main() -> list[dict[str, float]]:
        gate = Gate(MemoryQuota(loop_wall()), AdaptiveConcurrency(16, asyncio.get_running_loop().time))
        limits, meters = Limits(requests_per_minute=1), [WaitMeter() for _ in range(4)]
        for permit in [await gate.enter(1, limits, meter=meters[0])]:
            permit.settle(1)
        async with asyncio.TaskGroup() as group:
            group.create_task(gate.enter(1, limits, meter=meters[1]))
            await asyncio.sleep(30)
            for meter in meters[2:]:
                group.create_task(gate.enter(1, limits, meter=meter))
        return [waited(meter.seconds()) for meter in meters]

    none, first, second, third = run_virtual(main())
    assert (none, first) == ({}, {"quota": MINUTE})
    assert (second, third) == ({"quota": 2 * MINUTE - 30}, {"quota": 3 * MINUTE - 30})


def test_a_wait_for_the_quota_that_ends_early_counts_as_long_as_it_was() -> None:
    """Tokens come back after a second, and nobody has waited for the minute that was announced."""

    async def main() -> dict[str, float]:
        gate = Gate(MemoryQuota(loop_wall()), AdaptiveConcurrency(16, asyncio.get_running_loop().time))
        limits, meter = Limits(tokens_per_minute=100), WaitMeter()
        permit = await gate.enter(100, limits)
        asyncio.get_running_loop().call_later(1.0, permit.settle, 10)
        await gate.enter(80, limits, meter=meter)
        return waited(meter.seconds())

    assert run_virtual(main()) == {"quota": 1.0}


def fit(backend: object, *, evaluations: int, retry: RetryPolicy | None = None) -> tuple[TuningResult, list[Waiting]]:
    """A run in virtual time, and the waits that it told of."""
    events: list[Event] = []

    async def main() -> TuningResult:
        tuner = Tuner(backend, budget=Budget(evaluations=evaluations), preset=SMALL, retry=retry)  # type: ignore[arg-type]
        return await tuner.fit(TRAIN, on_event=events.append)

    result = run_virtual(main())
    return result, [event for event in events if isinstance(event, Waiting)]


def test_a_result_says_what_the_quota_took() -> None:
    """Two calls a minute, three generations: one wait of a minute, in the result, its JSON and its last generation."""
    result, events = fit(mock(limits=Limits(requests_per_minute=2)), evaluations=24)
    assert {"quota": MINUTE} == pytest.approx(waited(result.waits))
    assert ["quota"] == [event.cause for event in events]
    assert {"quota": round(MINUTE, 3), "rate_limit": 0, "retry": 0, "outage": 0, "turn": 0} == pytest.approx(
        result.to_dict()["waits"]
    )
    assert result.waits == result.generations[-1].waits
    assert waited(result.generations[1].waits) == {}


def faults(attempt: Attempt) -> Fault | None:
    """A 429 that asks for 7 s, and a failure that asks for 3 s."""
    return {1: Fault("rate_limit", retry_after_s=7.0), 3: Fault("server_fault", retry_after_s=3.0)}.get(attempt.number)


def test_a_429_and_another_failure_are_told_apart() -> None:
    """Each by its cause, as event and as seconds."""
    result, events = fit(mock(faults=Faults(plan=faults)), evaluations=24)
    assert {"rate_limit": 7.0, "retry": 3.0} == waited(result.waits)
    assert [("rate_limit", 7.0), ("retry", 3.0)] == [(event.cause, event.seconds) for event in events]


def test_a_backend_that_is_away_is_an_outage() -> None:
    """Calls that may not be tried again are asked for anew; that they wait for that is no retry."""
    away = Faults(plan=lambda attempt: "refused" if 2 <= attempt.number < 5 else None)
    result, events = fit(mock(faults=away), evaluations=24, retry=RetryPolicy(attempts=1))
    assert {"outage"} == waited(result.waits).keys() == {event.cause for event in events}
    assert sum(event.seconds for event in events) == pytest.approx(result.waits["outage"])


def test_runs_of_a_group_wait_for_each_other() -> None:
    """On one place, each of two runs waits for its turn while the other one has it, and for nothing else."""

    async def main() -> list[dict[str, float]]:
        backend = mock(latency_s=1.0, limits=Limits(concurrency=1))
        group = TunerGroup(budget=Budget(evaluations=160))
        for seed in (1, 2):
            group.add(f"seed-{seed}", backend, TRAIN, preset=SMALL, seed=seed)
        return [waited(run.waits) for run in (await group.fit()).values()]

    first, second = run_virtual(main())
    assert {"turn"} == first.keys() == second.keys()
    assert first["turn"] == pytest.approx(10, abs=1)
    assert second["turn"] == pytest.approx(10, abs=1)
