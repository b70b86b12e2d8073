"""The bodies of requests: read within a size, a time and a room that all of them share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from lmaas_backends.roberta.wire_errors import RefusalError

__all__ = ["RequestBodies"]

_MOST_BYTES = 64 << 20
_MOST_BYTES_TOGETHER = 256 << 20
_DEADLINE_S = 60.0
_ROOM_AGAIN_S = 1.0


class RequestBodies:
    """The bodies that are being read and decoded.

    Args:
        most_bytes: Of one body; a longer one is refused with 413.
        most_bytes_together: Of all of them at one time; a body that would go beyond is refused with 503.
        deadline_s: For the whole of a body to come; a slower one is refused with 408.
    """

    def __init__(
        self,
        *,
        most_bytes: int = _MOST_BYTES,
        most_bytes_together: int = _MOST_BYTES_TOGETHER,
        deadline_s: float = _DEADLINE_S,
    ) -> None:
        self._most_bytes, self._most_together, self._deadline_s = most_bytes, most_bytes_together, deadline_s
        self._held_bytes = 0

    @asynccontextmanager
    async def read(self, request: web.Request) -> AsyncIterator[bytes]:
        """Reads a body and yields it; leaving gives its room back, so decode it inside.

        Raises:
            RefusalError: content_encoding, too_large, unavailable, body_timeout, or malformed_body where the bytes are
                not what the headers announce.
        """
        self._check_head(request)
        body = bytearray()
        try:
            await self._fill(body, request)
            yield bytes(body)
        finally:
            self._held_bytes -= len(body)

    def _check_head(self, request: web.Request) -> None:
        encoding = request.headers.get("Content-Encoding", "identity")
        if encoding.lower() != "identity":
            raise RefusalError("content_encoding", f"a body in the encoding {encoding[:40]!r} is not taken")
        if request.content_length is not None:
            self._check_size(request.content_length)

    def _check_size(self, size: int) -> None:
        if size > self._most_bytes:
            raise RefusalError("too_large", f"a body has at most {self._most_bytes} bytes")

    async def _fill(self, body: bytearray, request: web.Request) -> None:
        try:
            async with asyncio.timeout(self._deadline_s):
                async for piece in request.content.iter_any():
                    self._check_size(len(body) + len(piece))
                    self._take_room(len(piece))
                    body += piece
        except TimeoutError as error:
            message = f"the body had not come after {self._deadline_s:g} s"
            raise RefusalError("body_timeout", message, headers={"Connection": "close"}) from error
        except web.RequestPayloadError as error:  # its text repeats a piece of the request
            raise RefusalError("malformed_body", "the body is not what the request's headers announce") from error

    def _take_room(self, amount: int) -> None:
        if self._held_bytes + amount > self._most_together:
            raise RefusalError(
                "unavailable", "the server is reading as much as it can hold", retry_after_s=_ROOM_AGAIN_S
            )
        self._held_bytes += amount
