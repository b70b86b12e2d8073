"""A server that is killed: what it billed it has told, and what it told it tells again."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
import served

from lmaas_backends.roberta.accounts import Account, Terms
from lmaas_backends.roberta.rate_limits import Clocks
from lmaas_backends.roberta.usage_store import Metered, UsageStore
from lmaas_sdk.backend import Price

HEADERS = {"Authorization": "Bearer test-key-of-ann"}
QUERY = {"model": "fake", "texts": "a"}
COST_NANOUSD = 4_000  # 10 tokens at 0.0004 dollars for 1,000
AT_ONCE = 8
CALLS_A_LIFE = 60


@asynccontextmanager
async def living(state: Path, log: Path) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """A server as a process, and its URL; it is killed at the end if it still lives."""
    command = [sys.executable, served.__file__, "--state", str(state), "--price-usd-per-1k-tokens", "0.0004"]
    with log.open("ab") as errors:
        child = await asyncio.create_subprocess_exec(
            *command,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env=os.environ | {"LMAAS_SERVER_API_KEYS": "ann=test-key-of-ann"},
        )
    try:
        assert child.stdout is not None
        yield json.loads(await child.stdout.readline())["url"], child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def score(session: aiohttp.ClientSession, url: str, key: str) -> bytes:
    async with session.post(f"{url}/v1/score", json=QUERY, headers={"Idempotency-Key": key}) as answer:
        answer.raise_for_status()
        return await answer.read()


async def ask_until_killed(url: str, keys: list[str], told: dict[str, bytes], *, on_answer: asyncio.Event) -> None:
    """Asks under every key, several at once, and notes what is answered."""
    left = iter(keys)

    async def ask(session: aiohttp.ClientSession) -> None:
        with suppress(aiohttp.ClientError):
            for key in left:
                told[key] = await score(session, url, key)
                on_answer.set()

    async with aiohttp.ClientSession(headers=HEADERS) as session, asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(ask(session))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file by its name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def one_life(state: Path, log: Path, keys: list[str], told: dict[str, bytes], chance: random.Random) -> None:
    """Starts a server, asks it, and kills it at a moment that chance decides."""
    answered = asyncio.Event()
    async with living(state, log) as (url, child), asyncio.TaskGroup() as tasks:
        tasks.create_task(ask_until_killed(url, keys, told, on_answer=answered))
        if chance.random() < 0.9:
            await answered.wait()  # most kills come while calls are answered, some before
        await asyncio.sleep(chance.uniform(0, 0.05))
        child.kill()


@pytest.mark.parametrize("kills", [5, pytest.param(100, marks=pytest.mark.long)])
async def test_a_killed_server_bills_each_key_once_and_repeats_its_answers(kills: int, tmp_path: Path) -> None:
    """After any number of kills each key has the answer it was given first, is billed once, and nothing is pending."""
    state, log, chance = tmp_path / "state", tmp_path / "log", random.Random(7)
    told: dict[str, bytes] = {}
    keys: list[str] = []
    for life in range(kills):
        keys += [f"{life}-{number}" for number in range(CALLS_A_LIFE)]
        await one_life(state, log, keys[-CALLS_A_LIFE:], told, chance)
    async with living(state, log) as (url, _), aiohttp.ClientSession(headers=HEADERS) as session:
        repeated = {key: await score(session, url, key) for key in told}
        lost = [key for key in keys if key not in told]
        first = {key: await score(session, url, key) for key in lost}
        second = {key: await score(session, url, key) for key in lost}
        async with session.get(f"{url}/v1/usage") as answer:
            usage = (await answer.json())["usage"]["ann"]
        living_servers = [name for name in contents(tmp_path) if name.endswith(".alive")]

    assert told
    assert told == repeated
    assert first == second
    assert len(set(repeated.values()) | set(first.values())) == len(keys)
    assert (len(keys), len(keys) * COST_NANOUSD) == (usage["calls"], usage["nanousd"])
    assert len(living_servers) == 1
    written = b"".join(contents(tmp_path).values())
    assert b"test-key-of-ann" not in written
    assert b"Traceback" not in written


KILLED_AFTER = """
import asyncio, os, signal, sys, time
from pathlib import Path
from lmaas_backends.roberta.accounts import Account, Terms
from lmaas_backends.roberta.kept_answers import Answer
from lmaas_backends.roberta.rate_limits import Clocks
from lmaas_backends.roberta.usage_store import Metered, UsageStore
from lmaas_sdk.backend import Price, Usage

async def run(path, step):
    account = Account("ann", Terms(Price(400_000_000), balance_nanousd=10_000))
    async with UsageStore(Clocks(), Path(path)) as store:
        charge = await store.admit(Metered(account, "score", "k", "f"), 10, 4_000)
        if step == "settle":
            await store.settle(charge, Usage(10), Answer(b"told", "text/plain"))
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(run(*sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("step", "kept", "calls", "balance"), [("admit", None, 0, 10_000), ("settle", b"told", 1, 6_000)]
)
async def test_a_call_is_billed_and_kept_by_one_commit(
    step: str, kept: bytes | None, calls: int, balance: int, tmp_path: Path
) -> None:
    """A kill before the commit leaves no bill, no answer and no money set aside; one after it bill and answer."""
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED_AFTER, str(tmp_path / "state"), step)
    code = await child.wait()
    account = Account("ann", Terms(Price(400_000_000), balance_nanousd=10_000))
    async with UsageStore(Clocks(), tmp_path / "state") as store:
        found = await store.look(Metered(account, "score", "k", "f"))
        report = await store.report(account)

    assert -signal.SIGKILL == code
    assert (kept, calls, balance) == (found and found.body, report["calls"], report["balance_nanousd"])
