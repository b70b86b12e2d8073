"""A relay on loopback that passes connections on to a server and counts the bytes of every HTTP/1.1 exchange.

Bytes are counted as they leave one socket for the other: request line or status line, headers and bodies, all of them.
TCP's and IP's own headers are not in what a socket gives, and not in the figures.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from lmaas_sdk.errors import ProtocolError

__all__ = ["CountingRelay", "Exchange", "counting_relay"]

_CHUNK_BYTES = 1 << 16
_HEAD_END = b"\r\n\r\n"
_MOST_HEAD_BYTES = 64 << 10


@dataclass(slots=True)
class Exchange:
    """One request and its answer.

    Args:
        path: Of the request, such as "/v1/score".
        key: Its idempotency key; "": it has none.
        up, down: Bytes of the request and of the answer.
    """

    path: str
    key: str = ""
    up: int = 0
    down: int = 0


@dataclass(slots=True, eq=False)
class CountingRelay:
    """What has gone through.

    Attributes:
        url: Where clients connect to.
        exchanges: In the order in which their requests began.
        up, down: Bytes of all connections, also of what is no whole request.
    """

    url: str = ""
    exchanges: list[Exchange] = field(default_factory=list)
    up: int = 0
    down: int = 0


@asynccontextmanager
async def counting_relay(url: str) -> AsyncIterator[CountingRelay]:
    """A relay to the server at `url` on a free loopback port; leaving ends all its connections.

    Args:
        url: `http://host:port`; nothing of TLS could be told apart.
    """
    target = urlsplit(url)
    if target.scheme != "http" or target.hostname is None or target.port is None:
        raise ValueError(f"a relay reads what it passes on: give http://host:port, not {url!r:.80}")
    host, port = target.hostname, target.port
    relay, tasks = CountingRelay(), set[asyncio.Task[None]]()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_pass_on(relay, reader, writer, (host, port)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    relay.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield relay
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def _pass_on(
    relay: CountingRelay, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: tuple[str, int]
) -> None:
    """One connection, to its end; where the server takes none, the client's is closed too."""
    writers, connection = [writer], _Connection(relay)
    try:
        server_reader, server_writer = await asyncio.open_connection(*target)
        writers.append(server_writer)
        async with asyncio.TaskGroup() as both:
            both.create_task(_copy(reader, server_writer, connection.sent))
            both.create_task(_copy(server_reader, writer, connection.answered))
    except* (OSError, ProtocolError):
        pass  # whoever is still there sees a closed connection
    finally:
        for one in writers:
            one.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: Callable[[bytes], None]) -> None:
    while chunk := await reader.read(_CHUNK_BYTES):
        count(chunk)
        writer.write(chunk)
        await writer.drain()
    writer.write_eof()


class _Connection:
    """Cuts what a client sends into requests; an answer belongs to the last of them, for none is sent before it."""

    def __init__(self, relay: CountingRelay) -> None:
        self._relay = relay
        self._head = b""
        self._left = 0  # bytes of the body that are still to come
        self._last = Exchange("")  # of nobody, until the first request

    def sent(self, chunk: bytes) -> None:
        self._relay.up += len(chunk)
        while chunk:
            chunk = self._body(chunk) if self._left else self._begin(chunk)

    def answered(self, chunk: bytes) -> None:
        self._relay.down += len(chunk)
        self._last.down += len(chunk)

    def _body(self, chunk: bytes) -> bytes:
        """Counts what belongs to the request under way, and returns what is behind it."""
        taken = min(self._left, len(chunk))
        self._left -= taken
        self._last.up += taken
        return chunk[taken:]

    def _begin(self, chunk: bytes) -> bytes:
        """Reads the head of a request once it is whole, and returns what is behind it."""
        head, end, rest = (self._head + chunk).partition(_HEAD_END)
        if not end:
            if len(head) > _MOST_HEAD_BYTES:
                raise ProtocolError(f"a request's head is longer than {_MOST_HEAD_BYTES} bytes: is this HTTP?")
            self._head = head
            return b""
        self._head = b""
        self._last, self._left = _read_head(head)
        self._relay.exchanges.append(self._last)
        return rest


def _read_head(head: bytes) -> tuple[Exchange, int]:
    """The exchange that a request's head begins, and the bytes of its body.

    Raises:
        ProtocolError: It is no head, or its body has no length.
    """
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = headers.get("content-length", "0")
    if first.count(" ") != 2 or not length.isdecimal() or "transfer-encoding" in headers:
        raise ProtocolError(f"a request begins with {first!r:.80}: only HTTP/1.1 with a Content-Length is counted")
    path = first.split(" ")[1]
    return Exchange(path, headers.get("idempotency-key", ""), len(head) + len(_HEAD_END)), int(length)
