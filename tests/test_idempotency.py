"""Idempotency keys: one computation a key, however many ask and whoever leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from lmaas_backends.roberta.idempotency import CallDroppedError, SharedCalls
from lmaas_backends.roberta.kept_answers import Answer
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


async def turns() -> None:
    """Lets every task that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_key_in_flight_is_awaited() -> None:
    """Two requests with one key share one computation and its bytes."""
    computing = Computing()
    async with asyncio.TaskGroup() as tasks:
        calls = SharedCalls(tasks)
        askers = [tasks.create_task(calls.answer("k", "f", computing)) for _ in range(2)]
        await turns()
        computing.go.set()

    assert (computing.started, [asker.result().body for asker in askers]) == (1, [b"1", b"1"])


async def test_whoever_joins_is_told_so() -> None:
    """The answer is marked as replayed for those who did not start its computation, and for them alone."""
    computing = Computing()
    async with asyncio.TaskGroup() as tasks:
        calls = SharedCalls(tasks)
        askers = [tasks.create_task(calls.answer("k", "f", computing)) for _ in range(2)]
        await turns()
        computing.go.set()

    assert [asker.result().replayed for asker in askers] == [False, True]


async def test_a_key_in_flight_with_another_request_is_refused() -> None:
    """A key whose first request is still computing is refused to another request."""
    computing = Computing()
    async with asyncio.TaskGroup() as tasks:
        calls = SharedCalls(tasks)
        tasks.create_task(calls.answer("k", "f", computing))
        await turns()
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
        calls = SharedCalls(tasks)
        with pytest.raises(RefusalError, match="later"):
            await calls.answer("k", "f", computing)
        computing.error = None
        answer = await calls.answer("k", "f", computing)

    assert answer.body == b"2"


async def test_only_the_last_to_leave_drops_the_call() -> None:
    """Cancelling one asker leaves the others their answer."""
    computing = Computing()
    async with asyncio.TaskGroup() as tasks:
        calls = SharedCalls(tasks)
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
        calls = SharedCalls(tasks)
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
        calls = SharedCalls(tasks)
        bodies = [(await calls.answer(None, "f", computing)).body for _ in range(2)]

    assert bodies == [b"1", b"2"]
