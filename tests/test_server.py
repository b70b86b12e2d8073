"""The server over real HTTP on loopback, with an engine whose timing the test decides."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import CancelledError
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from numpy.typing import NDArray

from lmaas_backends.roberta.accounts import Accounts, ApiKeys, Terms
from lmaas_backends.roberta.calls import ModelCalls
from lmaas_backends.roberta.engine_thread import EngineThread
from lmaas_backends.roberta.http_app import application
from lmaas_backends.roberta.protocol import JSON, TENSORS
from lmaas_backends.roberta.rate_limits import Clocks
from lmaas_backends.roberta.server import main, serve, serving
from lmaas_sdk.backend import (
    Capabilities,
    FeatureQuery,
    FeatureReply,
    Limits,
    ModelCard,
    Price,
    Registration,
    ScoreQuery,
    ScoreReply,
    Usage,
)
from lmaas_sdk.errors import UnknownDataset, VerbalizerError
from lmaas_sdk.registry import load_server
from lmaas_sdk.texts import TextSet
from lmaas_sdk.tuning.subspace import Subspace

KEYS = ("ann=key-of-ann", "bob=key-of-bob")
TOKENS_A_TEXT = 10
WAIT_S = 20


class FakeEngine:
    """Bills 10 tokens a text and candidate, and computes only while its gate is open."""

    def __init__(self) -> None:
        self.card = ModelCard("fake", 4, 100, 64, "<mask>", Capabilities(top_k=True), max_candidates=2, max_texts=3)
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Semaphore(0)
        self.scored: list[str] = []
        self.stops_when_told = False
        self.error: Exception | None = None

    def register(self, texts: TextSet, subspace: Subspace | None = None) -> Registration:
        if self.error is not None:
            raise self.error
        return Registration(texts.digest, (TOKENS_A_TEXT,) * len(texts))

    def upload(self, array: NDArray[np.float32]) -> str:
        return f"array of {array.shape}"

    def count(self, query: ScoreQuery | FeatureQuery) -> int:
        texts = len(query.texts) if isinstance(query.texts, TextSet) else 1
        return TOKENS_A_TEXT * texts * (query.n_candidates if isinstance(query, ScoreQuery) else 1)

    def score(self, query: ScoreQuery, cancelled: Callable[[], bool] = lambda: False) -> ScoreReply:
        self.started.release()
        if not self.gate.wait(WAIT_S):
            raise TimeoutError
        if self.error is not None:
            raise self.error
        if self.stops_when_told and cancelled():
            raise CancelledError
        self.scored.append(query.texts if isinstance(query.texts, str) else query.texts.digest)
        logits = np.full((query.n_candidates, 1, 2), len(self.scored), np.float32)
        return ScoreReply(logits, Usage(self.count(query)))

    def features(self, query: FeatureQuery) -> FeatureReply:
        ones = np.ones(3, np.float32)
        return FeatureReply(np.ones((1, 4), np.float32), np.array([10]), ones, ones, Usage(self.count(query)))


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
        self, method: str, path: str, body: object = None, *, key: str | None = "key-of-ann", **headers: str
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
async def served(*, keys: tuple[str, ...] = KEYS, terms: Terms | None = None, **options: Any) -> AsyncIterator[Served]:
    engine, clock, terms = FakeEngine(), SetClock(), terms or Terms()
    clocks = Clocks(monotonic=clock, wall=clock)
    async with EngineThread() as thread, aiohttp.ClientSession() as session:
        calls = ModelCalls(engine, thread, accounts=Accounts(ApiKeys(keys), terms, clocks), terms=terms, clocks=clocks)
        try:
            async with serving(calls, application(calls, b'{"tok": 1}', **options)) as url:
                yield Served(session, url, engine, clock)
        finally:
            engine.gate.set()


async def wait_for(semaphore: threading.Semaphore) -> None:
    """Waits until the engine's thread has come so far."""
    assert await asyncio.to_thread(semaphore.acquire, timeout=WAIT_S)


async def test_free_endpoints_answer() -> None:
    """Models, tokenizer, datasets, arrays, usage, health and ready answer what docs/http-api.md says."""
    async with served() as server:
        card = (await server.ask("GET", "/v1/models"))[1]["models"][0]
        tokenizer = await server.ask("GET", "/v1/models/fake/tokenizer")
        dataset = await server.ask("POST", "/v1/datasets", {"model": "fake", "texts": [["a"], ["b", {"mask": True}]]})
        array = {"dtype": "float32", "shape": [1, 2], "data": "AACAPwAAAEA="}
        upload = await server.ask("POST", "/v1/arrays", {"model": "fake", "array": array})
        probes = [(await server.ask("GET", path, key=None))[:2] for path in ("/health", "/ready")]

    assert (card["name"], card["capabilities"]["idempotent"]) == ("fake", True)
    assert tokenizer[1] == {"tok": 1}
    assert (dataset[1]["token_counts"], dataset[1]["shortened"]) == ([10, 10], 0)
    assert upload[1] == {"digest": "array of (1, 2)"}
    assert probes == [(200, {"status": "ok", "in_flight": 0}), (200, {"status": "ready"})]


async def test_the_answer_has_the_form_of_the_question_or_of_accept() -> None:
    """A frame is answered by a frame, JSON by JSON, unless Accept names the other."""
    frame = b"\x1d\x00\x00\x00" + b'{"model":"fake","texts":"ab"}'
    asked = [{"Content_Type": TENSORS}, {"Content_Type": TENSORS, "Accept": JSON}]
    async with served() as server:
        types = [(await server.ask("POST", "/v1/score", frame, **headers))[2]["content-type"] for headers in asked]
        types += [(await server.score(**headers))[2]["content-type"] for headers in ({}, {"Accept": TENSORS})]

    assert types == [TENSORS, JSON, JSON, TENSORS]


async def test_usage_is_billed_by_key() -> None:
    """Each key sees its own calls, tokens and money, and nothing of others."""
    async with served(terms=Terms(Price(400_000_000))) as server:
        for _ in range(2):
            assert (await server.score())[0] == 200
        await server.ask("POST", "/v1/features", {"model": "fake", "texts": "a"})
        usage = [(await server.ask("GET", "/v1/usage", key=key))[1]["usage"] for key in ("key-of-ann", "key-of-bob")]

    nothing = {"calls": 0, "input_tokens": 0, "cached_tokens": 0, "output_tokens": 0, "nanousd": 0}
    spent = nothing | {"calls": 3, "input_tokens": 30, "nanousd": 12_000}
    assert [{"ann": spent | {"balance_nanousd": None}}, {"bob": nothing | {"balance_nanousd": None}}] == usage


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic key-of-ann"}])
async def test_a_missing_or_wrong_key_is_401(headers: dict[str, str]) -> None:
    """No path of the API answers without a right key."""
    paths = [("GET", "/v1/models"), ("POST", "/v1/score"), ("GET", "/v1/usage"), ("GET", "/v1/models/fake/tokenizer")]
    async with served() as server:
        answers = [await server.ask(method, path, key=None, **headers) for method, path in paths]

    assert [(status, told["error"]["type"]) for status, told, _ in answers] == [(401, "authentication_failed")] * 4


async def test_keys_are_in_no_log_and_no_repr(caplog: pytest.LogCaptureFixture) -> None:
    """Neither right nor wrong keys are logged, and what holds them does not show them."""
    caplog.set_level(logging.DEBUG)
    async with served() as server:
        server.engine.error = RuntimeError("a defect")
        statuses = [(await server.score(key=key))[0] for key in ("key-of-ann", "key-of-mallory")]
    held = ApiKeys(KEYS)
    with pytest.raises(ValueError, match="entry 2 ") as caught:
        ApiKeys(("ann=key-of-ann", "key-of-bob"))
    everything = caplog.text + repr(held) + repr(vars(held)) + str(caught.value)

    assert statuses == [500, 401]
    assert "ann POST /v1/score 500" in caplog.text
    assert "key-of" not in everything


async def test_without_keys_anyone_on_loopback_may_call() -> None:
    """A server without keys answers without Authorization and bills one account."""
    async with served(keys=()) as server:
        assert (await server.score(key=None))[0] == 200
        assert list((await server.ask("GET", "/v1/usage", key=None))[1]["usage"]) == ["anyone"]


SCORE = {"model": "fake", "texts": "a"}
BAD_REQUESTS: dict[str, tuple[str, str, object, dict[str, str], int, str]] = {
    "no such path": ("GET", "/v2/models", None, {}, 404, "not_found"),
    "wrong method": ("GET", "/v1/score", None, {}, 405, "method_not_allowed"),
    "empty body": ("POST", "/v1/score", b"", {}, 400, "malformed_body"),
    "not json": ("POST", "/v1/score", b"{", {}, 400, "malformed_body"),
    "json that is no object": ("POST", "/v1/score", [1], {}, 400, "malformed_body"),
    "form data": (
        "POST",
        "/v1/score",
        b"a=1",
        {"Content_Type": "application/x-www-form-urlencoded"},
        400,
        "malformed_body",
    ),
    "broken frame": ("POST", "/v1/score", b"\xff\xff\xff\xff{}", {"Content_Type": TENSORS}, 400, "malformed_body"),
    "not gzip": ("POST", "/v1/score", b"{}", {"Content_Encoding": "gzip"}, 400, "malformed_body"),
    "no model": ("POST", "/v1/score", {"texts": "a"}, {}, 422, "invalid_query"),
    "another model": ("POST", "/v1/score", {"model": "x", "texts": "a"}, {}, 404, "unknown_model"),
    "another tokenizer": ("GET", "/v1/models/a/b/tokenizer", None, {}, 404, "unknown_model"),
    "unknown field": ("POST", "/v1/features", {"model": "fake", "texts": "a", "x": 1}, {}, 422, "invalid_query"),
    "unknown pool": ("POST", "/v1/features", {"model": "fake", "texts": "a", "pool": "max"}, {}, 422, "invalid_query"),
    "no array": ("POST", "/v1/arrays", {"model": "fake"}, {}, 422, "invalid_query"),
    "empty set": ("POST", "/v1/datasets", {"model": "fake", "texts": []}, {}, 422, "invalid_query"),
    "too many rows": ("POST", "/v1/score", {"model": "fake", "texts": "a", "rows": [0, 1, 2, 3]}, {}, 413, "too_large"),
    "too many texts": ("POST", "/v1/score", {"model": "fake", "texts": {"texts": [[""]] * 4}}, {}, 413, "too_large"),
    "body too large": ("POST", "/v1/score", b" " * 200_001, {}, 413, "too_large"),
    "large and wrong": ("POST", "/v1/score", b" " * 100_000 + b"{", {}, 400, "malformed_body"),
    "key too long": (
        "POST",
        "/v1/score",
        {"model": "fake", "texts": "a"},
        {"Idempotency_Key": "k" * 256},
        422,
        "invalid_query",
    ),
    "wide prompt": (
        "POST",
        "/v1/datasets",
        {"model": "fake", "texts": [[""]], "subspace": Subspace(2, 3, 5).to_wire()},
        {},
        422,
        "invalid_query",
    ),
    "huge projection": (
        "POST",
        "/v1/datasets",
        {"model": "fake", "texts": [[""]], "subspace": Subspace(10**9, 3, 4).to_wire()},
        {},
        413,
        "too_large",
    ),
}


@pytest.mark.parametrize("row", BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
async def test_a_bad_request_is_a_4xx_in_json(row: tuple[str, str, object, dict[str, str], int, str]) -> None:
    """Every malformed request is answered by JSON with type, message and hint, and nothing is computed."""
    method, path, body, headers, status, kind = row
    async with served(most_body_bytes=200_000) as server:
        found, told, _ = await server.ask(method, path, body, **headers)

    assert (status, kind, []) == (found, told["error"]["type"], server.engine.scored)
    assert {"type", "message", "hint"} == set(told["error"])
    assert all(told["error"].values())


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (UnknownDataset("no set a"), 404, "unknown_dataset"),
        (VerbalizerError("' greatest' is two tokens"), 422, "verbalizer_error"),
        (ZeroDivisionError("secret detail"), 500, "server_fault"),
    ],
)
async def test_errors_of_the_engine_are_told(error: Exception, status: int, kind: str) -> None:
    """What the engine refuses is the client's error; what breaks in it is a 500 without details. Neither is billed."""
    async with served(terms=Terms(Price(1_000_000), balance_nanousd=10)) as server:
        server.engine.error = error
        found, told, _ = await server.score()
        usage = (await server.ask("GET", "/v1/usage"))[1]["usage"]["ann"]

    assert (status, kind, 0, 10) == (found, told["error"]["type"], usage["calls"], usage["balance_nanousd"])
    assert "secret" not in told["error"]["message"]


async def test_a_429_comes_before_any_work_and_counts_nothing() -> None:
    """Beyond the limit a call is refused with Retry-After and x-ratelimit headers, and admitted after that wait."""
    async with served(terms=Terms(limits=Limits(requests_per_minute=2, tokens_per_minute=1000))) as server:
        statuses = [(await server.score())[0] for _ in range(2)]
        status, told, headers = await server.score()
        server.clock.now += int(headers["retry-after"]) - 1
        statuses.append((await server.score())[0])
        server.clock.now += 1
        statuses.append((await server.score())[0])
        other = (await server.score(key="key-of-bob"))[0]
        card = (await server.ask("GET", "/v1/models"))[1]["models"][0]

    assert (status, told["error"]["type"], headers["retry-after"]) == (429, "rate_limited", "60")
    assert tuple(headers[f"x-ratelimit-{part}-requests"] for part in ("limit", "remaining", "reset")) == (
        "2",
        "0",
        "60",
    )
    assert headers["x-ratelimit-remaining-tokens"] == "980"
    assert (statuses, other, len(server.engine.scored)) == ([200, 200, 429, 200], 200, 4)
    assert (card["limits"]["requests_per_minute"], card["limits"]["tokens_per_minute"]) == (2, 1000)


async def test_a_used_up_balance_is_402() -> None:
    """A call that costs more than the balance is refused, uncomputed and unbilled; the balance is never overdrawn."""
    async with served(terms=Terms(Price(100_000_000), balance_nanousd=2_500)) as server:
        statuses = [(await server.score())[0] for _ in range(3)]
        usage = (await server.ask("GET", "/v1/usage"))[1]["usage"]["ann"]

    assert (statuses, usage["balance_nanousd"], len(server.engine.scored)) == ([200, 200, 402], 500, 2)


async def test_concurrent_calls_cannot_overdraw_the_balance() -> None:
    """Money is set aside when a call is admitted, not when it is done."""
    async with served(terms=Terms(Price(100_000_000), balance_nanousd=1_500)) as server:
        server.engine.gate.clear()
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(server.score("a"))
            await wait_for(server.engine.started)
            second = tasks.create_task(server.score("a"))
            refused = (await second)[0]
            server.engine.gate.set()

    assert (refused, first.result()[0]) == (402, 200)


async def test_a_key_is_computed_and_billed_once() -> None:
    """Two requests in flight and a later one with the same key get the same bytes, and one bill."""
    async with served() as server:
        server.engine.gate.clear()
        async with asyncio.TaskGroup() as tasks:
            flying = [tasks.create_task(server.score(Idempotency_Key="k")) for _ in range(2)]
            await wait_for(server.engine.started)
            server.engine.gate.set()
        later = await server.score(Idempotency_Key="k")
        other_account = await server.score(Idempotency_Key="k", key="key-of-bob")
        other_body = await server.score("b", Idempotency_Key="k")
        usage = (await server.ask("GET", "/v1/usage"))[1]["usage"]["ann"]

    assert [later[1]] * 2 == [asker.result()[1] for asker in flying]
    assert later[1]["logits"] != other_account[1]["logits"]
    assert (other_body[0], other_body[1]["error"]["type"]) == (422, "key_reused")
    assert usage["calls"] == 1


async def test_a_failed_key_may_be_tried_again() -> None:
    """A 500 is not remembered under its key."""
    async with served() as server:
        server.engine.error = RuntimeError("once")
        first = (await server.score(Idempotency_Key="k"))[0]
        server.engine.error = None

        assert (first, (await server.score(Idempotency_Key="k"))[0]) == (500, 200)


async def test_a_client_that_leaves_drops_its_queued_call() -> None:
    """Work that has not begun when its client disconnects is neither computed nor billed."""
    async with served() as server:
        assert (await server.score("b"))[0] == 200  # its count is now known, so that it waits to be computed only
        server.engine.gate.clear()
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(server.score("a"))
            await wait_for(server.engine.started)
            await wait_for(server.engine.started)
            leaving = tasks.create_task(server.score("b"))
            await until_health(server, in_flight=2)
            leaving.cancel()
            await until_health(server, in_flight=1)
            server.engine.gate.set()
        usage = (await server.ask("GET", "/v1/usage"))[1]["usage"]["ann"]

    assert running.result()[0] == 200
    assert (server.engine.scored, usage["calls"]) == (["b", "a"], 2)


@pytest.mark.parametrize(("stops", "billed"), [(True, 1), (False, 2)])
async def test_a_call_that_its_client_left_is_billed_only_if_computed(stops: bool, billed: int) -> None:
    """A running call whose client disconnects is billed when the engine finishes it, and free when it stops."""
    async with served() as server:
        server.engine.stops_when_told = stops
        server.engine.gate.clear()
        async with asyncio.TaskGroup() as tasks:
            leaving = tasks.create_task(server.score("a"))
            await wait_for(server.engine.started)
            leaving.cancel()
            await until_health(server, in_flight=0)
            server.engine.gate.set()
        await server.score("b")
        usage = (await server.ask("GET", "/v1/usage"))[1]["usage"]["ann"]

    assert billed == usage["calls"]


async def until_health(server: Served, **told: object) -> None:
    """Asks /health, which answers while the engine computes, until it tells this."""
    async with asyncio.timeout(WAIT_S):
        while not told.items() <= (await server.ask("GET", "/health"))[1].items():
            pass


async def test_draining_finishes_what_was_taken_and_refuses_the_rest() -> None:
    """While draining, a call in flight is answered and open connections get 503; then nothing listens any more."""
    stop, running = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def run() -> None:
        async with served() as server:
            running.set_result(server)
            await stop.wait()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run())
        server: Served = await running
        server.engine.gate.clear()
        calls = [tasks.create_task(server.score()), tasks.create_task(server.ask("GET", "/v1/models"))]
        await wait_for(server.engine.started)
        await calls[1]  # leaves an open connection behind
        stop.set()
        await until_health(server, status="draining")
        refused = await server.ask("GET", "/v1/models")
        server.engine.gate.set()
    with pytest.raises(OSError, match=r".*"):
        await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))

    assert (refused[0], refused[1]["error"]["type"]) == (503, "unavailable")
    assert calls[0].result()[0] == 200


async def test_a_drain_that_takes_too_long_drops_what_waits(caplog: pytest.LogCaptureFixture) -> None:
    """After the drain's time calls in flight are given up, which is logged, and the server still ends."""
    engine, clocks = FakeEngine(), Clocks()
    engine.gate.clear()
    accounts = Accounts(ApiKeys(()), Terms(), clocks)
    async with EngineThread() as thread, aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
        calls = ModelCalls(engine, thread, accounts=accounts, terms=Terms(), clocks=clocks)
        async with serving(calls, application(calls, b""), drain_timeout_s=0) as url:
            lost = tasks.create_task(lost_call(session, f"{url}/v1/score"))
            await wait_for(engine.started)
        engine.gate.set()

    assert lost.result()
    assert "have been dropped" in caplog.text


async def lost_call(session: aiohttp.ClientSession, url: str) -> bool:
    """Whether the connection of a score call broke before an answer came."""
    with contextlib.suppress(aiohttp.ClientError):
        async with session.post(url, json={"model": "fake", "texts": "a"}):
            return False
    return True


async def test_an_engine_that_breaks_is_not_ready() -> None:
    """Ready is a probe of the engine and fails with it; health still answers."""
    async with served() as server:
        server.engine.error = RuntimeError("broken")
        broken = await server.ask("GET", "/ready", key=None)
        alive = await server.ask("GET", "/health", key=None)

    assert ((broken[0], broken[1]["error"]["type"]), alive[0]) == ((500, "server_fault"), 200)


def test_another_host_without_keys_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that other machines reach needs keys: exit code 2 and a message, before any model is loaded."""
    monkeypatch.delenv("LMAAS_SERVER_API_KEYS", raising=False)

    assert main(["--host", "0.0.0.0"]) == 2  # noqa: S104
    assert "API keys are needed" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--price-usd-per-1k-tokens", "x"],
        ["--price-usd-per-1k-tokens", "-1"],
        ["--balance-usd", "NaN"],
        ["--requests-per-minute", "0"],
        ["--port", "70000"],
        ["--time-zone", "Mars/Olympus"],
        ["--time-zone", "../etc"],
    ],
)
def test_an_option_out_of_range_is_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Bad values are refused by the parser with exit code 2."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)

    assert caught.value.code == 2
    assert arguments[1] in capsys.readouterr().err


def test_a_malformed_key_file_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bad line is named by its number and not shown."""
    file = tmp_path / "keys"
    file.write_text("# who\nann = key-of-ann\nkey-of-bob\n")

    assert main(["--api-key-file", str(file)]) == 2
    assert "entry 2 is not of the form NAME=KEY" in (told := capsys.readouterr().err)
    assert "key-of" not in told


def test_a_model_that_is_not_there_is_exit_code_4(capsys: pytest.CaptureFixture[str]) -> None:
    """A model that cannot be loaded is one line on stderr and exit code 4."""
    assert main(["--model", "/no/such/folder"]) == 4
    assert "lmaas serve: no model at '/no/such/folder'" in capsys.readouterr().err


def test_the_entry_point_is_this_server() -> None:
    """`lmaas serve` finds the server without importing it by name."""
    assert serve is load_server("roberta")


def examples() -> list[tuple[str, str]]:
    """Path and body of each POST that docs/http-api.md shows."""
    document = (Path(__file__).parent.parent / "docs" / "http-api.md").read_text("utf-8")
    return re.findall(r"http://127\.0\.0\.1:8080(/v1/\w+) -d '(.*?)'", document, re.DOTALL)


async def documented_status(session: aiohttp.ClientSession, url: str, path: str, body: str) -> int:
    async with session.post(f"{url}{path}", data=body, headers={"Content-Type": JSON}) as answer:
        return answer.status


async def test_the_command_serves_the_bundled_model_until_sigterm(tmp_path: Path) -> None:
    """The real process prints its URL, answers with its price, logs no body or key, and ends with 0 on SIGTERM."""
    command = [
        sys.executable,
        "-m",
        "lmaas_backends.roberta.server",
        "--threads",
        "1",
        "--price-usd-per-1k-tokens",
        "0.0004",
    ]
    log = (tmp_path / "stderr").open("wb")
    child = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=log,
        env=os.environ | {"LMAAS_SERVER_API_KEYS": "ann=key-of-ann"},
    )
    text = [["A fine film", {"template": " . It was"}, {"mask": True}]]
    query = {"model": "roberta-tiny", "texts": {"texts": text, "label_words": {"words": [" bad", " great"]}}}
    try:
        assert child.stdout is not None
        started = json.loads(await child.stdout.readline())
        async with aiohttp.ClientSession(headers={"Authorization": "Bearer key-of-ann"}) as session:
            async with session.post(f"{started['url']}/v1/score", json=query) as answer:
                told = await answer.json()
            documented = [await documented_status(session, started["url"], *example) for example in examples()]
            child.send_signal(signal.SIGTERM)
            code = await child.wait()
    finally:
        log.close()
        if child.returncode is None:
            child.kill()
            await child.wait()
    logged = (tmp_path / "stderr").read_text()

    assert (started["model"], told["logits"]["shape"], code) == ("roberta-tiny", [1, 1, 2], 0)
    assert documented == [200] * 3
    assert "ann POST /v1/score 200" in logged
    assert not any(word in logged for word in ("key-of", "fine film", "Traceback"))
