"""Runs that are killed at any point, over HTTP, and gone on with: the same bytes, and nothing billed twice."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from deadly_way import DeadlyWay
from tuning_process import EVALUATIONS

from lmaas_sdk import verify_ledger
from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.tuning.journal_file import JournalFile

PROGRAM = Path(__file__).with_name("tuning_process.py")
PRICE = "0.0004"
TORN = b'0123456789abcdef {"kind":"answ'
LONGEST_S = 120
AT_ONCE = 2
UNKNOWN = """SELECT transfer FROM entries WHERE kind = 'post' AND unknown = 1
  EXCEPT SELECT transfer FROM entries WHERE kind = 'correct'"""


def key_of(name: str) -> str:
    return f"test-key-of-{name}"


def server_command(state: Path, port: int = 0) -> list[str]:
    options = ["--threads", "1", "--state", str(state), "--price-usd-per-1k-tokens", PRICE, "--port", str(port)]
    return [sys.executable, "-m", "lmaas_backends.roberta.server", *options]


def server_environment(names: list[str]) -> dict[str, str]:
    return os.environ | {"LMAAS_SERVER_API_KEYS": ",".join(f"{name}={key_of(name)}" for name in names)}


def client_command(url: str, folder: Path, *, has_ledger: bool) -> list[str]:
    ledger = [str(folder / "spend.ledger")] if has_ledger else []
    return [sys.executable, str(PROGRAM), url, str(folder / "run.journal"), *ledger]


def client_environment(name: str) -> dict[str, str]:
    return os.environ | {"LMAAS_API_KEY": key_of(name), "PYTHONPATH": os.pathsep.join(sys.path)}


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """A run that nobody kills, on a server that goes on."""

    url: str
    told: dict[str, Any]
    journal_bytes: int
    calls: int


NAMES = ["undisturbed", *(f"run{number}" for number in range(120))]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Undisturbed]:
    """The server that the tests share, each with an API key of its own, and the run to compare with."""
    folder = tmp_path_factory.mktemp("undisturbed")
    command, environment = server_command(folder / "state"), server_environment(NAMES)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as server:
        try:
            assert server.stdout is not None
            url = json.loads(server.stdout.readline())["url"]
            client = client_command(url, folder, has_ledger=False)
            run = subprocess.run(client, env=client_environment(NAMES[0]), capture_output=True, check=True)
            journal = folder / "run.journal"
            size, calls = journal.stat().st_size, len(Billed.by(journal).keys)
            yield Undisturbed(url, json.loads(run.stdout), size, calls)
        finally:
            server.kill()


@dataclass(slots=True)
class Billed:
    """What a journal says was sent, answered and paid."""

    keys: set[str] = field(default_factory=set)
    answered: Counter[str] = field(default_factory=Counter)
    paid: Amounts = field(default_factory=Amounts)

    @classmethod
    def by(cls, path: Path) -> Billed:
        billed, file = cls(), JournalFile(path, exists=True)
        with closing(file):
            for record in file.records():
                billed.keys |= set(record["keys"]) if record["kind"] == "sent" else set()
                billed.answered[record.get("key")] += record["kind"] == "answer"
                told = record["keys"] if record["kind"] == "told" else []  # that of a single call is in what is told
                billed.answered.update(key for key in told if not billed.answered[key])
                billed.paid = sum(map(Amounts.from_exact, record.get("paid", {}).values()), billed.paid)
        billed.answered += Counter()  # leaves those that were
        return billed


# -- ways to be killed


@dataclass(frozen=True, slots=True)
class Kill:
    """When a client is killed.

    Args:
        by: `time` after it has begun its journal, `bytes` of the journal, `sent`: when so many calls have come to the
            server, `answered`: when the server has billed so many and the last answer is still on its way.
        part: At this part of what an undisturbed run comes to.
        torn: What the journal ends with then.
    """

    by: str
    part: float
    torn: bytes = b""


def drawn(draw: random.Random, number: int) -> Kill:
    """A kill; each kind in turn."""
    by = ("bytes", "sent", "answered", "time")[number % 4]
    return Kill(by, draw.random(), TORN[: draw.randrange(len(TORN))] if draw.random() < 0.3 else b"")


@asynccontextmanager
async def started(name: str, url: str, folder: Path, *, has_ledger: bool) -> AsyncIterator[asyncio.subprocess.Process]:
    """The client; killed at the end, if it still lives."""
    client = await asyncio.create_subprocess_exec(
        *client_command(url, folder, has_ledger=has_ledger),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=client_environment(name),
    )
    try:
        yield client
    finally:
        kill(client)
        await client.wait()


def kill(client: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        client.kill()


class Life:
    """Where a client lives: one folder, and one URL, by which a ledger knows whose keys its calls have.

    Args:
        name: Of its API key.
        url: The server.
        folder: Of its files.
        has_ledger: Whether its books are in a file.
    """

    def __init__(self, name: str, url: str, folder: Path, *, has_ledger: bool) -> None:
        self.name, self.has_ledger = name, has_ledger
        self.journal, self.ledger = folder / "run.journal", folder / "spend.ledger"
        self._url, self._folder, self._port = url, folder, 0

    async def killed(self, plan: Kill, whole: Undisturbed) -> None:
        """Begins or goes on, and is killed."""
        by_calls, by_bytes = plan.by in ("sent", "answered"), plan.by == "bytes"
        nth = 1 + int(plan.part * whole.calls) if by_calls else None
        async with self._started(nth, answers=plan.by == "answered") as client:
            ended = asyncio.create_task(client.communicate())
            if not by_calls:
                await grown(self.journal, int(plan.part * whole.journal_bytes) if by_bytes else 1, unless=ended)
                await asyncio.sleep(0 if by_bytes else plan.part)
                kill(client)
            await ended
        await asyncio.to_thread(tear, self.journal, plan.torn)

    async def ended(self) -> dict[str, Any]:
        """Goes on to the end; what it tells then."""
        async with self._started() as client:
            out, err = await client.communicate()
        assert 0 == client.returncode, err.decode()
        told: dict[str, Any] = json.loads(out)
        return told

    @asynccontextmanager
    async def _started(
        self, nth: int | None = None, *, answers: bool = False
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        clients: list[asyncio.subprocess.Process] = []
        way = DeadlyWay(self._url, lambda: kill(clients[0]), nth=nth or 10**9, answers=answers, port=self._port)
        async with way.opened() as url:
            self._port = int(url.rpartition(":")[2])
            async with started(self.name, url, self._folder, has_ledger=self.has_ledger) as client:
                clients.append(client)
                yield client


async def grown(path: Path, size: int, *, unless: asyncio.Task[Any]) -> None:
    """Returns when a file has so many bytes, or the task is done."""

    def has_grown() -> bool:
        return path.exists() and path.stat().st_size >= size

    async with asyncio.timeout(LONGEST_S):
        while not await asyncio.to_thread(has_grown) and not unless.done():  # noqa: ASYNC110  (a file tells nobody)
            await asyncio.sleep(0.001)


def tear(path: Path, torn: bytes) -> None:
    if path.exists():
        with path.open("ab") as journal:
            journal.write(torn)


async def usage_of(name: str, url: str) -> dict[str, int]:
    headers = {"Authorization": f"Bearer {key_of(name)}"}
    async with aiohttp.ClientSession(headers=headers) as session, session.get(f"{url}/v1/usage") as answer:
        usage: dict[str, int] = (await answer.json())["usage"][name]
        return usage


def check_journal(path: Path, usage: dict[str, int], told: dict[str, Any]) -> None:
    """Every key that was sent is answered once and billed once, and the run has paid what the server billed."""
    billed = Billed.by(path)
    assert dict.fromkeys(billed.keys, 1) == dict(billed.answered)
    assert len(billed.keys) == usage["calls"]
    assert (EVALUATIONS, EVALUATIONS) == (billed.paid.evaluations, told["evaluations"])
    assert usage["input_tokens"] == billed.paid.tokens == told["tokens"]


def check_ledger(path: Path, usage: dict[str, int]) -> None:
    """It adds up, nothing is pending or unknown, and it has what the server billed."""
    verified = verify_ledger(path)
    assert (True, 0) == (verified.is_right, verified.pending), verified.discrepancies
    with closing(sqlite3.connect(path)) as connection:
        assert [] == connection.execute(UNKNOWN).fetchall()
        ((tokens,),) = connection.execute("SELECT posted_tokens FROM accounts WHERE path = 'run'").fetchall()
    assert usage["input_tokens"] == tokens


async def check_killed(life: Life, kills: list[Kill], whole: Undisturbed) -> None:
    """Kills a run so many times, lets it end, and looks at everything."""
    for plan in kills:
        await life.killed(plan, whole)
    told, usage = await life.ended(), await usage_of(life.name, whole.url)
    assert whole.told == told
    await asyncio.to_thread(check_journal, life.journal, usage, told)
    if life.has_ledger:
        await asyncio.to_thread(check_ledger, life.ledger, usage)


def lives(points: int, draw: random.Random) -> Iterator[list[Kill]]:
    """So many kills in all, one to three a run."""
    kills = [drawn(draw, number) for number in range(points)]
    while kills:
        count = draw.randint(1, 3)
        yield kills[:count]
        kills = kills[count:]


@pytest.mark.parametrize("points", [5, pytest.param(100, marks=pytest.mark.long)])
async def test_a_run_killed_at_any_point_ends_as_one_that_was_not(
    points: int, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """The same core and prompt, every key billed once, whether the books are in memory or in a ledger file."""
    places = asyncio.Semaphore(AT_ONCE)

    async def check(run: int, kills: list[Kill]) -> None:
        async with places:
            folder = tmp_path / str(run)
            await asyncio.to_thread(folder.mkdir)
            life = Life(NAMES[1 + run], undisturbed.url, folder, has_ledger=run % 2 == 1)
            await check_killed(life, kills, undisturbed)

    async with asyncio.TaskGroup() as runs:
        for run, kills in enumerate(lives(points, random.Random(points))):
            runs.create_task(check(run, kills))


@asynccontextmanager
async def living(state: Path, name: str, port: int = 0) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """A server of its own, and its URL; killed at the end."""
    server = await asyncio.create_subprocess_exec(
        *server_command(state, port),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=server_environment([name]),
    )
    try:
        assert server.stdout is not None
        yield json.loads(await server.stdout.readline())["url"], server
    finally:
        kill(server)
        await server.wait()


@pytest.mark.parametrize("answers", [True, pytest.param(False, marks=pytest.mark.long)])
async def test_server_and_client_are_killed_both(answers: bool, undisturbed: Undisturbed, tmp_path: Path) -> None:
    """A server that has its state file goes on too: it gives the answers it gave, and bills nothing anew."""
    state, name = tmp_path / "state", "ann"
    async with living(state, name) as (url, server):
        life = Life(name, url, tmp_path, has_ledger=True)
        await life.killed(Kill("answered" if answers else "sent", 0.4), undisturbed)
        kill(server)
        await server.wait()
    async with living(state, name, int(url.rpartition(":")[2])) as (again, _):
        told, usage = await life.ended(), await usage_of(name, again)
    assert (url, undisturbed.told) == (again, told)
    await asyncio.to_thread(check_journal, life.journal, usage, told)
    await asyncio.to_thread(check_ledger, life.ledger, usage)
