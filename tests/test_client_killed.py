"""A client that is killed at any point: what the server billed is booked, and nothing is billed twice."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import sys
from pathlib import Path

import pytest
from served import KEYS, Served, served

from lmaas_backends.roberta.accounts import Terms
from lmaas_sdk import Budget, Price
from lmaas_sdk.accounting.ledger_file import open_ledger

CALLS = 200
TOKENS = 10
TERMS = Terms(Price(0, call_nanousd=7))
UNRESOLVED = """SELECT transfer FROM entries WHERE kind = 'pending'
  EXCEPT SELECT transfer FROM entries WHERE kind IN ('post', 'void')"""
PROGRAM = Path(__file__).with_name("ledger_client.py")


async def start(server: Served, path: Path) -> asyncio.subprocess.Process:
    """The program that makes the calls."""
    key = KEYS[0].partition("=")[2]
    return await asyncio.create_subprocess_exec(
        *(sys.executable, str(PROGRAM), server.url, str(path), str(CALLS)),
        env={"LMAAS_API_KEY": key, "PYTHONPATH": ":".join(sys.path)},
        stdout=asyncio.subprocess.PIPE,
    )


async def kill_after(program: asyncio.subprocess.Process, lines: int, more_s: float) -> None:
    """SIGKILL some milliseconds after so many calls were answered."""
    assert program.stdout is not None
    for _ in range(lines):
        await program.stdout.readline()
    await asyncio.sleep(more_s)
    if program.returncode is None:
        program.kill()
    await program.communicate()


async def billed(server: Served) -> tuple[int, int]:
    """Calls and money on the server's bill."""
    _, told, _ = await server.ask("GET", "/v1/usage")
    (usage,) = told["usage"].values()
    return usage["calls"], usage["nanousd"]


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    """What the file holds."""
    with sqlite3.connect(path) as connection:
        found = connection.execute(query).fetchall()
    connection.close()
    return found


@pytest.mark.parametrize("kills", [5, pytest.param(200, marks=pytest.mark.long)])
async def test_a_client_is_killed_and_goes_on(kills: int, tmp_path: Path) -> None:
    """After every kill the books cover the bill; a run to the end under the same keys makes them equal to it."""
    draw = random.Random(11)
    for number in range(kills):
        path = tmp_path / f"{number}.ledger"
        async with served(terms=TERMS) as server:
            await kill_after(await start(server, path), draw.randrange(CALLS), draw.random() * 0.02)
            calls, nanousd = await billed(server)
            async with open_ledger(path) as ledger:
                budget = Budget(tokens=TOKENS * CALLS, calls=2 * CALLS, name="cap", ledger=ledger)
                await ledger.flush()
                assert budget.pending.calls == 0
                assert calls <= budget.posted.calls
                assert calls * TOKENS <= budget.posted.tokens
                assert nanousd <= budget.posted.nanousd
            assert rows(path, UNRESOLVED) == []
            again = await start(server, path)
            await again.communicate()
            assert again.returncode == 0
            assert await billed(server) == (CALLS, 7 * CALLS)
            async with open_ledger(path) as ledger:
                budget = Budget(tokens=TOKENS * CALLS, calls=2 * CALLS, name="cap", ledger=ledger)
                await ledger.flush()
                assert (budget.posted.tokens, budget.posted.nanousd) == (TOKENS * CALLS, 7 * CALLS)
