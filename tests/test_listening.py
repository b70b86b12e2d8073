"""Callbacks, plain and async, and iterating over events: in order, and nothing left behind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import nullcontext

import pytest
from tuning_cases import DEV, SMALL, TRAIN, mock

from lmaas_sdk import Budget, BudgetTooSmall, GenerationDone, GroupResult, Limits, Tuner, TunerGroup, TuningResult
from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.errors import BackendUnavailable
from lmaas_sdk.testing import run_virtual
from lmaas_sdk.tuning.events import Event
from lmaas_sdk.tuning.listening import Listening

NOTHING = Amounts()
Callback = Callable[[Event], Awaitable[None] | None]


def new_tuner(evaluations: int = 80, **options: object) -> Tuner:
    """Ten generations, a second each."""
    return Tuner(mock(latency_s=1.0, **options), budget=Budget(evaluations=evaluations), preset=SMALL)


def check_nothing_is_left(tuner: Tuner) -> None:
    """No task but this one, no reservation, no call, and no bill that was not booked."""
    backend, budget = tuner.backend, tuner.budget
    assert budget is not None
    assert (1, NOTHING, 0) == (len(asyncio.all_tasks()), budget.pending, backend.book.in_flight)  # type: ignore[attr-defined]
    assert backend.book.tokens <= budget.posted.tokens  # type: ignore[attr-defined]


def of(event: Event) -> int | None:
    return event.generation if isinstance(event, GenerationDone) else None


# -- callbacks


def test_an_async_callback_gets_every_event_in_order() -> None:
    """The same events as a plain one, one after the other, though each takes longer than a generation."""
    plain: list[Event] = []
    slow: list[Event] = []

    async def main() -> float:
        is_busy = False

        async def callback(event: Event) -> None:
            nonlocal is_busy
            assert not is_busy
            is_busy = True
            await asyncio.sleep(5)
            is_busy = False
            slow.append(event)

        await new_tuner().fit(TRAIN, DEV, on_event=plain.append)
        tuner = new_tuner()
        result = await tuner.fit(TRAIN, DEV, on_event=callback)
        check_nothing_is_left(tuner)
        return result.wall_s

    wall_s = run_virtual(main())
    assert [*map(repr, plain)] == [*map(repr, slow)]
    assert wall_s < 15  # it was not held up


def failing(at: int, error: BaseException) -> Callback:
    """A plain callback that fails at a generation."""

    def callback(event: Event) -> None:
        if of(event) == at:
            raise error

    return callback


def failing_async(at: int, error: BaseException) -> Callback:
    """The same as an async one."""

    async def callback(event: Event) -> None:
        await asyncio.sleep(0.5)
        failing(at, error)(event)

    return callback


@pytest.mark.parametrize("make", [failing, failing_async])
@pytest.mark.parametrize("at", [0, 3, 9])
@pytest.mark.parametrize("error", [LookupError("mine"), BackendUnavailable("mine"), ValueError("mine")], ids=type)
def test_what_a_callback_raises_ends_the_run(
    make: Callable[[int, BaseException], Callback], at: int, error: Exception
) -> None:
    """Even at the last generation, and even where it looks like a failure of the backend; all is booked."""

    async def main() -> None:
        tuner = new_tuner()
        with pytest.raises(type(error)) as raised:
            await tuner.fit(TRAIN, on_event=make(at, error))
        assert raised.value is error
        check_nothing_is_left(tuner)
        assert tuner.budget is not None
        assert 8 * (at + 1) <= tuner.budget.posted.evaluations <= 8 * (at + 2)

    run_virtual(main())


async def test_a_callback_that_fails_hears_no_more() -> None:
    """Its first error is its last event, though the work that tells them goes on until it can be cancelled."""
    heard: list[int] = []

    def callback(number: int) -> None:
        heard.append(number)
        raise LookupError(number)

    listening = Listening(callback)

    async def work() -> None:
        for number in range(3):
            listening.tell(number)
        await asyncio.sleep(3600)

    with pytest.raises(LookupError, match="0"):
        await listening.during(work())
    assert [0] == heard


def test_what_a_callback_raises_about_a_wait_is_not_tried_again() -> None:
    """It is told of waits from inside of a call, where a `BackendUnavailable` of its own is not the backend's."""
    heard: list[Event] = []

    def callback(event: Event) -> None:
        heard.append(event)
        if len(heard) == 4:
            raise BackendUnavailable("the dashboard's")

    async def main() -> None:
        tuner = new_tuner(limits=Limits(requests_per_minute=2))
        with pytest.raises(BackendUnavailable, match="dashboard"):
            await tuner.fit(TRAIN, on_event=callback)
        check_nothing_is_left(tuner)

    run_virtual(main())
    assert 4 == len(heard)


def test_a_callback_whose_own_task_is_cancelled_ends_the_run() -> None:
    """That is no cancellation of the run, and must not end its events in silence."""

    async def callback(event: Event) -> None:
        task = asyncio.create_task(asyncio.sleep(1))
        task.cancel()
        await task

    with pytest.raises(RuntimeError, match="was cancelled"):
        run_virtual(new_tuner().fit(TRAIN, on_event=callback))


def test_a_cancellation_ends_an_async_callback_too() -> None:
    """In the middle of an event; no other one is delivered."""
    begun: list[Event] = []

    async def callback(event: Event) -> None:
        begun.append(event)
        await asyncio.sleep(3600)

    async def main() -> None:
        tuner = new_tuner()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(4.5):
                await tuner.fit(TRAIN, on_event=callback)
        check_nothing_is_left(tuner)

    run_virtual(main())
    assert 1 == len(begun)


def test_a_callback_that_hangs_holds_up_the_end_for_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """The result is there; what was not delivered is logged."""

    async def callback(event: Event) -> None:
        if of(event) == 7:
            await asyncio.Event().wait()

    async def main() -> tuple[TuningResult, float]:
        tuner = new_tuner()
        result = await tuner.fit(TRAIN, on_event=callback)
        check_nothing_is_left(tuner)
        return result, asyncio.get_running_loop().time() - result.wall_s

    with caplog.at_level(logging.WARNING, "lmaas_sdk.tuning"):
        result, seconds = run_virtual(main())
    assert ("budget", 10) == (result.stopped, len(result.generations))
    assert 60 == pytest.approx(seconds)
    (record,) = [record for record in caplog.records if getattr(record, "lmaas_event", "") == "events_dropped"]
    assert 3 == vars(record)["lmaas_events"]  # the one that hangs, and two generations after it


def test_events_are_delivered_before_an_error_of_the_run() -> None:
    """A run that fails has told all that it had to tell."""
    heard: list[Event] = []

    async def callback(event: Event) -> None:
        await asyncio.sleep(10)
        heard.append(event)

    with pytest.raises(BudgetTooSmall):
        run_virtual(Tuner(mock(), budget=Budget(evaluations=80, tokens=1), preset=SMALL).fit(TRAIN, on_event=callback))
    assert [] == heard


async def test_a_group_takes_an_async_callback() -> None:
    """Names and events in order; an error that could be a run's own ends the group all the same."""
    heard: list[tuple[str, int]] = []

    async def callback(name: str, event: Event) -> None:
        await asyncio.sleep(0)
        if isinstance(event, GenerationDone):
            heard.append((name, event.generation))
            if event.generation == 5:
                raise ValueError("mine")

    budget = Budget(evaluations=160)
    group = TunerGroup(budget=budget)
    for seed in (1, 2):
        group.add(f"seed-{seed}", mock(), TRAIN, preset=SMALL, seed=seed)
    with pytest.raises(ValueError, match="mine"):
        await group.fit(on_event=callback)
    for name in ("seed-1", "seed-2"):
        generations = [generation for one, generation in heard if one == name]
        assert generations == list(range(len(generations)))
    assert (1, NOTHING) == (len(asyncio.all_tasks()), budget.pending)


# -- iterating


def test_iterating_to_the_end_brings_the_result() -> None:
    """The events are those that a callback hears; then the result is there, and asking again brings no more."""
    heard: list[Event] = []

    async def main() -> tuple[list[Event], bytes]:
        tuner = new_tuner()
        async with tuner.events(TRAIN, DEV) as run:
            with pytest.raises(RuntimeError, match="under way"):
                _ = run.result
            seen = [event async for event in run]
            assert [] == [event async for event in run]
        check_nothing_is_left(tuner)
        return seen, run.result.core.to_bytes()

    plain = run_virtual(new_tuner().fit(TRAIN, DEV, on_event=heard.append))
    seen, core = run_virtual(main())
    assert plain.core.to_bytes() == core
    assert [*map(repr, heard)] == [*map(repr, seen)]


async def test_iterating_takes_an_estimate_that_was_made_before() -> None:
    """As `fit` does; the result holds the run against it."""
    tuner = new_tuner(16)
    estimate = await tuner.estimate(TRAIN, DEV)
    async with tuner.events(TRAIN, DEV, estimate=estimate) as run:
        async for _ in run:
            pass
    assert estimate is run.result.estimate


async def leave_by(way: str) -> None:
    """Breaks or fails, or waits until it is cancelled."""
    if way == "error":
        raise LookupError("mine")
    if way == "timeout":
        await asyncio.sleep(3600)


@pytest.mark.parametrize(("way", "raised"), [("break", None), ("error", LookupError), ("timeout", TimeoutError)])
def test_leaving_early_cancels_the_run(way: str, raised: type[Exception] | None) -> None:
    """However the block is left: no task, no reservation, nothing unbooked; and no result."""

    async def main() -> None:
        tuner = new_tuner()
        run = tuner.events(TRAIN)

        async def watch() -> None:
            async with asyncio.timeout(4.5), run:
                async for event in run:
                    if of(event) == 2:
                        await leave_by(way)
                        break

        with nullcontext() if raised is None else pytest.raises(raised):
            await watch()
        check_nothing_is_left(tuner)
        with pytest.raises(RuntimeError, match="cancelled"):
            _ = run.result

    run_virtual(main())


def test_a_stop_while_iterating_brings_a_result() -> None:
    """What `break` does not; the generation that had begun by then is finished."""

    async def main() -> TuningResult:
        tuner = new_tuner()
        async with tuner.events(TRAIN, DEV) as run:
            async for event in run:
                if of(event) == 2:
                    tuner.stop()
        return run.result

    result = run_virtual(main())
    assert ("interrupted", 4) == (result.stopped, len(result.generations))


async def sleep_and_fail() -> None:
    await asyncio.sleep(1)
    raise LookupError("mine")


def test_the_error_of_a_run_comes_out_once() -> None:
    """Where it is iterated over; or, if nobody does, where the block ends; but not in the place of another error."""

    async def main() -> None:
        broke = Tuner(mock(), budget=Budget(evaluations=1), preset=SMALL)
        with pytest.raises(BudgetTooSmall) as raised:
            async with broke.events(TRAIN) as run:
                [event async for event in run]
        with pytest.raises(BudgetTooSmall) as again:
            _ = run.result
        assert raised.value is again.value
        with pytest.raises(BudgetTooSmall):
            async with broke.events(TRAIN):
                await asyncio.sleep(1)
        async with broke.events(TRAIN) as run:
            with pytest.raises(BudgetTooSmall):
                await anext(run)
        with pytest.raises(LookupError):
            async with broke.events(TRAIN):
                await sleep_and_fail()
        assert 1 == len(asyncio.all_tasks())

    run_virtual(main())


async def test_events_are_those_of_one_run() -> None:
    """Not begun, they cannot be iterated over; begun, they cannot be begun again."""
    run = new_tuner(8).events(TRAIN)
    with pytest.raises(RuntimeError, match="async with"):
        await anext(run)
    async with run:
        async for _ in run:
            pass
    with pytest.raises(RuntimeError, match="one run"):
        await run.__aenter__()


async def test_a_group_is_iterated_over_likewise() -> None:
    """Pairs of a name and an event; the result at the end."""
    group = TunerGroup(budget=Budget(evaluations=160))
    for seed in (1, 2):
        group.add(f"seed-{seed}", mock(), TRAIN, preset=SMALL, seed=seed)
    async with group.events() as run:
        names = [name async for name, event in run if isinstance(event, GenerationDone)]
    assert isinstance(run.result, GroupResult)
    assert {"seed-1": 10, "seed-2": 10} == {name: names.count(name) for name in names}
