"""A thousand calls over real HTTP, most of them cancelled at random: nothing of them is left anywhere."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import numpy as np
import pytest
from ledger_client import SUBSPACE, TEXTS, TOKENS
from served import KEYS, served

from lmaas_backends.remote import RemoteBackend, open_backend
from lmaas_backends.roberta.accounts import Terms
from lmaas_sdk import Budget, Limits, Price, ScoreQuery
from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.ledger import Ledger, MemoryLedger
from lmaas_sdk.accounting.ledger_file import open_ledger
from lmaas_sdk.client import Client
from lmaas_sdk.traffic.lane import lane_of

CALLS = 1000
TERMS = Terms(Price(0, call_nanousd=7))
QUOTAS = Limits(requests_per_minute=10 * CALLS, tokens_per_minute=100 * CALLS, concurrency=24)


async def cancelled_calls(client: Client, draw: random.Random) -> int:
    """How many of the calls were cancelled, each at a moment of its own."""
    tasks = []
    loop = asyncio.get_running_loop()
    for number in range(CALLS):
        # two by two they are equal, and put together
        query = ScoreQuery(TEXTS, subspace=SUBSPACE, Z=np.full((1, 4), number // 2, np.float32))
        call = client.call(query, f"call {number}", purpose="train", token_counts=(TOKENS,))
        tasks.append(asyncio.create_task(client.score(call)))
        loop.call_later(draw.random() ** 4 * 0.5, tasks[-1].cancel)  # most of them soon: a call takes milliseconds
        await asyncio.sleep(draw.random() * 0.001)
    await asyncio.wait(tasks)
    for task in tasks:
        assert task.cancelled() or task.exception() is None
    return sum(task.cancelled() for task in tasks)


async def check_nothing_left(client: Client, backend: RemoteBackend, ledger: Ledger) -> None:
    """No reservation, no place in the quota or among those under way, no connection in use, no task."""
    await ledger.flush()
    assert client.budget.pending == Amounts()
    lane = lane_of(backend, "score", ledger=ledger, wall=None)
    async with asyncio.timeout(10):
        permits = [await lane.gate.enter(1, QUOTAS) for _ in range(24)]  # every place there is
    for permit in permits:
        permit.give_back()
    connector = backend._http._session.connector
    assert not connector._acquired
    assert [task for task in asyncio.all_tasks() if not _is_servers(task)] == [asyncio.current_task()]


def _is_servers(task: asyncio.Task[object]) -> bool:
    return "aiohttp/web_protocol" in repr(task) or "IdempotentCalls" in repr(task)


@pytest.mark.parametrize("kind", ["memory", "file"])
async def test_a_thousand_random_cancellations_leave_nothing(kind: str, tmp_path: Path) -> None:
    """In memory and on a ledger file; what was billed is booked."""
    draw = random.Random(5)
    key = KEYS[0].partition("=")[2]
    async with served(terms=TERMS) as server, open_backend(server.url, api_key=key) as backend:
        if kind == "memory":
            cancelled, posted = await run(backend, MemoryLedger(), draw)
        else:
            async with open_ledger(tmp_path / "l.ledger") as ledger:
                cancelled, posted = await run(backend, ledger, draw)
        assert cancelled > CALLS // 10
        _, told, _ = await server.ask("GET", "/v1/usage")
        assert told["usage"]["ann"]["nanousd"] <= posted.nanousd


async def run(backend: RemoteBackend, ledger: Ledger, draw: random.Random) -> tuple[int, Amounts]:
    """The calls, and then a look around; how many were cancelled, and what is booked."""
    client = Client(backend, Budget(name="b", ledger=ledger), quotas=QUOTAS)
    cancelled = await cancelled_calls(client, draw)
    await check_nothing_left(client, backend, ledger)
    return cancelled, client.budget.posted
