"""The relay that counts bytes: all of them, to the right request, and nothing on the way changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from served import served

from lmaas_backends.remote import open_backend
from lmaas_sdk import MASK, LabelWords, Piece, ScoreQuery, TextSet
from lmaas_sdk.bench.relay import Exchange, counting_relay

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TEXTS = TextSet(((Piece("field", "a fine film"), MASK),), LabelWords((" bad", " great")))


@asynccontextmanager
async def server(requests: list[bytes], *, of_bytes: tuple[int, ...]) -> AsyncIterator[str]:
    """Answers each request once all its bytes have come, and closes the connection after the last."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):  # the client has gone
            for length in of_bytes:
                requests.append(await reader.readexactly(length))
                writer.write(ANSWER)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


async def sent(url: str, *pieces: bytes, answers: int) -> bytes:
    """What comes back for bytes that are sent piece by piece."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
    found = await reader.readexactly(answers * len(ANSWER))
    writer.close()
    await writer.wait_closed()
    return found


def request(path: str, body: bytes = b"", key: str = "") -> bytes:
    """A request as clients write it."""
    named = f"idempotency-KEY: {key}\r\n" if key else ""
    head = f"POST {path} HTTP/1.1\r\nHost: h\r\n{named}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_bytes_belong_to_their_request_however_they_come(size: int) -> None:
    """Two requests on one connection, cut anywhere, are two exchanges with all their bytes, and arrive as they were."""
    first, second = request("/v1/score", b"\r\n\r\nPOST / HTTP/1.1\r\n\r\n", "k1"), request("/health")
    requests: list[bytes] = []
    async with server(requests, of_bytes=(len(first), len(second))) as url, counting_relay(url) as relay:
        whole = first + second
        pieces = [whole[start : start + size] for start in range(0, len(whole), size)]
        answers = await sent(relay.url, *pieces, answers=2)

    assert [first, second] == requests
    assert 2 * ANSWER == answers
    assert [("/v1/score", "k1", len(first)), ("/health", "", len(second))] == [
        (one.path, one.key, one.up) for one in relay.exchanges
    ]
    assert (len(whole), 2 * len(ANSWER)) == (relay.up, relay.down)


async def test_an_answer_belongs_to_the_request_before_it() -> None:
    """Clients that wait for each answer, as HTTP/1.1 has it, have each counted where it belongs."""
    both = [request("/a"), request("/b", b"body")]
    async with server([], of_bytes=tuple(map(len, both))) as url, counting_relay(url) as relay:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(relay.url.rpartition(":")[2]))
        for one in both:
            writer.write(one)
            await reader.readexactly(len(ANSWER))
        writer.close()
        await writer.wait_closed()

    wanted = [Exchange("/a", "", len(both[0]), len(ANSWER)), Exchange("/b", "", len(both[1]), len(ANSWER))]
    assert wanted == relay.exchanges


async def test_the_real_client_counts_the_same() -> None:
    """Bytes of a score call, heads and bodies, are those that the client says it has sent and read."""
    async with served() as service, counting_relay(service.url) as relay:
        async with open_backend(relay.url, api_key="test-key-of-ann") as backend:
            await backend.register(TEXTS)
            await backend.score(ScoreQuery(TEXTS), key="k1")
            await backend.score(ScoreQuery(TEXTS), key="k2")
        scored = [one for one in relay.exchanges if one.path == "/v1/score"]

    assert ["k1", "k2"] == [one.key for one in scored]
    assert backend.bytes_up == sum(one.up for one in scored)
    assert backend.bytes_down == sum(one.down for one in scored)
    assert (relay.up, relay.down) == (
        sum(one.up for one in relay.exchanges),
        sum(one.down for one in relay.exchanges),
    )


@pytest.mark.parametrize(
    "begins", [b"\x16\x03\x01 hello\r\n\r\n", b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"]
)
async def test_what_cannot_be_counted_is_not_passed_on(begins: bytes) -> None:
    """TLS, or a body without a length, ends the connection instead of being counted wrong."""
    requests: list[bytes] = []
    async with server(requests, of_bytes=(1,)) as url, counting_relay(url) as relay:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(relay.url.rpartition(":")[2]))
        writer.write(begins)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()

    assert [] == relay.exchanges


async def test_a_server_that_is_gone_closes_the_connection() -> None:
    """Nobody waits for an answer that cannot come."""
    async with server([], of_bytes=()) as url:
        pass
    async with counting_relay(url) as relay:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(relay.url.rpartition(":")[2]))
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def test_leaving_ends_connections_that_are_open() -> None:
    """No task and no socket is left when a client has not said goodbye."""
    async with server([], of_bytes=(len(request("/a")), 1)) as url:
        async with counting_relay(url) as relay:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(relay.url.rpartition(":")[2]))
            writer.write(request("/a"))
            await reader.readexactly(len(ANSWER))
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "127.0.0.1:80", "http://127.0.0.1"])
async def test_only_plain_http_is_relayed(url: str) -> None:
    """TLS could not be read, and a server without a port is a slip."""
    with pytest.raises(ValueError, match="give http://host:port"):
        async with counting_relay(url):
            pass
