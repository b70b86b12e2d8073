"""Connections that answer what is no HTTP in the API's JSON, log no piece of it, and wait for no one for ever.

aiohttp answers a malformed request with a page that repeats the wrong piece, and logs it with a traceback. That piece
may be the header that holds an API key.
"""

from __future__ import annotations

import asyncio
import logging
import math

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader

from lmaas_backends.roberta.protocol import JSON
from lmaas_backends.roberta.wire_errors import RefusalError

__all__ = ["SILENCE_S", "ApiRunner", "refused"]

SILENCE_S = 75.0  # longer than clients and proxies keep an idle connection, so that they are the ones to close it
_EXPECTED = "100-continue"
_log = logging.getLogger("lmaas_backends.server")


def refused(refusal: RefusalError) -> web.Response:
    """The answer that tells a refusal."""
    headers = dict(refusal.headers)
    if refusal.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(refusal.retry_after_s)))
    return web.Response(status=refusal.kind.status, body=refusal.body(), content_type=JSON, headers=headers)


class _Connection(web.RequestHandler):
    """One client's connection."""

    __slots__ = ("_silence",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Gives the first request's head as long as aiohttp gives those after it, of which few releases do."""
        super().connection_made(transport)
        self._silence = asyncio.get_running_loop().call_later(self.keepalive_timeout, self.force_close)

    def head_came(self) -> None:
        """A request begins to be served."""
        self._silence.cancel()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Lets go of the timer."""
        self._silence.cancel()
        super().connection_lost(exc)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answers what never reached the application: a request that is not HTTP, or a defect below it."""
        self.log_exception(exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("a part of another answer is already sent")
        refusal = RefusalError("malformed_request", "the request is not well-formed HTTP")
        if status >= 500:
            refusal = RefusalError("server_fault", "the server failed on this request")
        response = refused(refusal)
        response.headers["Server"] = "lmaas"
        response.force_close()
        return response

    def log_exception(self, *args: object, **kw: object) -> None:
        """One line that names the kind of the error, and nothing of what was sent."""
        _log.warning("- a request was dropped: %s", type(kw.get("exc_info")).__name__)

    def log_debug(self, *args: object, **kw: object) -> None:
        """Nothing: aiohttp's debugging lines show requests."""


class _ApiServer(web.Server):
    """Makes the connections of an application."""

    def __init__(self, served: web.Server, *, silence_s: float) -> None:
        super().__init__(
            self._answer,
            request_factory=self._request,  # type: ignore[arg-type]
            handler_cancellation=served.handler_cancellation,
        )
        self._served, self._silence_s = served, silence_s

    def __call__(self) -> web.RequestHandler:
        """A connection that leaves bodies as they are on the wire: none of them may grow by being unpacked."""
        return _Connection(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]
            auto_decompress=False,
            keepalive_timeout=self._silence_s,
        )

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        connection: _Connection,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        connection.head_came()
        return self._served.request_factory(message, payload, connection, writer, task)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers a request, but for the one that aiohttp would refuse, in its own way, before the application."""
        if request.headers.get("Expect", _EXPECTED).lower() != _EXPECTED:
            return refused(RefusalError("expectation_failed", f"no expectation but {_EXPECTED} can be met"))
        return await self._served.request_handler(request)


class ApiRunner(web.AppRunner):
    """Runs an application on such connections; a client that leaves cancels its handlers.

    Args:
        app: The application.
        shutdown_timeout_s: Longest wait for answers that are being sent, at the end.
        silence_s: Longest wait for the whole head of a request, from the connection's beginning or the last answer on.
    """

    __slots__ = ("_silence_s",)

    def __init__(self, app: web.Application, *, shutdown_timeout_s: float, silence_s: float = SILENCE_S) -> None:
        super().__init__(app, handler_cancellation=True, shutdown_timeout=shutdown_timeout_s)
        self._silence_s = silence_s

    async def _make_server(self) -> web.Server:
        return _ApiServer(await super()._make_server(), silence_s=self._silence_s)
