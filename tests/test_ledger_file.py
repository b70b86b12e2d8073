"""The ledger file: what it remembers, and who may share it."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest
from ledger_cases import NOTHING, ONE, check_books, crash, rows_of, team

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.ledger_file import open_ledger
from lmaas_sdk.accounting.transfers import Label
from lmaas_sdk.errors import BudgetExceeded, LedgerConflict
from lmaas_sdk.testing import run_virtual

LABEL = Label("train", "mock/score", "k1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


async def test_a_budget_goes_on_where_it_ended(path: Path) -> None:
    """What was posted counts at the next opening, at once and on an event loop too."""
    async with open_ledger(path) as ledger:
        (hold,) = await team(ledger).hold_all([Amounts(4)])
        hold.post(Amounts(3))
    async with open_ledger(path) as ledger:
        assert (team(ledger).posted, team(ledger).free("calls")) == (Amounts(3), 7)
        with pytest.raises(BudgetExceeded, match="3 posted, 0 pending, 8 more"):
            await team(ledger).hold_all([Amounts(8)])


def test_closing_puts_in_order_what_is_left(path: Path) -> None:
    """A reservation that was never sent is void, one that was is posted in full, what was set aside is free."""
    with open_ledger(path) as ledger:
        budget = team(ledger)
        budget.reserve(Amounts(1))
        budget.set_aside("dev", Amounts(2)).reserve(Amounts(1))
        asyncio.run(budget.reserve(Amounts(3), LABEL).mark_sent())
    with open_ledger(path) as ledger:
        assert (team(ledger).posted, team(ledger).pending) == (Amounts(3), NOTHING)
        assert [hold.amounts for hold in ledger.unknown("mock/score", "k1")] == [Amounts(3)]
    check_books(path)


def test_what_the_dead_left_is_put_in_order_at_the_next_opening(path: Path) -> None:
    """And its lost calls can be corrected by whoever learns what they cost."""
    ledger = open_ledger(path).__enter__()
    unsent, sent, refused = team(ledger).reserve_all([Amounts(1), Amounts(2), Amounts(4)], [LABEL] * 3)
    asyncio.run(sent.mark_sent())
    asyncio.run(refused.mark_sent())
    refused.refused()
    crash(ledger)
    with open_ledger(path) as again:
        assert (team(again).posted, team(again).pending) == (Amounts(2), NOTHING)
        (lost,) = again.unknown("mock/score", "k1")
        assert lost.id == sent.id
        lost.correct(Amounts(1))
    check_books(path)
    assert rows_of(path, "SELECT ended FROM owners ORDER BY opened_at") == [("recovered",), ("closed",)]
    ends = dict(rows_of(path, "SELECT transfer, kind || unknown FROM entries WHERE kind IN ('post', 'void')"))
    assert ends == {unsent.id: "void0", sent.id: "post1", refused.id: "void0"}


def test_two_openings_in_one_process_share_the_cap(path: Path) -> None:
    """Neither sees stale balances when it reserves, and neither takes the other for dead."""
    with open_ledger(path) as one, open_ledger(path) as other:
        budgets = [team(one), team(other)]
        for number in range(10):
            budgets[number % 2].reserve(Amounts(1)).post(Amounts(1))
        for budget in budgets:
            with pytest.raises(BudgetExceeded):
                budget.reserve(Amounts(1))
        assert one.is_alive(other.owner)
        assert (one.is_alive(one.owner), one.is_alive("nobody")) == (True, False)
    assert check_books(path)["team"]["posted"] == (10, 0, 0, 0)


def test_of_two_corrections_the_first_is_believed(path: Path) -> None:
    """The other process's changes nothing, and breaks nothing."""
    with open_ledger(path) as one:
        team(one).reserve(Amounts(5), LABEL).post_unknown()
        asyncio.run(one.flush())
        with open_ledger(path) as other:
            one.unknown("mock/score", "k1")[0].correct(Amounts(3))
            asyncio.run(one.flush())
            other.unknown("mock/score", "k1")[0].correct(Amounts(1))
    assert check_books(path)["team"]["posted"] == (3, 0, 0, 0)


async def test_a_conflict_is_told_by_the_first_reservation_where_nothing_may_wait(path: Path) -> None:
    """On an event loop the budget is made without waiting; neither it nor its child can then book anything."""
    async with open_ledger(path) as ledger:
        await team(ledger).hold_all([ONE])
        other = team(ledger, calls=11)
        for budget in (other, other.child("run")):
            with pytest.raises(LedgerConflict, match="calls=10, and calls=11 was asked for"):
                await budget.hold_all([ONE])
            with pytest.raises(LedgerConflict):
                await budget.hold_aside("dev", ONE)
    assert set(check_books(path)) == {"team"}


async def test_work_in_the_transaction_is_all_or_nothing(path: Path) -> None:
    """Its result comes back; what raises takes back its own changes and nobody else's."""
    insert = "INSERT INTO quota_events (scope, kind, grant_id, owner, at, tokens) VALUES ('s', 'ask', ?, 'o', 0, 1)"

    def fail(connection: sqlite3.Connection) -> None:
        connection.execute(insert, ("two",))
        raise KeyError("two")

    async with open_ledger(path) as ledger:
        first = asyncio.create_task(ledger.execute(lambda connection: connection.execute(insert, ("one",)).rowcount))
        hold = asyncio.create_task(team(ledger).hold_all([ONE]))
        with pytest.raises(KeyError, match="two"):
            await ledger.execute(fail)
        assert (await first, len(await hold)) == (1, 1)
    assert rows_of(path, "SELECT grant_id FROM quota_events") == [("one",)]


def test_virtual_time_stands_still_while_the_file_is_written(path: Path) -> None:
    """A simulation on a ledger file neither takes the wait for a deadlock nor jumps to the next timer."""

    async def main() -> float:
        async with open_ledger(path) as ledger, asyncio.timeout(0.001):
            for _ in range(20):
                (hold,) = await team(ledger, calls=None).hold_all([ONE])
                await hold.mark_sent()
                hold.post(ONE)
            await ledger.flush()
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 0.0


def test_synchronous_is_one_of_two(path: Path) -> None:
    """FULL is passed on to the file; anything else is refused."""
    with open_ledger(path, synchronous="FULL") as ledger:
        asked = ledger.execute(lambda connection: connection.execute("PRAGMA synchronous").fetchone()[0])
        assert asyncio.run(asked) == 2
    with pytest.raises(ValueError, match="OFF"):
        open_ledger(path, synchronous="OFF")  # type: ignore[arg-type]


def test_entries_tell_the_time_they_are_told(path: Path) -> None:
    """By the clock that was given."""
    with open_ledger(path, wall=lambda: 1234.5) as ledger:
        team(ledger).reserve(ONE).post(ONE)
    assert rows_of(path, "SELECT DISTINCT at FROM entries") == [(1234.5,)]
    assert rows_of(path, "SELECT opened_at, ended_at FROM owners") == [(1234.5, 1234.5)]


def test_many_loops_and_threads_share_one_ledger(path: Path) -> None:
    """Each gets its own answers, and the cap is met to the call."""
    with open_ledger(path) as ledger:
        budget = team(ledger, calls=200)
        granted: list[int] = []

        async def take() -> int:
            taken = 0
            for _ in range(100):
                try:
                    (hold,) = await budget.hold_all([Amounts(1)])
                except BudgetExceeded:
                    break
                hold.post(Amounts(1))
                taken += 1
            return taken

        threads = [threading.Thread(target=lambda: granted.append(asyncio.run(take()))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(granted) == 200
    assert check_books(path)["team"]["posted"] == (200, 0, 0, 0)
