"""A run that is stopped, cancelled, or out of quota for the day."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from tuning_cases import DEV, SMALL, TEST, TRAIN, mock

from lmaas_backends.mock import MockBackend
from lmaas_sdk import Budget, Limits, Scheduling, Tuner, TuningResult
from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.testing import run_virtual
from lmaas_sdk.tuning.events import Event, GenerationDone, Waiting

NOTHING = Amounts()
ZONE = "Europe/Berlin"


def check_nothing_is_left(backend: MockBackend, budget: Budget) -> None:
    """No reservation, no call under way, no task but this one, and no bill that was not booked."""
    assert (NOTHING, 0, 1) == (budget.pending, backend.book.in_flight, len(asyncio.all_tasks()))
    assert backend.book.tokens <= budget.posted.tokens


def an_hour_away() -> tuple[MockBackend, Budget]:
    """Three calls go through; the next one waits for an hour."""
    limits = Limits(requests_per_day=3)
    return mock(limits=limits, latency_s=1.0), Budget(evaluations=80)


def test_a_stop_is_heard_within_ten_seconds_of_an_hour_long_wait() -> None:
    """There is a result, and nothing is left behind."""

    async def main() -> tuple[TuningResult, float]:
        backend, budget = an_hour_away()
        tuner, clock = Tuner(backend, budget=budget, preset=SMALL), asyncio.get_running_loop().time
        asyncio.get_running_loop().call_later(100, tuner.stop)
        result = await tuner.fit(TRAIN, DEV, test=TEST)
        check_nothing_is_left(backend, budget)
        return result, clock()

    result, seconds = run_virtual(main())
    assert ("interrupted", 3, None, None) == (result.stopped, len(result.generations), result.test, result.failure)
    assert 100 <= seconds <= 110.1


def test_a_cancellation_after_the_stop_ends_it_at_once() -> None:
    """The second signal: nobody waits for the ten seconds, and nothing is left behind."""

    async def main() -> float:
        backend, budget = an_hour_away()
        tuner, loop = Tuner(backend, budget=budget, preset=SMALL), asyncio.get_running_loop()
        task = asyncio.create_task(tuner.fit(TRAIN, DEV, test=TEST))
        loop.call_later(100, tuner.stop)
        loop.call_later(102, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        check_nothing_is_left(backend, budget)
        return loop.time()

    assert 102 == run_virtual(main())


def test_a_signal_of_the_operating_system_may_stop_it() -> None:
    """As a program does it: the handler is `Tuner.stop`."""

    async def main() -> TuningResult:
        tuner = Tuner(mock(), budget=Budget(evaluations=8000), preset=SMALL)
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, tuner.stop)

        def listener(event: Event) -> None:
            if isinstance(event, GenerationDone) and event.generation == 1:
                signal.raise_signal(signal.SIGUSR1)

        return await tuner.fit(TRAIN, on_event=listener)

    result = asyncio.run(main())
    assert "interrupted" == result.stopped
    assert len(result.generations) < 1000


def test_a_stop_is_heard_while_the_lowest_are_scored_again() -> None:
    """Where float32 decides at the end, and that waits for a quota."""

    async def main() -> tuple[TuningResult, float]:
        backend = mock(precision="bfloat16", limits=Limits(requests_per_day=3))
        tuner = Tuner(backend, budget=Budget(evaluations=28), preset=SMALL)
        asyncio.get_running_loop().call_later(100, tuner.stop)
        return await tuner.fit(TRAIN), asyncio.get_running_loop().time()

    result, seconds = run_virtual(main())
    assert ("interrupted", 3) == (result.stopped, len(result.generations))
    assert 100 <= seconds <= 110.1


async def a_turn() -> None:
    """One turn of the loop in which no thread is at work: those in which one is are all alike."""
    loop: Any = asyncio.get_running_loop()
    await asyncio.sleep(0)
    while loop._threads:  # noqa: ASYNC110  (a thread sets no event)
        await asyncio.sleep(0)


def has_begun(journal: Path) -> bool:
    """Whether a journal has its first line."""
    return journal.exists() and journal.stat().st_size > 0


@pytest.fixture
def threads_come_in() -> Iterator[None]:
    """Threads need not wait long for a loop that turns round."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


SCHEDULINGS: list[dict[str, Any]] = [
    {},
    {"stragglers": "drop"},
    {"stragglers": "hedge", "most_hedged": 1.0},
    {"over_ask": 2, "failed": "resample"},
]


@pytest.mark.parametrize("scheduling", SCHEDULINGS, ids=["wait", "drop", "hedge", "over-ask"])
@pytest.mark.usefixtures("threads_come_in")
@pytest.mark.parametrize("is_raced", [False, True], ids=["plain", "raced"])
@pytest.mark.parametrize("step", [17, pytest.param(1, marks=pytest.mark.long)], ids=["some", "all"])
def test_a_cancellation_after_any_number_of_turns_leaves_nothing(
    scheduling: dict[str, Any], is_raced: bool, step: int, tmp_path: Path
) -> None:
    """Up to two hundred, with a journal, which another run has at once and goes on with."""
    preset = replace(SMALL, racing="on" if is_raced else "off", dev_every=1)

    async def main(turns: int) -> bool:
        path, backend = tmp_path / f"{turns}.journal", mock(max_candidates=3)
        budget = Budget(evaluations=24)
        options: dict[str, Any] = {"preset": preset, "scheduling": Scheduling(**scheduling)}
        tuner = Tuner(backend, budget=budget, journal=path, **options)
        task = asyncio.create_task(tuner.fit(TRAIN, DEV, test=TEST))
        for _ in range(turns):
            await a_turn()
        task.cancel()
        await asyncio.wait([task])
        check_nothing_is_left(backend, budget)
        if turns % 2 == 0 and await asyncio.to_thread(has_begun, path):
            resumed = await asyncio.to_thread(lambda: Tuner.resume(path, backend))
            assert "budget" == (await resumed.fit(TRAIN, DEV, test=TEST)).stopped
        return task.cancelled()

    cancelled = [run_virtual(main(turns)) for turns in range(0, 201, step)]
    assert sum(cancelled) >= len(cancelled) / 3


@pytest.mark.parametrize("max_wait_s", [None, 60.0])
def test_a_quota_that_ends_for_the_day_is_waited_for_or_ends_the_run(max_wait_s: float | None, tmp_path: Path) -> None:
    """It waits for midnight in the provider's time zone; or stops, and goes on the next day to the same bytes."""
    opened = datetime(2026, 3, 28, 20, tzinfo=ZoneInfo(ZONE))  # the night in which the clocks change

    async def main() -> tuple[TuningResult, TuningResult, float, list[Event]]:
        loop, path, events = asyncio.get_running_loop(), tmp_path / "run.journal", list[Event]()
        calm = await Tuner(mock(), budget=Budget(evaluations=80), preset=SMALL).fit(TRAIN, DEV, test=TEST)
        backend = mock(limits=Limits(requests_per_day=5, day_time_zone=ZONE), opened=opened, latency_s=1.0)
        tuner = Tuner(backend, budget=Budget(evaluations=80), preset=SMALL, journal=path)
        result = await tuner.fit(TRAIN, DEV, test=TEST, max_wait_s=max_wait_s, on_event=events.append)
        while max_wait_s is not None and result.stopped == "quota":
            assert 0 < len(result.generations) <= 10
            assert result.prompt is not None
            await asyncio.sleep(86_400)
            again = await asyncio.to_thread(lambda: Tuner.resume(path, backend))
            result = await again.fit(TRAIN, DEV, test=TEST, max_wait_s=max_wait_s, on_event=events.append)
        return calm, result, loop.time(), events

    calm, result, seconds, events = run_virtual(main())
    assert calm.core.to_bytes() == result.core.to_bytes()
    assert (calm.stopped, calm.test, calm.spent.tokens) == (result.stopped, result.test, result.spent.tokens)
    waits = [event for event in events if isinstance(event, Waiting)]
    if max_wait_s is None:
        assert 4 * 3600 < seconds < 4 * 3600 + 2 * 86_400
        assert max(event.seconds for event in waits) > 3 * 3600
    else:
        assert all(event.seconds <= max_wait_s for event in waits)
