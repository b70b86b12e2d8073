"""The server against clients that send no HTTP, compress, dawdle or flood."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from served import WAIT_S, Served, served

from lmaas_backends.roberta.protocol import JSON
from lmaas_backends.roberta.request_bodies import RequestBodies

KEY = b"Authorization: Bearer test-key-of-ann\r\n"
POST = b"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + KEY


@asynccontextmanager
async def connection(server: Served) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


async def answered(reader: asyncio.StreamReader) -> tuple[int, str, Any]:
    """Status, media type and JSON of an answer."""
    async with asyncio.timeout(WAIT_S):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.partition("Content-Length: ")[2].partition("\r\n")[0])
        body = await reader.readexactly(length)
    return int(head.split()[1]), head.partition("Content-Type: ")[2].partition("\r\n")[0], json.loads(body)


MALFORMED = {
    "no colon": b"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization Bearer test-key-of-ann\r\n\r\n",
    "blank before the colon": b"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization : Bearer test-key-of-ann\r\n\r\n",
    "a zero byte": b"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer test-key-of-ann\x00\r\n\r\n",
    "a long header": b"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: "
    + b"test-key-of-ann " * 2000
    + b"\r\n\r\n",
    "not HTTP": b"test-key-of-ann\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03test-key-of-ann\r\n\r\n",
    "another broken header": b"GET /v1/models HTTP/1.1\r\nHost: x\r\n" + KEY + b"Bad\x01Name: test-key-of-ann\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_malformed_request_is_told_in_json_and_no_piece_of_it_is_shown(
    request_bytes: bytes, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """What is no HTTP gets a 400 of the API; the key in it reaches neither the answer, nor a log, nor stderr."""
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    async with served() as server, connection(server) as (reader, writer):
        writer.write(request_bytes)
        status, media_type, told = await answered(reader)
        still_serves = (await server.score())[0]
    everything = caplog.text + json.dumps(told) + "".join(capfd.readouterr())

    assert (status, media_type, told["error"]["type"], still_serves) == (400, JSON, "malformed_request", 200)
    assert "a request was dropped" in caplog.text
    assert "key-of" not in everything


async def test_a_broken_chunk_is_a_malformed_body_that_is_not_repeated() -> None:
    """A body that its headers do not describe is 400, without the piece that was wrong."""
    async with served() as server, connection(server) as (reader, writer):
        writer.write(POST + b"Transfer-Encoding: chunked\r\n\r\ntest-key-of-ann\r\n")
        status, _, told = await answered(reader)

    assert (status, "key-of" in json.dumps(told)) == (400, False)


async def test_a_body_that_does_not_come_is_given_up() -> None:
    """A client that sends half of a body and waits gets 408 at the deadline, and nothing is computed."""
    async with served(bodies=RequestBodies(deadline_s=0.05)) as server, connection(server) as (reader, writer):
        writer.write(POST + b"Content-Length: 100\r\n\r\n{")
        status, _, told = await answered(reader)

    assert (status, told["error"]["type"], server.engine.scored) == (408, "body_timeout", [])


async def test_bodies_share_one_room() -> None:
    """While others fill the room a body is refused with 503 and Retry-After; it is taken once they are gone."""
    query = {"model": "fake", "texts": "a"}
    async with served(bodies=RequestBodies(most_bytes_together=100)) as server, asyncio.timeout(WAIT_S):
        async with connection(server) as (_, writer):
            writer.write(POST + b"Content-Length: 100\r\n\r\n" + b" " * 90)
            while (refused := await server.ask("POST", "/v1/score", query))[0] == 200:
                pass
        while (taken := await server.ask("POST", "/v1/score", query))[0] == 503:
            pass

    assert (refused[0], refused[1]["error"]["type"], refused[2]["retry-after"]) == (503, "unavailable", "1")
    assert taken[0] == 200


async def test_an_announced_size_is_refused_before_it_is_sent() -> None:
    """A Content-Length above the bound is 413 at once."""
    async with served() as server, connection(server) as (reader, writer):
        writer.write(POST + b"Content-Length: 1099511627776\r\n\r\n{")
        status, _, told = await answered(reader)

    assert (status, told["error"]["type"]) == (413, "too_large")
