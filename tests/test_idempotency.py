"""Idempotency keys: one computation a key, however many ask and whoever leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from lmaas_backends.roberta.idempotency import Answer, CallDroppedError, IdempotentCalls
from lmaas_backends.roberta.wire_errors import RefusalError


class Computing:
    """Computations that end when the test lets them."""

    def __init__(self) -> None:
        self.started = 0
        self.go = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, dropped: Callable[[], bool]) -> Answer:
        self.started += 1
        number = self.started
        await self.go.wait()
        if dropped():
            raise CallDroppedError
        if self.error is not None:
            raise self.error
        return Answer(b"%d" % number, "text/plain")


class SetClock:
    """A clock that stands still until it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


async def turns() -> None:
    """Lets every task that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_key_in_flight_is_awaited() -> None:
    """Two requests with one key share one computation and its bytes."""
    computing = Computing()
    async with asyncio.TaskGroup() as tasks:
        calls = IdempotentCalls(tasks, SetClock())
        askers = [tasks.create_task(calls.answer("k", "f", computing)) for _ in range(2)]
        await turns()
        computing.go.set()

    assert (computing.started, [asker.result().body for asker in askers]) == (1, [b"1", b"1"])


async def test_a_finished_key_answers_the_same_bytes_for_a_day() -> None:
    """A key is remembered until, and not at, 24 hours after its answer."""
    clock, computing = SetClock(), Computing()
    computing.go.set()
    bodies = []
    async with asyncio.TaskGroup() as tasks:
        calls = IdempotentCalls(tasks, clock)
        for clock.now in (0.0, 86399.0, 86400.0):
            bodies.append((await calls.answer("k", "f", computing)).body)

    assert bodies == [b"1", b"1", b"2"]


@pytest.mark.parametrize("finished", [False, True])
async def test_a_key_with_another_request_is_refused(finished: bool) -> None:
    """A reused key is refused whether its first request is finished or not."""
    computing = Computing()
    async with asyncio.TaskGroup() as tasks:
        calls = IdempotentCalls(tasks, SetClock())
        first = tasks.create_task(calls.answer("k", "f", computing))
        await turns()
        if finished:
            computing.go.set()
            await first
        with pytest.raises(RefusalError) as caught:
            await calls.answer("k", "g", computing)
        computing.go.set()

    assert caught.value.kind.name == "key_reused"


async def test_a_failure_is_raised_and_not_kept() -> None:
    """Everyone who waits gets the error; the next request with the key tries again."""
    computing = Computing()
    computing.error = RefusalError("rate_limited", "later")
    computing.go.set()
    async with asyncio.TaskGroup() as tasks:
        calls = IdempotentCalls(tasks, SetClock())
        with pytest.raises(RefusalError, match="later"):
            await calls.answer("k", "f", computing)
        computing.error = None
        answer = await calls.answer("k", "f", computing)

    assert answer.body == b"2"


async def test_only_the_last_to_leave_drops_the_call() -> None:
    """Cancelling one asker leaves the others their answer."""
    computing = Computing()
    async with asyncio.TaskGroup() as tasks:
        calls = IdempotentCalls(tasks, SetClock())
        first, second = (tasks.create_task(calls.answer("k", "f", computing)) for _ in range(2))
        await turns()
        first.cancel()
        await turns()
        computing.go.set()

    assert (first.cancelled(), second.result().body) == (True, b"1")


async def test_whoever_comes_after_everyone_left_gets_a_computation_of_its_own() -> None:
    """A call that was dropped is started anew for a later request with its key."""
    computing = Computing()
    async with asyncio.TaskGroup() as tasks:
        calls = IdempotentCalls(tasks, SetClock())
        first = tasks.create_task(calls.answer("k", "f", computing))
        await turns()
        first.cancel()
        await turns()
        late = tasks.create_task(calls.answer("k", "f", computing))
        await turns()
        computing.go.set()

    assert (computing.started, late.result().body) == (2, b"2")


async def test_without_a_key_nothing_is_shared() -> None:
    """Requests without a key are computed each."""
    computing = Computing()
    computing.go.set()
    async with asyncio.TaskGroup() as tasks:
        calls = IdempotentCalls(tasks, SetClock())
        bodies = [(await calls.answer(None, "f", computing)).body for _ in range(2)]

    assert bodies == [b"1", b"2"]


@pytest.mark.parametrize("bound", [{"most_answers": 2}, {"most_bytes": 2}])
async def test_what_is_kept_is_bounded(bound: dict[str, int]) -> None:
    """Beyond either bound the oldest answer is forgotten, and only it."""
    computing = Computing()
    computing.go.set()
    async with asyncio.TaskGroup() as tasks:
        calls = IdempotentCalls(tasks, SetClock(), **bound)
        bodies = [(await calls.answer(key, "f", computing)).body for key in ("a", "b", "c", "c", "b", "a")]

    assert bodies == [b"1", b"2", b"3", b"3", b"2", b"4"]
