"""The thread beside an event loop: what it runs, in which order, and how outcomes come back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from lmaas_sdk.side_thread import SideThread
from lmaas_sdk.testing import run_virtual


@pytest.fixture
def thread() -> Iterator[SideThread]:
    """One that ends with the test."""
    with SideThread("beside") as one:
        yield one


async def test_results_come_back_in_order_from_one_other_thread(thread: SideThread) -> None:
    """Nothing is run on the loop's thread, and nothing side by side."""
    seen: list[int] = []

    def note(number: int) -> str:
        seen.append(number)
        return threading.current_thread().name

    names = await asyncio.gather(*(thread.run(lambda number=number: note(number)) for number in range(20)))
    assert ({"beside"}, list(range(20))) == (set(names), seen)


async def test_an_error_is_raised_where_it_is_awaited(thread: SideThread) -> None:
    """And the thread goes on."""

    def fail() -> None:
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        await thread.run(fail)
    assert 7 == await thread.run(lambda: 7)


async def test_stop_iteration_is_told(thread: SideThread) -> None:
    """No future can carry it, and nobody may wait for ever."""
    with pytest.raises(RuntimeError, match="raised StopIteration"):
        await thread.run(lambda: next(iter(())))


async def test_what_was_cancelled_before_its_turn_is_not_begun(thread: SideThread) -> None:
    """What was begun is done all the same."""
    begun, go_on, done = threading.Event(), threading.Event(), []

    def wait() -> None:
        begun.set()
        go_on.wait()
        done.append("first")

    first, second = thread.run(wait), thread.run(lambda: done.append("second"))
    await asyncio.to_thread(begun.wait)
    first.cancel()
    second.cancel()
    go_on.set()
    await thread.run(lambda: done.append("third"))
    assert ["first", "third"] == done


def test_a_loop_that_is_gone_is_no_error(thread: SideThread) -> None:
    """Whoever waited has ended; the thread serves the next loop."""
    go_on = threading.Event()

    async def leave() -> None:
        thread.run(go_on.wait)

    async def ask() -> int:
        return await thread.run(lambda: 7)

    asyncio.run(leave())
    go_on.set()
    assert 7 == asyncio.run(ask())


def test_virtual_time_stands_still_while_it_works(thread: SideThread) -> None:
    """A timer that would be due meanwhile fires afterwards."""
    go_on = threading.Event()

    async def main() -> float:
        asyncio.get_running_loop().call_later(3600, go_on.set)
        threading.Timer(0.05, go_on.set).start()
        await thread.run(go_on.wait)
        return asyncio.get_running_loop().time()

    assert 0.0 == run_virtual(main())


def test_it_ends_when_it_is_left() -> None:
    """What it was given before is done."""
    done: list[str] = []

    async def main() -> None:
        with SideThread("ends") as one:
            await one.run(lambda: done.append("awaited"))
            one.run(lambda: done.append("given"))

    asyncio.run(main())
    for thread in threading.enumerate():
        if thread.name == "ends":
            thread.join(60)
    assert ["awaited", "given"] == done
    assert "ends" not in [thread.name for thread in threading.enumerate()]


async def test_one_that_was_ended_says_so() -> None:
    """Else whoever asks would wait for ever."""
    one = SideThread("over")
    assert 7 == await one.run(lambda: 7)
    one.end()
    with pytest.raises(RuntimeError, match="the thread 'over' was ended"):
        await one.run(lambda: 8)


async def test_a_thread_that_could_not_be_started_is_started_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine had too many of them for a moment."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with SideThread("later") as one:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="can't start"):
                await one.run(lambda: 7)
        assert 8 == await one.run(lambda: 8)
