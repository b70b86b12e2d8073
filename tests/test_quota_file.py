"""A quota in a ledger file: shared by processes, kept over a restart, and not held by the dead."""

from __future__ import annotations

import asyncio
import heapq
import json
import math
import os
import random
import sqlite3
import sys
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfoNotFoundError

import pytest

from lmaas_sdk.accounting.ledger_file import SqliteLedger, open_ledger
from lmaas_sdk.backend import Limits
from lmaas_sdk.traffic.concurrency import AdaptiveConcurrency
from lmaas_sdk.traffic.gate import Gate
from lmaas_sdk.traffic.quota_file import _SILENT_S, FileQuota
from lmaas_sdk.traffic.quota_memory import MemoryQuota

SCOPE = "model/score@account"
PROGRAM = Path(__file__).with_name("quota_process.py")


async def start(path: Path, count: int | str, patience_s: float, **limits: object) -> asyncio.subprocess.Process:
    """A process that takes from the quota."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, str(PROGRAM), str(path), str(count), str(patience_s), json.dumps(limits)),
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
        stdout=asyncio.subprocess.PIPE,
    )


async def times_of(programs: list[asyncio.subprocess.Process]) -> list[float]:
    """When they were let through, all together."""
    told = [await program.communicate() for program in programs]
    assert [program.returncode for program in programs] == [0] * len(programs)
    return sorted(float(line) for out, _ in told for line in out.split())


def quota(ledger: SqliteLedger, clock: list[float]) -> FileQuota:
    """A quota whose time is set."""
    return FileQuota(ledger, SCOPE, lambda: clock[0])


def gate(ledger: SqliteLedger) -> Gate:
    """A gate on a file."""
    return Gate(FileQuota(ledger, SCOPE), AdaptiveConcurrency(64, asyncio.get_running_loop().time))


async def test_four_processes_share_a_quota_for_the_day(tmp_path: Path) -> None:
    """A hundred in all and not one more, and the fifth that comes later finds it used up."""
    path, a_day = tmp_path / "l.ledger", {"requests_per_day": 100, "day_time_zone": "Etc/GMT+12"}
    programs = [await start(path, 60, 1.0, **a_day) for _ in range(4)]
    assert len(await times_of(programs)) == 100
    assert await times_of([await start(path, 10, 1.0, **a_day)]) == []


async def test_four_processes_share_a_quota_for_the_minute_and_the_places(tmp_path: Path) -> None:
    """Forty in the minute, never more than three under way, and everything is given back."""
    path = tmp_path / "l.ledger"
    programs = [await start(path, 30, 5.0, requests_per_minute=40, concurrency=3) for _ in range(4)]
    assert len(await times_of(programs)) == 40
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT kind FROM quota_events ORDER BY seq").fetchall()
    connection.close()
    under_way, most = 0, 0
    for (kind,) in rows:
        under_way += {"take": 1, "settle": -1}.get(kind, 0)
        most = max(most, under_way)
    assert (under_way, most) == (0, 3)


async def test_a_reopened_file_remembers(tmp_path: Path) -> None:
    """What was taken before counts after, for as long as it counts, with what it really took."""
    path, clock = tmp_path / "l.ledger", [1_000_000.0]
    limits = Limits(tokens_per_minute=100)
    async with open_ledger(path) as ledger:
        first = quota(ledger, clock)
        assert await first.take("a", 80, limits) == 0
        first.settle("a", 60)
        await ledger.flush()
    async with open_ledger(path) as ledger:
        again = quota(ledger, clock)
        assert await again.take("b", 41, limits) > 60
        assert await again.take("c", 40, limits) > 0  # behind the one that asked before
        again.refund("b")
        assert await again.take("c", 40, limits) == 0
        clock[0] += 61
        assert await again.take("d", 60, limits) == 0


async def test_what_the_dead_had_comes_back(tmp_path: Path) -> None:
    """One that is killed under way frees its place, one that is killed in line its turn; what was taken counts on."""
    path = tmp_path / "l.ledger"
    limits = Limits(concurrency=1, requests_per_minute=2)
    program = await start(path, "hold", 0.0, concurrency=1, requests_per_minute=2)
    assert program.stdout is not None
    await program.stdout.readline()
    behind = await start(path, "hold", 0.0, concurrency=1, requests_per_minute=2)
    async with open_ledger(path) as ledger:
        while "ask" not in await ledger.execute(_kinds):  # noqa: ASYNC110  (another process writes it)
            await asyncio.sleep(0.05)
        waiting = asyncio.create_task(gate(ledger).enter(1, limits))
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        assert not done
        for killed in (behind, program):
            killed.kill()
            await killed.communicate()
        async with asyncio.timeout(20):
            permit = await waiting
        permit.settle(1)
        assert await FileQuota(ledger, SCOPE).take("third", 1, limits) > 50


async def test_first_come_first_served_over_two_processes(tmp_path: Path) -> None:
    """The one that asked first goes first, though the other asks more often; one that goes away is no hindrance."""
    clock, limits = [1_000_000.0], Limits(tokens_per_minute=100)
    async with open_ledger(tmp_path / "l.ledger") as one, open_ledger(tmp_path / "l.ledger") as other:
        here, there = quota(one, clock), quota(other, clock)
        assert await here.take("old", 50, limits) == 0
        assert await here.take("large", 100, limits) > 0
        for _ in range(5):
            assert await there.take("small", 10, limits) > 0
        clock[0] += 61
        assert await there.take("small", 10, limits) > 0
        assert await here.take("large", 100, limits) == 0
        here.refund("large")
        await one.flush()
        assert await there.take("small", 10, limits) == 0


async def test_a_cancelled_wait_leaves_no_ticket(tmp_path: Path) -> None:
    """Who is behind it goes on at once."""
    limits = Limits(requests_per_minute=1)
    async with open_ledger(tmp_path / "l.ledger") as ledger:
        way_out = gate(ledger)
        permit = await way_out.enter(1, limits)
        waiting = asyncio.create_task(way_out.enter(1, limits))
        await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.wait([waiting])
        permit.give_back()
        async with asyncio.timeout(10):
            await way_out.enter(1, limits)


async def test_limits_that_are_new_count_what_was_taken_before(tmp_path: Path) -> None:
    """Two clients with other limits on one account see each other's requests; asked in turns they cost no replay."""
    clock = [1_000_000.0]
    async with open_ledger(tmp_path / "l.ledger") as ledger:
        book = quota(ledger, clock)
        minute, day = Limits(requests_per_minute=5), Limits(requests_per_day=4, day_time_zone="UTC")
        for number in range(4):
            assert await book.take(f"{number}", 1, minute) == 0
            book.settle(f"{number}", 1)
        assert await book.take("x", 1, day) > 0
        book.refund("x")
        await ledger.flush()
        known = book._known
        assert await book.take("y", 1, minute) == 0
        assert await book.take("z", 1, replace(day, requests_per_day=6)) == 0
        assert await book.take("7", 1, replace(minute, requests_per_minute=7)) == 0
        assert await book.take("8", 1, replace(minute, requests_per_minute=7)) > 0
        assert book._known is known


async def test_a_time_zone_that_does_not_exist_spoils_nothing(tmp_path: Path) -> None:
    """Whoever asks by it is refused, and the others go on."""
    async with open_ledger(tmp_path / "l.ledger") as ledger:
        book, limits = quota(ledger, [1_000_000.0]), Limits(requests_per_minute=2)
        assert await book.take("a", 1, limits) == 0
        with pytest.raises(ZoneInfoNotFoundError):
            await book.take("b", 1, Limits(requests_per_day=4, day_time_zone="Mars/Olympus"))
        assert [await book.take(ticket, 1, limits) > 0 for ticket in "cd"] == [False, True]


async def test_a_step_that_fails_is_forgotten_as_the_file_forgets_it(tmp_path: Path) -> None:
    """What was undone in the file counts nowhere."""
    clock, limits = [1_000_000.0], Limits(requests_per_minute=2)
    async with open_ledger(tmp_path / "l.ledger") as ledger:
        book = quota(ledger, clock)
        assert await book.take("first", 1, limits) == 0

        def fail(rows: sqlite3.Connection) -> None:
            book._write(rows, "take", "a", 1, at_s=clock[0])
            raise ValueError("a disk that is full")

        with pytest.raises(ValueError, match="full"):
            await ledger.execute(book._in_step(fail))
        assert await book.take("b", 1, limits) == 0
        assert await quota(ledger, clock).take("c", 1, limits) > 0


async def test_a_ledger_that_is_closed_with_permits_out_hinders_nobody(tmp_path: Path) -> None:
    """Neither the one that closes it nor the next process, which gets the place."""
    path, limits = tmp_path / "l.ledger", Limits(concurrency=1)
    async with open_ledger(path) as ledger:
        permit = await gate(ledger).enter(1, limits)
    permit.settle(1)
    async with open_ledger(path) as ledger, asyncio.timeout(20):
        (await gate(ledger).enter(1, limits)).settle(1)


async def test_a_process_that_is_stopped_in_line_is_passed(tmp_path: Path) -> None:
    """It lives, and holds its file; but who waits asks again, and it does not. When it goes on it gets in line."""
    clock, limits = [1_000_000.0], Limits(tokens_per_minute=100)
    async with open_ledger(tmp_path / "l.ledger") as one, open_ledger(tmp_path / "l.ledger") as other:
        here, there = quota(one, clock), quota(other, clock)
        assert await here.take("old", 50, limits) == 0
        assert await there.take("stopped", 100, limits) > 0
        for _ in range(6):  # here asks every ten seconds
            assert await here.take("waits", 60, limits) > 0
            clock[0] += 10
        clock[0] += 1
        async with asyncio.timeout(20):
            while await here.take("waits", 60, limits) > 0:  # noqa: ASYNC110  (it looks for the silent once a second)
                await asyncio.sleep(0.05)
        assert await there.take("stopped", 100, limits) > 0
        clock[0] += 61
        assert await there.take("stopped", 100, limits) == 0


async def test_a_wait_is_looked_into_now_and_then(tmp_path: Path) -> None:
    """Other processes give back without telling; a wait of a day is not looked into every second."""
    async with open_ledger(tmp_path / "l.ledger") as ledger:
        book = quota(ledger, [0.0])
        assert book.pause_s(math.inf) < 0.2
        assert [book.pause_s(wait_s) for wait_s in (0.01, 5.0, 60.0, 86_400.0)] == [0.01, 1.0, 3.75, 20.0]
        assert 2 * book.pause_s(86_400.0) <= _SILENT_S  # one look that comes late costs nobody its place


async def test_first_come_first_served_in_a_wait_of_hours(tmp_path: Path) -> None:
    """Who waits for a day that is used up asks often enough to keep its place, and gets what comes free."""
    clock, limits, begun_s = [1_000_000.0], Limits(requests_per_day=1), 1_000_000.0
    async with open_ledger(tmp_path / "l.ledger") as one, open_ledger(tmp_path / "l.ledger") as other:
        books = {"first": quota(one, clock), "second": quota(other, clock)}
        assert await books["first"].take("old", 1, limits) == 0
        asks = [(begun_s, "first"), (begun_s + 3010, "second")]
        let_through: list[str] = []
        while asks:
            clock[0], ticket = heapq.heappop(asks)
            if clock[0] > begun_s + 5505 and "old" in books["first"]._known.under_way:
                books["first"].refund("old")
                await one.flush()
            books[ticket]._looked_s = -math.inf  # time is set here: it looks for the silent every time
            wait_s = await books[ticket].take(ticket, 1, limits)
            if wait_s == 0:
                let_through.append(ticket)
                books[ticket].refund(ticket)
                await one.flush()
                await other.flush()
            else:
                heapq.heappush(asks, (clock[0] + books[ticket].pause_s(wait_s), ticket))
        assert let_through == ["first", "second"]


async def test_who_has_no_place_of_its_own_does_not_hold_up_the_others(tmp_path: Path) -> None:
    """A 429 takes the last place of a gate whose first in line waits for the quota: another process goes first."""
    limits = Limits(requests_per_minute=2)
    async with open_ledger(tmp_path / "l.ledger") as one, open_ledger(tmp_path / "l.ledger") as other:
        way_out = Gate(FileQuota(one, SCOPE), AdaptiveConcurrency(3, asyncio.get_running_loop().time))
        permits = [await way_out.enter(1, limits) for _ in range(2)]
        waiting = asyncio.create_task(way_out.enter(1, limits))
        while "ask" not in await one.execute(_kinds):  # noqa: ASYNC110  (the gate writes it)
            await asyncio.sleep(0)
        there = FileQuota(other, SCOPE)
        assert await there.take("behind", 1, limits) > 0
        permits[0].refused()
        async with asyncio.timeout(5):
            while await there.take("behind", 1, limits) > 0:  # noqa: ASYNC110  (it is told nothing)
                await asyncio.sleep(0.02)
        there.refund("behind")
        await other.flush()
        permits[1].settle(1)
        async with asyncio.timeout(5):
            (await waiting).settle(1)


async def test_two_processes_decide_as_one_would(tmp_path: Path) -> None:
    """At random: who is let through, and who waits for how long, is what a single count in memory says."""
    draw, clock = random.Random(3), [1_000_000.0]
    limits = Limits(requests_per_minute=12, tokens_per_minute=100, requests_per_day=150, concurrency=6)
    async with open_ledger(tmp_path / "l.ledger") as one, open_ledger(tmp_path / "l.ledger") as other:
        books, memory = (quota(one, clock), quota(other, clock)), MemoryQuota(lambda: clock[0])
        under_way: dict[str, FileQuota] = {}
        taken = 0
        for number in range(600):
            book, ticket, tokens = draw.choice(books), f"{number}", draw.randrange(1, 40)
            wait_s = await book.take(ticket, tokens, limits)
            assert wait_s == await memory.take(ticket, tokens, limits)
            if wait_s == 0:
                under_way[ticket], taken = book, taken + 1
            else:
                book.refund(ticket)
            for done in [ticket for ticket in under_way if draw.random() < 0.3]:
                ask, amount = draw.choice([("settle", (draw.randrange(30),)), ("refund", ())])
                getattr(under_way.pop(done), ask)(done, *amount)
                getattr(memory, ask)(done, *amount)
            for ledger in (one, other):
                await ledger.flush()
            clock[0] += draw.choice([0.0, 1.5, 4.0, 30.0])
        assert 150 < taken < 600


async def test_forgetting_changes_no_decision(tmp_path: Path) -> None:
    """Five days of random requests: one file is pruned, and opened anew now and then; the other one is neither."""
    draw, clock = random.Random(7), [1_000_000.0]
    limits = Limits(requests_per_minute=3, requests_per_day=40, day_time_zone="Europe/Berlin", concurrency=5)
    async with open_ledger(tmp_path / "pruned") as one, open_ledger(tmp_path / "whole") as other:
        pruned, whole = quota(one, clock), quota(other, clock)
        whole._prune_at_s = math.inf
        under_way: list[str] = []
        for number in range(700):
            if draw.random() < 0.05:
                pruned = quota(one, clock)
            waits = [await book.take(f"{number}", 1, limits) for book in (pruned, whole)]
            assert waits[0] == waits[1]
            if waits[0] == 0:
                under_way.append(f"{number}")
            for book in (pruned, whole):
                if waits[0]:
                    book.refund(f"{number}")
                for ticket in under_way[:-3]:  # three are under way for long
                    book.settle(ticket, 1)
            under_way = under_way[-3:]
            clock[0] += draw.choice([1.0, 15.0, 1200.0])
        counts = [await ledger.execute(_count) for ledger in (one, other)]
        assert counts[0] < counts[1] / 2


def _kinds(rows: sqlite3.Connection) -> list[str]:
    return [kind for (kind,) in rows.execute("SELECT kind FROM quota_events")]


def _count(rows: sqlite3.Connection) -> int:
    return int(rows.execute("SELECT count(*) FROM quota_events").fetchone()[0])


async def test_old_events_are_forgotten_and_those_under_way_are_not(tmp_path: Path) -> None:
    """After more than a day nothing needs them; a request that is still under way keeps its place."""
    clock, limits = [1_000_000.0], Limits(requests_per_minute=100, concurrency=2)
    path = tmp_path / "l.ledger"
    async with open_ledger(path) as ledger:
        book = quota(ledger, clock)
        for number in range(10):
            assert await book.take(f"{number}", 1, limits) == 0
            if number:
                book.settle(f"{number}", 1)
        await ledger.flush()
        clock[0] += 28 * 3600
        fresh = quota(ledger, clock)
        assert await fresh.take("new", 1, limits) == 0
        assert await fresh.take("newer", 1, limits) > 0
        rows = await ledger.execute(lambda rows: rows.execute("SELECT grant_id FROM quota_events").fetchall())
    assert {grant for (grant,) in rows} == {"0", "new", "newer"}


async def test_the_dead_leave_what_they_took_also_to_who_counts_no_tokens(tmp_path: Path) -> None:
    """Whoever clears up after them may keep other limits; the tokens go on counting for everybody."""
    clock, path = [1_000_000.0], tmp_path / "l.ledger"
    tokens = Limits(tokens_per_minute=1000)
    async with open_ledger(path) as gone:
        assert await quota(gone, clock).take("lost", 900, tokens) == 0
    async with open_ledger(path) as ledger:
        assert await quota(ledger, clock).take("one", 1, Limits(concurrency=1)) == 0
        assert await quota(ledger, clock).take("next", 900, tokens) > 50


async def test_who_was_idle_for_long_reads_the_file_anew(tmp_path: Path) -> None:
    """What it missed may have been pruned: a request that is long over takes no place for ever."""
    clock, path, limits = [1_000_000.0], tmp_path / "l.ledger", Limits(concurrency=1)
    async with open_ledger(path) as one, open_ledger(path) as other:
        idle, busy = quota(one, clock), quota(other, clock)
        assert await busy.take("a", 1, limits) == 0
        assert await idle.take("b", 1, limits) > 0
        idle.refund("b")
        await one.flush()
        busy.settle("a", 1)
        clock[0] += 30 * 3600
        assert await busy.take("c", 1, limits) == 0
        busy.settle("c", 1)
        await other.flush()
        clock[0] += 2 * 3600
        assert await busy.take("d", 1, limits) == 0
        busy.settle("d", 1)
        await other.flush()
        assert await idle.take("e", 1, limits) == 0
