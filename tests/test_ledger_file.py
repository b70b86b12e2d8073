"""The ledger file: what it survives, what it refuses, and what never leaks."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from ledger_cases import NOTHING, ONE, check_books, crash, rows_of

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.ledger_file import SqliteLedger, open_ledger
from lmaas_sdk.accounting.schema import SCHEMA_VERSION
from lmaas_sdk.accounting.transfers import Label
from lmaas_sdk.errors import BudgetExceeded, LedgerConflict, LedgerError
from lmaas_sdk.testing import run_virtual

LABEL = Label("train", "mock/score", "k1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def team(ledger: SqliteLedger, calls: int | None = 10) -> Budget:
    return Budget(calls=calls, name="team", ledger=ledger)


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
        ledger.tell(lambda book: _pass(first, entered))
        await asyncio.to_thread(entered.wait)
        entered.clear()
        ledger.tell(lambda book: _pass(second, entered))
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


def _pass(gate: threading.Event, entered: threading.Event) -> None:
    entered.set()
    gate.wait()


def _kept(end: object) -> bool:
    """What was there before it was cancelled is the caller's to free."""
    if isinstance(end, Budget):
        end.release()
    elif isinstance(end, list):
        for hold in end:
            hold.void()
    return isinstance(end, (Budget, list))


def test_a_loop_that_ends_meanwhile_leaves_nothing(path: Path) -> None:
    """Whoever asked is gone, with its event loop, before the answer comes."""
    with open_ledger(path) as ledger:
        budget, gate = team(ledger), threading.Event()
        ledger.tell(lambda book: _pass(gate, threading.Event()))

        async def ask_and_go() -> None:
            asyncio.get_running_loop().create_task(budget.hold_all([ONE]))
            await asyncio.sleep(0)

        asyncio.run(ask_and_go())
        gate.set()
        ledger.run(lambda book: None)
        ledger.run(lambda book: None)
        assert budget.pending == NOTHING
    check_books(path)


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


async def test_a_transaction_that_ended_within_books_nothing(path: Path) -> None:
    """As a full disk may end it: nothing of the batch is written outside of one."""
    ledger = await open_ledger(path).__aenter__()
    budget, gate, entered = team(ledger), threading.Event(), threading.Event()
    ledger.tell(lambda book: _pass(gate, entered))
    await asyncio.to_thread(entered.wait)
    work = ledger.execute(lambda connection: connection.execute("ROLLBACK"))
    tasks = [asyncio.create_task(budget.hold_all([ONE])), asyncio.create_task(work)]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.wait(tasks)
    assert [type(task.exception()) for task in tasks] == [LedgerError, LedgerError]
    with pytest.raises(LedgerError, match="ended by an error within it"):
        await ledger.aclose()
    assert rows_of(path, "SELECT kind FROM entries WHERE transfer IS NOT NULL") == []


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


async def test_a_full_disk_ends_the_ledger_and_nothing_is_granted_unbooked(path: Path) -> None:
    """The batch and everything after it raise LedgerError, closing too; what is in the file stays right."""
    ledger = await open_ledger(path).__aenter__()
    budget = team(ledger, calls=None)
    (hold,) = await budget.hold_all([ONE])
    await ledger.execute(lambda connection: connection.execute("PRAGMA max_page_count = 1").fetchall())
    with full_disk():
        await _fill(budget)
    for act in (lambda: hold.post(ONE), lambda: budget.child("run"), lambda: budget.set_aside("dev", ONE)):
        with full_disk():
            act()
    with full_disk():
        await budget.hold_all([ONE])
    with full_disk():
        await ledger.aclose()
    check_books(path)
    async with open_ledger(path) as again:
        assert team(again, calls=None).pending == NOTHING


async def _fill(budget: Budget) -> None:
    for number in range(10_000):
        await budget.hold_all([ONE], [Label("train", "mock/score", f"{number}" * 100)])


def full_disk() -> pytest.RaisesExc[LedgerError]:
    """What every operation raises then."""
    return pytest.raises(LedgerError, match=r"cannot be written.*full")


def test_a_lock_that_goes_away_is_waited_for(path: Path) -> None:
    """Nobody sees that another process was writing."""
    with open_ledger(path) as ledger:
        budget, locked = team(ledger), threading.Event()

        def keep_locked() -> None:
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                locked.set()
                done.wait(0.05)
                other.execute("ROLLBACK")

        done = threading.Event()
        thread = threading.Thread(target=keep_locked)
        thread.start()
        locked.wait()
        assert budget.reserve(ONE).is_pending
        thread.join()


def test_a_lock_that_stays_is_said(path: Path) -> None:
    """After the time allowed, by whom and how long; and then nothing is granted any more."""
    ledger = open_ledger(path, busy_timeout_s=0.05).__enter__()
    budget = team(ledger)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(2):
            with pytest.raises(LedgerError, match=r"kept locked by another process for 0\.05 s"):
                budget.reserve(ONE)
    with pytest.raises(LedgerError, match="kept locked"):
        ledger.close()


def _text(path: Path) -> None:
    path.write_text("not a database, but long enough to be looked at " * 100)


def _foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE mine (x)")


def _newer(path: Path) -> None:
    open_ledger(path).__enter__().close()
    with closing(sqlite3.connect(path)) as other:
        other.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")


def _torn(path: Path) -> None:
    open_ledger(path).__enter__().close()
    with path.open("r+b") as file:
        file.truncate(2 * 4096)
        file.seek(4096)
        file.write(os.urandom(4096))


def _folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_text, "cannot be read as a ledger"),
        (_foreign, "an SQLite file of something else"),
        (_newer, f"schema {SCHEMA_VERSION + 1}, and this version reads up to {SCHEMA_VERSION}"),
        (_torn, "malformed"),
        (_folder, "cannot be opened as a ledger"),
    ],
)
def test_what_is_no_ledger_is_refused(path: Path, spoil: Callable[[Path], None], message: str) -> None:
    """With the path and the reason; a file of something else is not touched."""
    spoil(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(LedgerError, match=message) as refused:
        open_ledger(path).__enter__()
    assert str(path) in str(refused.value)
    assert spoil is _torn or before == (path.read_bytes() if path.is_file() else b"")


def test_a_ledger_is_used_between_opening_and_closing(path: Path) -> None:
    """Before and after, it says what to do."""
    ledger = open_ledger(path)
    with pytest.raises(LedgerError, match="is not open: use `with"):
        team(ledger)
    with ledger:
        hold = team(ledger).reserve(ONE)
        with pytest.raises(LedgerError, match="opened by this object already"):
            ledger.__enter__()
    ledger.close()
    with pytest.raises(LedgerError, match="is closed"):
        hold.post(ONE)
    assert repr(ledger) == f"SqliteLedger({str(path)!r})"


def test_a_forked_process_must_open_its_own(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that writes is not in it."""
    with open_ledger(path) as ledger:
        budget = team(ledger)
        with monkeypatch.context() as patched:
            patched.setattr(os, "getpid", lambda: 0)
            with pytest.raises(LedgerError, match="opened in another process"):
                budget.reserve(ONE)
        budget.reserve(ONE).void()


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
