"""Several servers of one service, for real: over HTTP, and as processes of which one is killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from deadly_way import DeadlyWay
from served import SetClock, served
from tuning_cases import DEV, TRAIN

from lmaas_backends.remote import RemoteBackend, open_backend
from lmaas_backends.replicas import ReplicatedBackend
from lmaas_backends.roberta.accounts import Accounts, Terms
from lmaas_backends.roberta.api_keys import ApiKeys
from lmaas_backends.roberta.calls import ModelCalls
from lmaas_backends.roberta.engine import Engine
from lmaas_backends.roberta.engine_thread import EngineThread
from lmaas_backends.roberta.http_app import application
from lmaas_backends.roberta.model import LoadedModel, load_model
from lmaas_backends.roberta.rate_limits import Clocks
from lmaas_backends.roberta.server import serving
from lmaas_backends.roberta.usage_store import UsageStore
from lmaas_sdk import PRESETS, Budget, Tuner, load_backend
from lmaas_sdk.backend import Price, ScoreQuery
from lmaas_sdk.errors import (
    AuthenticationFailed,
    ProtocolError,
)
from lmaas_sdk.testing import check_backend
from lmaas_sdk.texts import LabelWords, Piece, TextSet

KEY = "test-key-of-ann"
FINE = TextSet(((Piece("field", "fine"),),), LabelWords((" bad", " great")))


@asynccontextmanager
async def opened(*urls: str) -> AsyncIterator[ReplicatedBackend]:
    async with load_backend(",".join(urls), api_key=KEY) as backend:
        assert isinstance(backend, ReplicatedBackend)
        yield backend


async def test_two_servers_compute_side_by_side() -> None:
    """Neither may answer before both compute."""
    async with served() as first, served() as second, opened(first.url, second.url) as backend:
        first.engine.gate.clear()
        second.engine.gate.clear()
        async with asyncio.TaskGroup() as tasks:
            for key in ("k1", "k2"):
                tasks.create_task(backend.score(ScoreQuery(FINE), key=key))
            for server in (first, second):
                assert await asyncio.to_thread(server.engine.started.acquire, timeout=20)
            first.engine.gate.set()
            second.engine.gate.set()

        assert [FINE.digest] == first.engine.scored == second.engine.scored
        assert (backend.card.replicas, backend.bytes_up > 0, backend.bytes_down > 0) == (2, True, True)


async def test_a_list_opens_them_too_and_one_may_be_away() -> None:
    """As long as one answers."""
    async with served() as gone:
        pass
    async with served() as server, load_backend([gone.url, server.url], api_key=KEY) as backend:
        await backend.score(ScoreQuery(FINE), key="k")

        assert (2, [FINE.digest]) == (backend.card.replicas, server.engine.scored)


async def test_servers_that_differ_are_refused() -> None:
    """Both URLs, the field and both values are told."""
    dear = Price(400_000_000, source="here")
    async with served() as first, served(terms=Terms(dear)) as second:
        with pytest.raises(ProtocolError) as caught:
            async with opened(first.url, second.url):
                pass

    assert f"price is None at {first.url} and {dear!r} at {second.url}" in str(caught.value)


async def test_a_wrong_key_is_no_absence() -> None:
    """It is refused, however many servers there are."""
    async with served() as first, served() as second:
        with pytest.raises(AuthenticationFailed):
            async with load_backend(f"{first.url},{second.url}", api_key="wrong"):
                pass


async def test_a_server_that_is_started_again_takes_calls_again() -> None:
    """It is stopped, passed over, started with another price and passed over still, then started as it was."""
    clock = SetClock()
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(AsyncExitStack()) for _ in range(2)]
        urls = [(await server.enter_async_context(served())).url for server in servers]
        port = int(urls[0].rpartition(":")[2])
        remotes = [await stack.enter_async_context(_connected(url)) for url in urls]
        backend = ReplicatedBackend(remotes, clock=clock)
        scored = []
        await servers[0].aclose()
        await backend.score(ScoreQuery(FINE), key="k")
        for terms in (Terms(Price(1)), Terms()):
            clock.now += 60.0
            again = await servers[0].enter_async_context(served(terms=terms, port=port))
            await backend.score(ScoreQuery(FINE), key=f"k{len(scored)}")
            scored.append(len(again.engine.scored))
            await servers[0].aclose()

    assert [0, 1] == scored


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[RemoteBackend]:
    async with open_backend(url, api_key=KEY) as backend:
        assert isinstance(backend, RemoteBackend)
        yield backend


# -- two real servers, one of which is killed


@asynccontextmanager
async def two_living(state: Path) -> AsyncIterator[list[tuple[str, asyncio.subprocess.Process]]]:
    """Two servers of the bundled model, as processes with their URLs; killed at the end, if they still live."""
    options = ["--threads", "1", "--state", str(state), "--price-usd-per-1k-tokens", "0.0004", "--port", "0"]
    async with AsyncExitStack() as stack:
        children = [await stack.enter_async_context(_started(options)) for _ in range(2)]
        yield [(json.loads(await child.stdout.readline())["url"], child) for child in children if child.stdout]


@asynccontextmanager
async def _started(options: list[str]) -> AsyncIterator[asyncio.subprocess.Process]:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lmaas_backends.roberta.server", *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=os.environ | {"LMAAS_SERVER_API_KEYS": f"ann={KEY}"},
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def usage_at(url: str) -> dict[str, int]:
    headers = {"Authorization": f"Bearer {KEY}"}
    async with aiohttp.ClientSession(headers=headers) as session, session.get(f"{url}/v1/usage") as answer:
        found: dict[str, int] = (await answer.json())["usage"]["ann"]
        return found


def answers_kept(state: Path) -> int:
    """Different keys that the state file has an answer to."""
    with closing(sqlite3.connect(state)) as connection:
        (count,) = connection.execute("SELECT count(DISTINCT key) FROM answers").fetchone()
        return int(count)


GENERATIONS, POPULATION, DEV_LOOKS = 4, 6, 2
PRESET = replace(PRESETS["small-model"], name="killed", d=8, prompt_tokens=2, population=POPULATION, dev_every=2)


def tuner(backend: Any, budget: Budget | None = None) -> Tuner:
    return Tuner(backend, budget=budget or Budget(evaluations=GENERATIONS * POPULATION), preset=PRESET, seed=5)


@pytest.mark.parametrize("answers", [False, True], ids=["before it answers", "after it has billed"])
async def test_a_server_killed_in_the_middle_of_a_generation_changes_nothing(answers: bool, tmp_path: Path) -> None:
    """The result is that of one server left alone, and the books that both share hold every key once."""
    state = tmp_path / "state"
    async with two_living(state) as ((url, child), (other, _)):
        way = DeadlyWay(url, child.kill, nth=2, answers=answers)
        async with way.opened() as killed, opened(killed, other) as backend:
            result = await tuner(backend).fit(TRAIN, DEV)
        code, usage, kept = await child.wait(), await usage_at(other), await asyncio.to_thread(answers_kept, state)
        async with load_backend(other, api_key=KEY) as alone:
            undisturbed = await tuner(alone).fit(TRAIN, DEV)

    assert (-signal.SIGKILL, GENERATIONS) == (code, len(result.generations))
    assert undisturbed.core.to_bytes() == result.core.to_bytes()
    keys = 2 * (GENERATIONS + DEV_LOOKS)  # each in a call for each of the two servers
    assert (keys, keys, int(answers)) == (usage["calls"], kept, usage["replayed"])
    assert undisturbed.spent.tokens == usage["input_tokens"] == result.spent.tokens
    assert usage["nanousd"] == 400 * usage["input_tokens"] == result.spent.nanousd
    assert 0 == result.spend.unknown_outcomes


# -- conformance


@asynccontextmanager
async def engine_served(model: LoadedModel, state: Path) -> AsyncIterator[str]:
    """A server of a real model in this process."""
    clocks, accounts = Clocks(), Accounts(ApiKeys([f"ann={KEY}"]), Terms())
    async with UsageStore(clocks, state) as store, EngineThread() as thread:
        calls = ModelCalls(Engine(model), thread, accounts=accounts, store=store, clocks=clocks)
        async with serving(calls, application(calls, model.vocabulary.tokenizer_json)) as url:
            yield url


async def test_servers_together_conform(tmp_path: Path) -> None:
    """They keep every promise of a backend, two of a real model, with shared books."""
    model, state = await asyncio.to_thread(load_model, "roberta-tiny"), tmp_path / "state"
    async with (
        engine_served(model, state) as first,
        engine_served(model, state) as second,
        opened(first, second) as backend,
    ):
        await check_backend(backend, close=True)
