"""Ledger files that the tests of reading share: one with something of everything, and ways to damage it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.ledger_file import open_ledger
from lmaas_sdk.accounting.transfers import Label
from lmaas_sdk.accounting.verification import verify_ledger

ASKED = Amounts(1, 2, 30, 400)
BILLED = Amounts(1, 2, 20, 300)
_KILLED = """
import asyncio, os, sys
from ledger_files import ASKED
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.ledger_file import open_ledger

async def main():
    async with open_ledger(sys.argv[1]) as ledger:
        budget = Budget(name="team", calls=100, usd="1.00", ledger=ledger)
        for hold in (await budget.hold_all([ASKED] * 3))[:2]:
            await hold.mark_sent()
        os._exit(9)

asyncio.run(main())
"""
_WRITING = """
import sys
from ledger_files import ASKED, BILLED
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.ledger_file import open_ledger

with open_ledger(sys.argv[1]) as ledger:
    run = Budget(name="team", tokens=1_000_000, ledger=ledger).child("run")
    print("open", flush=True)
    for _ in range(300):
        aside = run.set_aside("part", ASKED)
        aside.reserve(ASKED).post(BILLED)
        aside.release()
"""


async def write_ledger(path: Path) -> Path:
    """Entries 1 to 21: every kind, an unknown outcome, a correction, something set aside; closed."""
    async with open_ledger(path, wall=lambda: 1_790_000_000.25) as ledger:
        team = Budget(calls=100, usd="1.00", name="team", ledger=ledger)
        run = team.child("run", Budget(evaluations=30, tokens=10_000))
        posted, void, lost, corrected = await run.hold_all(
            [ASKED] * 4, [Label("train", "tiny", f"k{n}") for n in range(4)]
        )
        for hold in (posted, void, lost, corrected):
            await hold.mark_sent()
        posted.post(BILLED)
        void.refused()
        void.void()
        lost.post_unknown()
        corrected.post_unknown()
        corrected.correct(BILLED)
        aside = await team.hold_aside("dev", Amounts(5, 0, 100, 1000))
        (hold,) = await aside.hold_all([Amounts(1, 0, 50, 100)], [Label("dev")])
        await hold.mark_sent()
        hold.post(Amounts(1, 0, 50, 90))
        aside.release()
    return path


def damage(path: Path, *statements: str) -> None:
    """Changes a ledger file behind the ledger's back; what forbids that is there again afterwards."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        guarding = "SELECT name, type, sql FROM sqlite_schema WHERE type = 'trigger' OR name LIKE '%_once'"
        guards = connection.execute(guarding).fetchall()
        connection.execute("PRAGMA ignore_check_constraints = 1")
        for name, kind, _ in guards:
            connection.execute(f"DROP {kind} {name}")
        for statement in statements:
            connection.execute(statement)
        for _, _, sql in guards:
            with suppress(sqlite3.Error):  # the damage is what the index forbids, or there is no such table any more
                connection.execute(sql)


def die_with(path: Path) -> None:
    """A process that dies with three transfers of "team" pending, two of them sent."""
    with _started(_KILLED, path) as process:
        assert (("", ""), 9) == (process.communicate(timeout=60), process.returncode)


@contextmanager
def writing_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has opened a ledger file and books on it for a while; in the end, it ends well."""
    with _started(_WRITING, path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
        assert (("", ""), 0) == (process.communicate(timeout=60), process.returncode)


def _started(program: str, path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, str(path)]
    folder = Path(__file__).parent
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wrong(path: Path) -> list[str]:
    """All that verifying a file finds."""
    return [str(discrepancy) for discrepancy in verify_ledger(path).discrepancies]
