"""A run that is told to stop, or cancelled, in the middle of something."""

from __future__ import annotations

import asyncio

import pytest

from lmaas_sdk.testing import run_virtual
from lmaas_sdk.tuning.interruption import GRACE_S, Interrupted, Stop, unless_stopped


async def taking(seconds: float, *, to_end_s: float = 0.0) -> str:
    """Some work that takes so long, and so long to be cancelled."""
    try:
        await asyncio.sleep(seconds)
    finally:
        await asyncio.sleep(to_end_s)
    return "done"


async def stopped_at(stop_s: float, seconds: float) -> str:
    """The work, where a stop comes at a moment; no task is left behind."""
    stop = Stop()
    asyncio.get_running_loop().call_later(stop_s, stop.set)
    try:
        return await unless_stopped(taking(seconds), stop)
    finally:
        assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize(("stop_s", "seconds"), [(1000, 5), (3, 12), (0, GRACE_S - 1)])
def test_work_that_ends_soon_is_waited_for(stop_s: float, seconds: float) -> None:
    """Nobody stops it, or what is under way is answered within ten seconds."""

    async def main() -> tuple[str, float]:
        return await stopped_at(stop_s, seconds), asyncio.get_running_loop().time()

    assert ("done", seconds) == run_virtual(main())


def test_work_that_goes_on_is_cancelled_ten_seconds_after_the_stop() -> None:
    """An hour is not waited for."""

    async def main() -> float:
        with pytest.raises(Interrupted):
            await stopped_at(3, 3600)
        return asyncio.get_running_loop().time()

    assert 3 + GRACE_S == run_virtual(main())


async def test_an_error_of_the_work_comes_out() -> None:
    """As it was raised."""

    async def fail() -> None:
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        await unless_stopped(fail(), Stop())
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("cancels", [1, 2, 5])
def test_a_cancellation_waits_for_the_end_of_the_work(cancels: int) -> None:
    """However often it is repeated: no task is left when it comes out."""

    async def main() -> float:
        task = asyncio.create_task(unless_stopped(taking(3600, to_end_s=7), Stop()))
        await asyncio.sleep(1)
        for _ in range(cancels):
            task.cancel()
            await asyncio.sleep(1)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(asyncio.all_tasks()) == 1
        return asyncio.get_running_loop().time()

    assert 8 == run_virtual(main())


def test_a_cancellation_after_the_stop_ends_it_at_once() -> None:
    """The second signal: the ten seconds are not waited for."""

    async def main() -> float:
        stop = Stop()
        task = asyncio.create_task(unless_stopped(taking(3600), stop))
        await asyncio.sleep(1)
        stop.set()
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return asyncio.get_running_loop().time()

    assert 2 == run_virtual(main())


@pytest.mark.parametrize("turns", range(1, 5))
async def test_a_cancellation_before_the_work_began_leaves_nothing(turns: int) -> None:
    """Nor a coroutine that was never awaited."""
    task = asyncio.create_task(unless_stopped(taking(3600), Stop()))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(asyncio.all_tasks()) == 1
