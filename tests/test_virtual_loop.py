"""The virtual loop: time jumps, order holds, threads are waited for, a deadlock is told."""

from __future__ import annotations

import asyncio
import threading

import pytest

from lmaas_sdk.testing import VirtualDeadlock, VirtualLoop, run_virtual

WEEK_S = 7 * 24 * 3600.0


def now_s() -> float:
    return asyncio.get_running_loop().time()


def test_weeks_of_sleep_pass_at_once() -> None:
    """Ten weeks of sleeping move the clock by exactly ten weeks."""

    async def main() -> float:
        for _ in range(10):
            await asyncio.sleep(WEEK_S)
        return now_s()

    assert run_virtual(main()) == 10 * WEEK_S


def test_a_timer_that_is_due_fires_however_late_it_is() -> None:
    """Where a nanosecond, which is how early asyncio fires one, is lost in the sum: half a year on, and centuries."""

    async def main() -> list[float]:
        seen = []
        for sleep_s in (2.0**24, 0.3, 1e-10, 30 * 365 * 24 * 3600.0):
            await asyncio.sleep(sleep_s)
            seen.append(now_s())
        return seen

    first, second, third, last = run_virtual(main())
    assert (2.0**24, 2.0**24 + 0.3) == (first, pytest.approx(second, abs=1e-8))
    assert (second, 2.0**24 + 0.3 + 30 * 365 * 24 * 3600.0) == (third, pytest.approx(last, abs=1e-6))


def test_time_stands_still_while_there_is_work() -> None:
    """A thousand turns of the loop take no virtual time."""

    async def main() -> float:
        for _ in range(1000):
            await asyncio.sleep(0)
        return now_s()

    assert run_virtual(main()) == 0.0


def test_sleepers_wake_in_the_order_of_their_times() -> None:
    """Tasks that sleep for different times wake by time, not by start."""
    woken: list[tuple[float, str]] = []

    async def sleeper(name: str, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        woken.append((now_s(), name))

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for name, delay_s in (("c", 3.0), ("a", 1.0), ("d", WEEK_S), ("b", 2.0)):
                group.create_task(sleeper(name, delay_s))

    run_virtual(main())
    assert woken == [(1.0, "a"), (2.0, "b"), (3.0, "c"), (WEEK_S, "d")]


def test_a_timeout_fires_at_its_time() -> None:
    """`asyncio.timeout` ends a longer sleep at its own deadline."""

    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.sleep(WEEK_S)
        return now_s()

    assert run_virtual(main()) == 5.0


def test_a_timeout_that_is_not_reached_does_nothing() -> None:
    """A shorter sleep within `asyncio.timeout` ends by itself."""

    async def main() -> float:
        async with asyncio.timeout(5):
            await asyncio.sleep(4)
        return now_s()

    assert run_virtual(main()) == 4.0


def test_a_threads_result_arrives_before_time_moves() -> None:
    """A thread is waited for in real time although a timer could fire, and its result is not lost."""
    release = threading.Event()

    async def sleeper() -> None:
        await asyncio.sleep(1)

    async def main() -> tuple[bool, float]:
        timer = asyncio.create_task(sleeper())
        asyncio.get_running_loop().call_soon(release.set)
        outcome = await asyncio.to_thread(release.wait, 30)
        finished_s = now_s()
        await timer
        return outcome, finished_s

    assert run_virtual(main()) == (True, 0.0)


def test_many_threads_lose_no_result() -> None:
    """Fifty calls on threads all answer."""

    async def main() -> list[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.to_thread(pow, number, 2)) for number in range(50)]
        return [task.result() for task in tasks]

    assert run_virtual(main()) == [number**2 for number in range(50)]


def test_an_error_in_a_thread_reaches_the_caller() -> None:
    """An exception raised on a thread is raised where it is awaited, and later deadlocks are still seen."""

    async def main() -> None:
        with pytest.raises(ValueError, match="invalid literal"):
            await asyncio.to_thread(int, "x")
        await asyncio.get_running_loop().create_future()

    with pytest.raises(VirtualDeadlock):
        run_virtual(main())


def test_a_deadlock_names_what_waits() -> None:
    """A task that nothing can wake is an error that names it, not a hang."""

    async def main() -> None:
        waiting = asyncio.create_task(asyncio.Event().wait(), name="for-nobody")
        await waiting

    with pytest.raises(VirtualDeadlock, match="for-nobody"):
        run_virtual(main())


def test_a_deadlocked_task_is_cancelled_and_cleans_up() -> None:
    """After a deadlock the tasks are cancelled, so their `finally` blocks run."""
    cleaned = []

    async def main() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    with pytest.raises(VirtualDeadlock):
        run_virtual(main())
    assert cleaned == [True]


def test_every_loop_starts_at_zero() -> None:
    """A new loop has its own clock, from 0."""

    async def main() -> tuple[float, float]:
        begun_s = now_s()
        await asyncio.sleep(1)
        return begun_s, now_s()

    assert [run_virtual(main()) for _ in range(2)] == [(0.0, 1.0)] * 2


def test_the_loop_is_an_ordinary_loop_factory() -> None:
    """`asyncio.Runner` takes the loop like any other."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(asyncio.sleep(WEEK_S, result="done")) == "done"


async def test_it_does_not_run_inside_another_loop() -> None:
    """Inside a running loop `run_virtual` raises, as `asyncio.run` does."""
    with pytest.raises(RuntimeError, match="call run_virtual from outside"):
        run_virtual(asyncio.sleep(0))


def test_without_threads_work_is_done_on_the_loops_own_in_a_turn_of_its_own() -> None:
    """Whoever asked for it sees others at work first, and gets its result or its error; no thread was begun."""
    order: list[str] = []

    def work(name: str) -> int:
        order.append(name)
        return int(name)

    async def main() -> tuple[int, list[int]]:
        asyncio.get_running_loop().call_soon(order.append, "before")
        done = await asyncio.to_thread(work, "1")
        with pytest.raises(ValueError, match="invalid literal"):
            await asyncio.to_thread(work, "none")
        return done, [threading.active_count(), threading.get_ident()]

    before = [threading.active_count(), threading.get_ident()]
    assert (1, before) == run_virtual(main(), threads=False)
    assert ["before", "1", "none"] == order


def test_without_threads_work_that_is_cancelled_in_time_is_not_done() -> None:
    """As in a pool whose threads are all at work."""
    done: list[int] = []

    async def main() -> None:
        asyncio.get_running_loop().run_in_executor(None, done.append, 1).cancel()
        await asyncio.sleep(1)

    run_virtual(main(), threads=False)
    assert [] == done
