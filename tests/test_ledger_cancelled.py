"""The ledger file: whoever is cancelled, or whose event loop ends, leaves nothing behind."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from ledger_cases import NOTHING, ONE, check_books, hold_up, rows_of, team

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.ledger_file import open_ledger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


async def test_a_cancelled_reservation_leaves_nothing(path: Path) -> None:
    """Cancelled before it is booked, meanwhile, or after: in the end nothing is pending."""
    async with open_ledger(path) as ledger:
        budget = team(ledger, calls=None)
        aside = await budget.hold_aside("dev", ONE)
        for steps in range(40):
            tasks = [
                asyncio.create_task(budget.hold_all([ONE, ONE])),
                asyncio.create_task(aside.hold_all([Amounts(1)])),
                asyncio.create_task(budget.hold_aside("more", ONE)),
            ]
            for _ in range(steps):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(end, asyncio.CancelledError) for end in ends if not _kept(end))
        aside.release()
        await ledger.flush()
        await ledger.flush()  # what is undone after a booking comes in the transaction after it
        assert budget.pending == NOTHING
    assert rows_of(path, "SELECT count(*) FROM entries WHERE kind IN ('post', 'sent')") == [(0,)]
    check_books(path)


async def test_cancelled_while_it_is_booked_it_is_undone(path: Path) -> None:
    """The writer has it in hand when the task goes: the transaction after it takes it back."""
    async with open_ledger(path) as ledger:
        budget, first, second, entered = team(ledger), threading.Event(), threading.Event(), threading.Event()
        ledger.tell(lambda book: hold_up(first, entered))
        await asyncio.to_thread(entered.wait)
        entered.clear()
        ledger.tell(lambda book: hold_up(second, entered))
        task = asyncio.create_task(budget.hold_all([ONE]))
        await asyncio.sleep(0)
        first.set()
        await asyncio.to_thread(entered.wait)
        task.cancel()
        await asyncio.wait([task])
        second.set()
        await ledger.flush()
        await ledger.flush()
        assert (task.cancelled(), budget.pending) == (True, NOTHING)
    assert rows_of(path, "SELECT kind FROM entries WHERE transfer IS NOT NULL") == [("pending",), ("void",)]


async def test_cancelled_after_it_is_booked_it_is_undone(path: Path) -> None:
    """The answer is on its way to the event loop when the task goes."""
    async with open_ledger(path) as ledger:
        budget = team(ledger)
        tasks = [asyncio.create_task(budget.hold_all([ONE])), asyncio.create_task(budget.hold_aside("dev", ONE))]
        await asyncio.sleep(0)
        booked = threading.Event()
        thread = threading.Thread(target=lambda: booked.set() if ledger.run(lambda book: True) else None)
        thread.start()
        while not booked.is_set():  # the loop stands still until both are booked
            pass
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await ledger.flush()
        assert ([task.cancelled() for task in tasks], budget.pending) == ([True, True], NOTHING)
    kinds = rows_of(path, "SELECT kind FROM entries WHERE kind != 'limits' ORDER BY seq")
    assert kinds == [("pending",), ("void",), ("release",)]


def _kept(end: object) -> bool:
    """What was there before it was cancelled is the caller's to free."""
    if isinstance(end, Budget):
        end.release()
    elif isinstance(end, list):
        for hold in end:
            hold.void()
    return isinstance(end, (Budget, list))


@pytest.mark.parametrize("times", [1, 3])
async def test_an_opening_that_is_cancelled_is_closed(path: Path, times: int) -> None:
    """However often: no thread is left, and no lock that would make its owner seem alive."""
    before = set(threading.enumerate())
    opening = asyncio.create_task(open_ledger(path).__aenter__())
    for _ in range(times):
        await asyncio.sleep(0)
        opening.cancel()
    await asyncio.wait([opening])
    left = [thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith("ledger")]
    assert (True, [], ["ledger.db"]) == (opening.cancelled(), left, [file.name for file in path.parent.iterdir()])
    assert [("closed",)] == rows_of(path, "SELECT ended FROM owners")


async def test_an_opening_that_is_cancelled_and_fails_is_cancelled(tmp_path: Path) -> None:
    """There is nothing to close then."""
    opening = asyncio.create_task(open_ledger(tmp_path).__aenter__())  # a folder
    await asyncio.sleep(0)
    opening.cancel()
    await asyncio.wait([opening])
    assert opening.cancelled()


def test_a_loop_that_ends_meanwhile_leaves_nothing(path: Path) -> None:
    """Whoever asked is gone, with its event loop, before the answer comes."""
    with open_ledger(path) as ledger:
        budget, gate = team(ledger), threading.Event()
        ledger.tell(lambda book: hold_up(gate, threading.Event()))

        async def ask_and_go() -> None:
            asyncio.get_running_loop().create_task(budget.hold_all([ONE]))
            await asyncio.sleep(0)

        asyncio.run(ask_and_go())
        gate.set()
        ledger.run(lambda book: None)
        ledger.run(lambda book: None)
        assert budget.pending == NOTHING
    check_books(path)
