"""A way to a server on which one of the two is killed in the middle of a call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress


class DeadlyWay:
    """Passes bytes to a server, and kills at the nth score call: when that has come, or before its answer has gone.

    Args:
        url: The server.
        kill: Kills it, or its client.
        nth: The call that is not survived.
        answers: Whether it may still answer, and so bill, that call; the answer does not get through.
        port: Where the way begins; 0: at any free port.
    """

    def __init__(self, url: str, kill: Callable[[], None], *, nth: int, answers: bool, port: int = 0) -> None:
        self._at, self._port, self._kill = port, int(url.rpartition(":")[2]), kill
        self._nth, self._answers = nth, answers
        self._calls, self._is_dead = 0, False

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[str]:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._at)
        async with self._server:
            yield f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError), closing(writer):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
            with closing(far_writer):
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._up(reader, far_writer))
                    tasks.create_task(self._down(far_reader, writer))

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while part := await reader.read(1 << 16):
                self._calls += part.count(b"POST /v1/score ")
                writer.write(part)
                if self._calls >= self._nth and not self._answers:
                    self._end()
        writer.close()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while part := await reader.read(1 << 16):
                if self._calls >= self._nth:
                    self._end()
                    break
                writer.write(part)
        writer.close()

    def _end(self) -> None:
        if not self._is_dead:
            self._is_dead = True
            self._kill()
            self._server.close()
