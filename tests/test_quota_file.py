"""A quota in a ledger file: shared by processes, kept over a restart, and not held by the dead."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from pathlib import Path

from lmaas_sdk.accounting.ledger_file import SqliteLedger, open_ledger
from lmaas_sdk.backend import Limits
from lmaas_sdk.traffic.concurrency import AdaptiveConcurrency
from lmaas_sdk.traffic.gate import Gate
from lmaas_sdk.traffic.quota_file import FileQuota

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
    """A process that is killed under way frees its place; what it took goes on counting."""
    path = tmp_path / "l.ledger"
    limits = Limits(concurrency=1, requests_per_minute=2)
    program = await start(path, "hold", 0.0, concurrency=1, requests_per_minute=2)
    assert program.stdout is not None
    await program.stdout.readline()
    async with open_ledger(path) as ledger:
        gate = Gate(FileQuota(ledger, SCOPE), AdaptiveConcurrency(64, asyncio.get_running_loop().time))
        waiting = asyncio.create_task(gate.enter(1, limits))
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        assert not done
        program.kill()
        await program.wait()
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
        gate = Gate(FileQuota(ledger, SCOPE), AdaptiveConcurrency(64, asyncio.get_running_loop().time))
        permit = await gate.enter(1, limits)
        waiting = asyncio.create_task(gate.enter(1, limits))
        await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.wait([waiting])
        permit.give_back()
        async with asyncio.timeout(10):
            await gate.enter(1, limits)


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
        assert await book.take("y", 1, minute) == 0


async def test_old_events_are_forgotten_and_those_under_way_are_not(tmp_path: Path) -> None:
    """After a day and an hour nothing needs them; a request that is still under way keeps its place."""
    clock, limits = [1_000_000.0], Limits(requests_per_minute=100, concurrency=2)
    path = tmp_path / "l.ledger"
    async with open_ledger(path) as ledger:
        book = quota(ledger, clock)
        for number in range(10):
            assert await book.take(f"{number}", 1, limits) == 0
            if number:
                book.settle(f"{number}", 1)
        await ledger.flush()
        clock[0] += 26 * 3600
        fresh = quota(ledger, clock)
        assert await fresh.take("new", 1, limits) == 0
        assert await fresh.take("newer", 1, limits) > 0
        rows = await ledger.execute(lambda rows: rows.execute("SELECT grant_id FROM quota_events").fetchall())
    assert {grant for (grant,) in rows} == {"0", "new", "newer"}
