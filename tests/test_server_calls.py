"""Calls to a server: quotas, balances, idempotency keys, clients that leave, draining."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import aiohttp
import pytest
from served import FakeEngine, Served, served, until_health, wait_for

from lmaas_backends.roberta.accounts import Accounts, Terms
from lmaas_backends.roberta.api_keys import ApiKeys
from lmaas_backends.roberta.calls import ModelCalls
from lmaas_backends.roberta.engine_thread import EngineThread
from lmaas_backends.roberta.http_app import application
from lmaas_backends.roberta.rate_limits import Clocks
from lmaas_backends.roberta.server import serving
from lmaas_backends.roberta.usage_store import UsageStore
from lmaas_sdk.backend import (
    Limits,
    Price,
)


async def test_a_429_comes_before_any_work_and_counts_nothing() -> None:
    """Beyond the limit a call is refused with Retry-After and x-ratelimit headers, and admitted after that wait."""
    async with served(terms=Terms(limits=Limits(requests_per_minute=2, tokens_per_minute=1000))) as server:
        statuses = [(await server.score())[0] for _ in range(2)]
        status, told, headers = await server.score()
        server.clock.now += int(headers["retry-after"]) - 1
        statuses.append((await server.score())[0])
        server.clock.now += 1
        statuses.append((await server.score())[0])
        other = (await server.score(key="test-key-of-bob"))[0]
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


async def test_each_endpoint_has_a_quota_of_its_own() -> None:
    """A quota used up at one endpoint leaves that of the other alone, and each answer tells its own."""
    limits = Limits(requests_per_minute=1)
    terms = Terms(limits=limits, endpoint_limits=(("features", Limits(requests_per_minute=2)),))
    async with served(terms=terms) as server:
        scores = [await server.score() for _ in range(2)]
        features = [await server.ask("POST", "/v1/features", {"model": "fake", "texts": "a"}) for _ in range(3)]
        usage = (await server.ask("GET", "/v1/usage"))[1]["usage"]["ann"]["endpoints"]

    assert ([200, 429], [200, 200, 429]) == ([row[0] for row in scores], [row[0] for row in features])
    assert [("1", "0"), ("2", "1")] == [
        (row[2]["x-ratelimit-limit-requests"], row[2]["x-ratelimit-remaining-requests"])
        for row in (scores[0], features[0])
    ]
    assert {"requests": {"limit": 2, "remaining": 0, "reset_s": 60}} == usage["features"]["quotas"]


async def test_too_many_calls_at_once_are_429() -> None:
    """A call above the concurrency of its endpoint is refused without a time to wait, and admitted once one ended."""
    async with served(terms=Terms(limits=Limits(concurrency=1))) as server:
        server.engine.gate.clear()
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(server.score("a"))
            await wait_for(server.engine.started)
            refused = await server.score("a")
            server.engine.gate.set()
        again = await server.score("a")

    assert (refused[0], "retry-after" in refused[2]) == (429, False)
    assert (first.result()[0], again[0]) == (200, 200)


async def test_a_replay_takes_no_quota_and_says_that_it_is_one() -> None:
    """The same key again is answered though the quota is used up; it is marked, counted apart and not billed."""
    async with served(terms=Terms(Price(100_000_000), Limits(requests_per_minute=1))) as server:
        answers = [await server.score(Idempotency_Key="k") for _ in range(3)]
        usage = (await server.ask("GET", "/v1/usage"))[1]["usage"]["ann"]

    assert [(200, None), (200, "true"), (200, "true")] == [
        (status, headers.get("idempotent-replayed")) for status, _, headers in answers
    ]
    assert [answers[0][1]] * 2 == [told for _, told, _ in answers[1:]]
    assert (1, 1_000, 2) == (usage["calls"], usage["nanousd"], usage["replayed"])


async def test_servers_that_share_a_state_file_answer_a_key_alike(tmp_path: Path) -> None:
    """One key sent to two servers at once: both compute, both answer the same bytes, and one bill is written."""
    async with served(state=tmp_path / "state") as one, served(state=tmp_path / "state") as two:
        two.engine.scored.append("so that it answers differently")
        one.engine.gate.clear()
        two.engine.gate.clear()
        async with asyncio.TaskGroup() as tasks:
            asking = [tasks.create_task(server.score(Idempotency_Key="k")) for server in (one, two)]
            for server in (one, two):
                await wait_for(server.engine.started)
            for server in (one, two):
                server.engine.gate.set()
        told = [task.result()[1] for task in asking]
        # Whichever answered from what the other had computed has written that once it reports.
        _, usage = [(await server.ask("GET", "/v1/usage"))[1]["usage"]["ann"] for server in (two, one)]

    assert told[0] == told[1]
    assert (1, 10, 1) == (usage["calls"], usage["input_tokens"], usage["replayed"])


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
        other_account = await server.score(Idempotency_Key="k", key="test-key-of-bob")
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


@pytest.mark.parametrize(("units", "billed"), [(1, 2), (3, 1)])
async def test_a_call_that_its_client_left_is_billed_only_if_computed(units: int, billed: int) -> None:
    """A call whose client leaves at its last unit is finished and billed; with more to do it stops, and is free."""
    async with served() as server:
        server.engine.units_a_candidate = units
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
    accounts = Accounts(ApiKeys(()), Terms())
    async with (
        UsageStore(clocks) as store,
        EngineThread() as thread,
        aiohttp.ClientSession() as session,
        asyncio.TaskGroup() as tasks,
    ):
        calls = ModelCalls(engine, thread, accounts=accounts, store=store, clocks=clocks)
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

    assert ((broken[0], broken[1]["error"]["type"]), alive[0]) == ((503, "unavailable"), 200)
