"""A client that sends whatever bytes it is given, and reads answers strictly."""

from __future__ import annotations

import json
import select
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

__all__ = ["KEY", "Answer", "Wire", "posted"]

KEY = "test-key-of-ann"
_WAIT_S, _PAUSE_S, _MOST_PIECES = 20, 0.01, 1000
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True)
class Answer:
    """What came back on a request."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """A connection to a server, made anew when the server has closed it. Use it as a context manager."""

    def __init__(self, url: str) -> None:
        self._port = int(url.rpartition(":")[2])
        self._socket: socket.socket | None = None
        self._unread = b""  # of a next answer

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def ask(self, request: bytes = b"", *, half_close: bool = False) -> Answer | None:
        """The next answer, after sending these bytes; None: the server closed the connection without one."""
        connection, answer = self._connected(), None
        with suppress(ConnectionError):
            connection.sendall(request)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            answer = self._read(connection)
        if half_close or answer is None or answer.headers.get("connection", "").lower() == "close":
            self._close()
        return answer

    def dribble(self, begun: bytes, more: bytes) -> Answer | None:
        """As `ask`, but goes on sending `more` until the server answers or closes the connection."""
        connection = self._connected()
        with suppress(ConnectionError):
            connection.sendall(begun)
            for _ in range(_MOST_PIECES):
                if select.select([connection], [], [], _PAUSE_S)[0]:
                    break
                connection.sendall(more)
        return self.ask()

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=_WAIT_S)
        return self._socket

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket, self._unread = None, b""

    def _read(self, source: socket.socket) -> Answer | None:
        got = self._unread
        while b"\r\n\r\n" not in got:
            if not (piece := source.recv(1 << 16)):
                assert got == b"", got
                return None
            got = (got + piece).removeprefix(_CONTINUE)
        head, _, body = got.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("ascii").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers["content-length"])
        while len(body) < length:
            piece = source.recv(1 << 16)
            assert piece, "the answer is shorter than it says"
            body += piece
        self._unread = body[length:]
        return Answer(int(status_line.split()[1]), headers, body[:length])


def posted(path: str, media_type: str, body: bytes) -> bytes:
    """A POST with the right key and length."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: {media_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
