"""A server over real HTTP on loopback, with an engine and clocks that the test decides."""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import aiohttp
import numpy as np
from numpy.typing import NDArray

from lmaas_backends.roberta.accounts import Accounts, Terms
from lmaas_backends.roberta.api_keys import ApiKeys
from lmaas_backends.roberta.calls import ModelCalls
from lmaas_backends.roberta.engine_thread import EngineThread
from lmaas_backends.roberta.http_app import application
from lmaas_backends.roberta.protocol import JSON
from lmaas_backends.roberta.rate_limits import Clocks
from lmaas_backends.roberta.server import RobertaServer, serving
from lmaas_backends.roberta.usage_store import UsageStore
from lmaas_sdk.backend import (
    Capabilities,
    FeatureQuery,
    FeatureReply,
    ModelCard,
    Registration,
    ScoreQuery,
    ScoreReply,
    Usage,
)
from lmaas_sdk.texts import TextSet
from lmaas_sdk.tuning.subspace import Subspace

KEYS = ("ann=test-key-of-ann", "bob=test-key-of-bob")
TOKENS_A_TEXT = 10
WAIT_S = 20


class FakeLanes:
    """One thread, or as many as are asked for."""

    def __init__(self, count: int = 1) -> None:
        self.count, self.places = count, count + 1
        self._pool = ThreadPoolExecutor(count)

    def submit(self, step: Callable[[], None]) -> Future[None]:
        return self._pool.submit(step)


class FakeEngine:
    """Bills 10 tokens a text and candidate, and computes only while its gate is open."""

    def __init__(self) -> None:
        self.card = ModelCard("fake", 4, 100, 64, "<mask>", Capabilities(top_k=True), max_candidates=2, max_texts=3)
        self.lanes = FakeLanes()
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Semaphore(0)
        self.scored: list[str] = []
        self.units_a_candidate = 1
        self.error: Exception | None = None

    def register(self, texts: TextSet, subspace: Subspace | None = None) -> Registration:
        if self.error is not None:
            raise self.error
        return Registration(texts.digest, (TOKENS_A_TEXT,) * len(texts))

    def upload(self, array: NDArray[np.float32]) -> str:
        return f"array of {array.shape}"

    def soft_prompts(self, subspace: Subspace, Z: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.zeros((len(Z), subspace.prompt_tokens, subspace.hidden_size), np.float32) + Z[:, :1, None]

    def job(self, query: ScoreQuery | FeatureQuery) -> FakeWork:
        return FakeWork(self, query)

    def begin(self) -> None:
        """What a unit does: it tells that it started, waits for the gate, and fails where it is to."""
        self.started.release()
        if not self.gate.wait(WAIT_S):
            raise TimeoutError
        if self.error is not None:
            raise self.error

    def logits(self, query: ScoreQuery) -> NDArray[np.float32]:
        return np.full((query.n_candidates, 1, 2), len(self.scored), np.float32)


class FakeWork:
    """A query at a `FakeEngine`: one unit for each candidate, or as many as the engine says."""

    def __init__(self, engine: FakeEngine, query: ScoreQuery | FeatureQuery) -> None:
        self._engine, self._query = engine, query
        texts = len(query.texts) if isinstance(query.texts, TextSet) else 1
        self.units = (TOKENS_A_TEXT * texts,) * (query.n_candidates if isinstance(query, ScoreQuery) else 1)
        self.units *= engine.units_a_candidate

    def flops(self, unit: int) -> int:
        return 1000 * self.units[unit]

    def prepare(self, unit: int) -> Callable[[], None]:
        return self._engine.begin

    def reply(self) -> ScoreReply | FeatureReply:
        usage = Usage(sum(self.units))
        if isinstance(self._query, FeatureQuery):
            ones = np.ones(3, np.float32)
            return FeatureReply(np.ones((1, 4), np.float32), np.array([10]), ones, ones, usage)
        texts = self._query.texts
        self._engine.scored.append(texts if isinstance(texts, str) else texts.digest)
        return ScoreReply(self._engine.logits(self._query), usage)


class RandomEngine(FakeEngine):
    """Answers differently each time, so that a repeated answer can only be one that was kept."""

    def logits(self, query: ScoreQuery) -> NDArray[np.float32]:
        words = np.frombuffer(secrets.token_bytes(8 * query.n_candidates), np.uint32)
        return words.astype(np.float32).reshape(-1, 1, 2)


class SetClock:
    """A clock that stands still until it is set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Served:
    """A running server and how to ask it."""

    session: aiohttp.ClientSession
    url: str
    engine: FakeEngine
    clock: SetClock = field(default_factory=SetClock)

    async def ask(
        self, method: str, path: str, body: object = None, *, key: str | None = "test-key-of-ann", **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, JSON and headers (by lower-case name) of an answer; other bodies than bytes are sent as JSON."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent |= {} if key is None else {"Authorization": f"Bearer {key}"}
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        sent = {"Content-Type": JSON} | sent if data is not None else sent
        async with self.session.request(method, f"{self.url}{path}", data=data, headers=sent) as answer:
            told = await answer.json() if answer.content_type == JSON else await answer.read()
            return answer.status, told, {name.lower(): value for name, value in answer.headers.items()}

    async def score(self, texts: str = "a", **more: Any) -> tuple[int, Any, dict[str, str]]:
        return await self.ask("POST", "/v1/score", {"model": "fake", "texts": texts}, **more)


@asynccontextmanager
async def served(
    *,
    keys: tuple[str, ...] = KEYS,
    terms: Terms | None = None,
    own_terms: dict[str, Terms] | None = None,
    state: Path | None = None,
    clock: SetClock | None = None,
    most_queued_tokens: int | None = None,
    port: int = 0,
    engine: Any = None,
    site: Mapping[str, Any] = MappingProxyType({}),
    **options: Any,
) -> AsyncIterator[Served]:
    """A server; `site` goes to `serving`, `options` to `application`."""
    fake = FakeEngine()
    engine, clock = fake if engine is None else engine, clock or SetClock()
    clocks = Clocks(monotonic=clock, wall=clock)
    accounts = Accounts(ApiKeys(keys), terms or Terms(), own_terms)
    async with UsageStore(clocks, state) as store, EngineThread() as thread, aiohttp.ClientSession() as session:
        calls = ModelCalls(
            engine, thread, accounts=accounts, store=store, clocks=clocks, most_queued_tokens=most_queued_tokens
        )
        try:
            async with serving(calls, application(calls, b'{"tok": 1}', **options), port=port, **site) as url:
                yield Served(session, url, engine, clock)
        finally:
            fake.gate.set()


@contextmanager
def in_a_thread(server: AbstractAsyncContextManager[Served]) -> Iterator[str]:
    """The URL of a server that runs on a loop of its own, for tests that are no coroutines."""
    started: Future[str] = Future()
    stop = threading.Event()

    async def run() -> None:
        async with server as running:
            started.set_result(running.url)
            await asyncio.to_thread(stop.wait)

    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(asyncio.run, run())
        try:
            wait((started, ended), return_when=FIRST_COMPLETED)  # it may also have failed to start
            yield started.result() if started.done() else ended.result()
        finally:
            stop.set()
            ended.result()


async def wait_for(semaphore: threading.Semaphore) -> None:
    """Waits until the engine's thread has come so far."""
    assert await asyncio.to_thread(semaphore.acquire, timeout=WAIT_S)


async def until_health(server: Served, **told: object) -> None:
    """Asks /health, which answers while the engine computes, until it tells this."""
    async with asyncio.timeout(WAIT_S):
        while not told.items() <= (await server.ask("GET", "/health"))[1].items():
            pass


def main() -> int:
    """`lmaas serve` with an engine that needs no model, for tests that kill it."""
    server, parser = RobertaServer(lambda _: (RandomEngine(), b"{}")), argparse.ArgumentParser()
    server.add_arguments(parser)
    return server.run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
