"""The ledger file: what ends it, and what it refuses to be."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from ledger_cases import NOTHING, ONE, check_books, hold_up, rows_of, team

from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.ledger_file import open_ledger
from lmaas_sdk.accounting.schema import SCHEMA_VERSION
from lmaas_sdk.accounting.transfers import Label
from lmaas_sdk.errors import LedgerError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


async def test_a_transaction_that_ended_within_books_nothing(path: Path) -> None:
    """As a full disk may end it: nothing of the batch is written outside of one."""
    ledger = await open_ledger(path).__aenter__()
    budget, gate, entered = team(ledger), threading.Event(), threading.Event()
    ledger.tell(lambda book: hold_up(gate, entered))
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


def lock_file_of(path: Path, owner: str) -> Path:
    return path.with_name(f"{path.name}-owner-{owner}")


def test_a_lock_file_that_is_removed_comes_back(path: Path) -> None:
    """With the next transaction: from then on nobody can take its owner for dead."""
    with open_ledger(path) as one:
        hold = team(one).reserve(ONE)
        lock_file_of(path, one.owner).unlink()
        one.run(lambda book: None)
        with open_ledger(path) as other:
            assert (True, ONE) == (other.is_alive(one.owner), team(other).pending)
        hold.post(ONE)
    assert [("post", 0)] == rows_of(path, "SELECT kind, unknown FROM entries WHERE kind IN ('post', 'void')")


def test_whoever_was_taken_for_dead_is_told(path: Path) -> None:
    """Before it books anything more: what it had pending is resolved already."""
    one = open_ledger(path).__enter__()
    hold = team(one).reserve(ONE)
    lock_file_of(path, one.owner).unlink()
    with open_ledger(path) as other:
        assert team(other).pending == NOTHING
    hold.post(ONE)
    for act in (lambda: team(one).reserve(ONE), one.close):
        with pytest.raises(LedgerError, match=r"lock file .* was removed, and another process took this one for dead"):
            act()
    assert check_books(path)["team"]["posted"] == (0, 0, 0, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_that_ends_does_not_let_go_of_the_lock(path: Path) -> None:
    """Its copy of the ledger is collected; the owner lives on."""
    with open_ledger(path) as ledger:
        child = os.fork()
        if not child:
            ledger._lock_file._lock.__del__()
            os._exit(0)
        os.waitpid(child, 0)
        with open_ledger(path) as other:
            assert other.is_alive(ledger.owner)


@pytest.mark.parametrize("now_s", [float("nan"), float("inf")])
def test_a_clock_that_tells_no_time_is_refused(path: Path, now_s: float) -> None:
    """Before anything is opened: no entry could be written."""
    with pytest.raises(ValueError, match=f"tells seconds since 1970, not {now_s}"):
        open_ledger(path, wall=lambda: now_s).__enter__()
    assert not path.exists()
