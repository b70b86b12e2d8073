"""What a monitoring system is told, over HTTP."""

from __future__ import annotations

import asyncio

from prometheus_client.parser import text_string_to_metric_families
from served import Served, served, until_health, wait_for

from lmaas_backends.roberta.accounts import Terms
from lmaas_sdk.backend import Price

KEYS = ("ann=test-key-of-ann", "bob=test-key-of-bob", "metrics=test-key-of-metrics")


async def metrics(server: Served, key: str | None = "test-key-of-metrics") -> dict[tuple[str, ...], float]:
    """Every sample, by its name and the values of its labels."""
    status, page, headers = await server.ask("GET", "/metrics", key=key)
    assert (200, "text/plain") == (status, headers["content-type"].split(";")[0])
    families = text_string_to_metric_families(page.decode())
    return {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}


async def test_calls_tokens_and_useful_work_are_counted() -> None:
    """Two calls of one unit: tokens and operations add up, waits and times are told, nothing waits any more."""
    async with served(keys=KEYS) as server:
        await server.score("a")
        await server.score("b")
        found = await metrics(server)

    assert (20.0, 20_000.0) == (found["lmaas_computed_tokens_total",], found["lmaas_useful_flop_total",])
    times = ("lmaas_queue_seconds", "lmaas_batch_seconds", "lmaas_compute_seconds")
    assert [2.0] * 3 == [found[f"{name}_count",] for name in times]
    assert 2.0 == found["lmaas_batch_tokens_bucket", "64.0"]
    assert 2.0 == found["lmaas_requests_total", "/v1/score", "200"]
    assert (0.0, 0.0, 1.0) == (found["lmaas_queue_calls",], found["lmaas_queue_tokens",], found["lmaas_lanes",])
    assert found["lmaas_lane_flops",] > 0
    assert found["lmaas_request_seconds_count", "/v1/score"] == 2.0


async def test_usage_is_told_by_the_name_of_its_key() -> None:
    """Calls, tokens, money and replays of each; no key itself is anywhere on the page."""
    terms = Terms(price=Price(input_nanousd_per_mtok=1_000_000_000))
    async with served(keys=KEYS, terms=terms) as server:
        await server.score("a", Idempotency_Key="k")
        await server.score("a", Idempotency_Key="k")
        await server.score("b", key="test-key-of-bob")
        page = (await server.ask("GET", "/metrics", key="test-key-of-metrics"))[1]
        found = await metrics(server)

    assert (1.0, 10.0, 10_000.0, 1.0) == tuple(
        found[f"lmaas_usage_{column}_total", "score", "ann"]
        for column in ("calls", "input_tokens", "nanousd", "replayed")
    )
    assert 1.0 == found["lmaas_usage_calls_total", "score", "bob"]
    assert b'lmaas_usage_calls_total{endpoint="score",key="bob"} 1.0' in page
    assert b"test-key" not in page


async def test_what_all_others_used_is_for_the_key_named_metrics() -> None:
    """Another key is refused by 403, no key by 401; where there are no keys at all, anyone may look."""
    async with served(keys=KEYS) as server:
        status, told, _ = await server.ask("GET", "/metrics", key="test-key-of-bob")
        assert (403, "forbidden") == (status, told["error"]["type"])
        assert 401 == (await server.ask("GET", "/metrics", key=None))[0]
    async with served(keys=("anyone=test-key-of-anyone",)) as server:
        assert 403 == (await server.ask("GET", "/metrics", key="test-key-of-anyone"))[0]
    async with served(keys=()) as server:
        assert 0.0 == (await metrics(server, None))["lmaas_queue_calls",]


async def test_paths_nobody_knows_make_one_series() -> None:
    """So that no stranger can fill the monitoring system."""
    async with served(keys=()) as server:
        for path in ("/a", "/b", "/v1/models/x/y"):
            await server.ask("GET", path, key=None)
        found = await metrics(server, None)

    assert {("other", "404"): 3.0} == {
        key[1:]: value for key, value in found.items() if key[0] == "lmaas_requests_total" and key[2] == "404"
    }


async def test_a_full_queue_is_seen_and_refuses() -> None:
    """While a call computes, its tokens are in the queue; what goes beyond is 429 with a time, and is let in then."""
    async with served(keys=(), most_queued_tokens=15) as server, asyncio.TaskGroup() as tasks:
        await server.score("b", key=None)  # so that its size is known
        server.engine.gate.clear()
        running = tasks.create_task(server.score("a", key=None))
        await wait_for(server.engine.started)
        await wait_for(server.engine.started)
        await until_health(server, in_flight=1)
        found = await metrics(server, None)
        assert (1.0, 10.0) == (found["lmaas_queue_calls",], found["lmaas_queue_tokens",])
        status, told, headers = await server.score("b", key=None, Idempotency_Key="again")
        assert (429, "overloaded", "1") == (status, told["error"]["type"], headers["retry-after"])
        server.engine.gate.set()
        assert 200 == (await running)[0]
        server.clock.now += 1.0
        assert 200 == (await server.score("b", key=None, Idempotency_Key="again"))[0]


async def test_an_answer_that_is_kept_needs_no_room() -> None:
    """A repeated key is answered from the books however much is waiting."""
    async with served(keys=(), most_queued_tokens=15) as server, asyncio.TaskGroup() as tasks:
        first = await server.score("b", key=None, Idempotency_Key="k")
        server.engine.gate.clear()
        tasks.create_task(server.score("a", key=None))
        await wait_for(server.engine.started)
        await wait_for(server.engine.started)
        status, told, _ = await server.score("b", key=None, Idempotency_Key="k")
        server.engine.gate.set()

    assert (200, first[1]) == (status, told)


async def test_an_engine_that_fails_is_not_ready() -> None:
    """503, not 500; and one probe serves all who ask at once."""
    async with served(keys=()) as server:
        server.engine.gate.clear()
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(server.ask("GET", "/ready", key=None)) for _ in range(20)]
            await wait_for(server.engine.started)
            server.engine.error = OSError("the disk is gone")
            server.engine.gate.set()
        assert {503} == {task.result()[0] for task in asked}
        assert not server.engine.started.acquire(blocking=False)
        server.engine.error = None
        assert 200 == (await server.ask("GET", "/ready", key=None))[0]
