"""Connections that answer what is no HTTP in the API's JSON, and log no piece of it.

aiohttp answers a malformed request with a page that repeats the wrong piece, and logs it with a traceback. That piece
may be the header that holds an API key.
"""

from __future__ import annotations

import asyncio
import logging

from aiohttp import web

from lmaas_backends.roberta.protocol import JSON
from lmaas_backends.roberta.wire_errors import RefusalError

__all__ = ["ApiRunner"]

_log = logging.getLogger("lmaas_backends.server")


class _Connection(web.RequestHandler):
    """One client's connection."""

    __slots__ = ()

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
        response = web.Response(status=refusal.kind.status, body=refusal.body(), content_type=JSON)
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

    def __init__(self, served: web.Server) -> None:
        super().__init__(
            served.request_handler,
            request_factory=served.request_factory,
            handler_cancellation=served.handler_cancellation,
        )

    def __call__(self) -> web.RequestHandler:
        """A connection that leaves bodies as they are on the wire: none of them may grow by being unpacked."""
        return _Connection(self, loop=asyncio.get_running_loop(), access_log=None, auto_decompress=False)  # type: ignore[arg-type]


class ApiRunner(web.AppRunner):
    """Runs an application on such connections; a client that leaves cancels its handlers.

    Args:
        app: The application.
        shutdown_timeout_s: Longest wait for answers that are being sent, at the end.
    """

    __slots__ = ()

    def __init__(self, app: web.Application, *, shutdown_timeout_s: float) -> None:
        super().__init__(app, handler_cancellation=True, shutdown_timeout=shutdown_timeout_s)

    async def _make_server(self) -> web.Server:
        return _ApiServer(await super()._make_server())
