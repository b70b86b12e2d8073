"""Calls that nothing keeps waiting: a ledger file takes them and marks them as sent in one step."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from client_cases import call

from lmaas_backends.mock import MockBackend
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.ledger_file import SqliteLedger, open_ledger
from lmaas_sdk.accounting.ledger_reader import LedgerReader
from lmaas_sdk.backend import Limits
from lmaas_sdk.client import Client
from lmaas_sdk.errors import BudgetExceeded
from lmaas_sdk.testing import run_virtual


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    """A ledger file, open."""
    with open_ledger(tmp_path / "spend.ledger") as one:
        yield one


def kinds(path: Path, key: str) -> list[str]:
    """What happened to a call, as anybody sees it in the file."""
    with LedgerReader(path) as reader:
        return [entry.kind for entry in reader.entries() if entry.key == key]


async def test_one_step_takes_it_and_marks_it_as_sent(ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for the file once; one that was reserved before, for the mark alone."""
    client = Client(MockBackend(), Budget(calls=5, ledger=ledger))
    await client.budget.ready()
    waits, hold = [], ledger.hold

    async def counted(*args: Any) -> object:
        waits.append(args)
        return await hold(*args)

    monkeypatch.setattr(ledger, "hold", counted)
    await client.score(call(client, "late"))
    assert 1 == len(waits)
    early = call(client, "early")
    (held,) = await client.hold([early])
    await client.score(early, held)
    assert 3 == len(waits)
    await ledger.flush()
    for key in ("late", "early"):
        assert ["pending", "sent", "post"] == await asyncio.to_thread(kinds, ledger.path, key)


async def test_what_does_not_fit_is_not_sent_and_keeps_nobody_out(ledger: SqliteLedger) -> None:
    """Its place among the requests under way is free again."""
    backend = MockBackend()
    client, other = (
        Client(backend, Budget(tokens=1, ledger=ledger)),
        Client(backend, Budget(name="other", ledger=ledger)),
    )
    for number in range(20):  # more than may be under way at once
        with pytest.raises(BudgetExceeded):
            await client.score(call(client, f"k{number}"))
    await other.score(call(other, "other"))
    assert (1, 0) == (backend.book.attempts, client.budget.pending.calls)


def test_what_waits_for_a_quota_is_reserved_before(tmp_path: Path) -> None:
    """And marked as sent afterwards: a process that dies meanwhile has sent nothing."""
    path = tmp_path / "spend.ledger"

    async def main() -> float:
        async with open_ledger(path) as ledger:
            client = Client(MockBackend(limits=Limits(requests_per_minute=1)), Budget(ledger=ledger))
            await client.score(call(client, "first"))
            waiting = asyncio.create_task(client.score(call(client, "second")))
            await asyncio.sleep(30)
            await ledger.flush()
            assert ["pending"] == await asyncio.to_thread(kinds, path, "second")
            await waiting
            return asyncio.get_running_loop().time()

    assert run_virtual(main()) >= 60


@pytest.mark.parametrize("turns", range(12))
async def test_cancelled_at_any_moment_it_leaves_nothing_pending(ledger: SqliteLedger, turns: int) -> None:
    """Before it is reserved, while it is, and while the backend has it."""
    client = Client(MockBackend(latency_s=60), Budget(calls=5, ledger=ledger))
    task = asyncio.create_task(client.score(call(client, "k")))
    for _ in range(turns):
        await asyncio.sleep(0.0005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await ledger.flush()
    assert 0 == client.budget.pending.calls
