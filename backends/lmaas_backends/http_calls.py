"""HTTP as `RemoteBackend` needs it: one pooled session, errors of the tree, the bytes counted."""

from __future__ import annotations

import asyncio
import ipaddress
import math
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import SimpleNamespace, TracebackType

import aiohttp
from yarl import URL

from lmaas_backends.roberta.wire_errors import error_from_answer
from lmaas_sdk.errors import AttemptTimeout, BackendUnavailable, OutcomeUnknown

__all__ = ["HttpCalls", "Reply", "Sent"]

_USER_AGENT = "lmaas-sdk"
_POOLED_CONNECTIONS = 64
_MOST_DIGITS = 12  # of a Retry-After in seconds: thirty thousand years


@dataclass(slots=True)
class Sent:
    """What one attempt put on the wire and got back.

    Attributes:
        up, down: Bytes of the HTTP/1.1 messages: request or status line, headers, body. TLS, TCP and a proxy's own
            headers are not in them.
        started: Whether any byte of the request may have reached the server.
    """

    up: int = 0
    down: int = 0
    started: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """The body of an answer and its media type."""

    body: bytes
    media_type: str


class HttpCalls:
    """Requests to one server. Use it as an async context manager.

    Args:
        url: The server, such as `http://127.0.0.1:8080`; a path in front of the API is kept.
        api_key: Sent as a bearer token; it is in no repr and no error of this class.
        timeout_s: For a whole attempt.
        connect_timeout_s: For getting a connection.
    """

    def __init__(self, url: str, *, api_key: str | None, timeout_s: float, connect_timeout_s: float) -> None:
        self.url = _checked(url)
        _check_positive(timeout_s=timeout_s, connect_timeout_s=connect_timeout_s)
        if api_key is not None and not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
            raise ValueError("the API key holds a blank or a character that no header may hold: was it pasted whole?")
        self._api_key = api_key
        self._timeout_s, self._connect_timeout_s = timeout_s, connect_timeout_s
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"HttpCalls({str(self.url)!r})"

    async def __aenter__(self) -> HttpCalls:
        headers = {"User-Agent": _USER_AGENT}
        if self._api_key is not None:
            headers["Authorization"] = f"Bearer {self._api_key}"
        self._session = aiohttp.ClientSession(
            headers=headers,
            skip_auto_headers=("Accept", "Accept-Encoding"),  # logits do not compress
            connector=aiohttp.TCPConnector(limit=_POOLED_CONNECTIONS),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_timeout_s),
            trace_configs=[_byte_counter()],
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=_proxy_for(self.url),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str) -> Reply:
        """GET; raises as `post` does."""
        return await self._attempt("GET", path, body=None, headers={}, sent=Sent())

    async def post(self, path: str, body: bytes, media_type: str, *, key: str | None = None, sent: Sent) -> Reply:
        """One attempt of a POST that asks for an answer in the form of its body.

        Args:
            path: Of the API, such as "v1/score".
            body: The request's body.
            media_type: Of the body.
            key: The idempotency key.
            sent: Where the bytes of the attempt are counted, whatever becomes of it.

        Raises:
            BackendUnavailable: No connection was made; nothing was sent.
            AttemptTimeout, OutcomeUnknown: Something was sent and no answer came.
            ProtocolError: The answer is none of this API's.
            LmaasError: What the server's answer stands for in `wire_errors.KINDS`.
        """
        headers = {"Content-Type": media_type}
        if key is not None:
            headers["Idempotency-Key"] = key
        return await self._attempt("POST", path, body=body, headers=headers, sent=sent)

    async def _attempt(
        self, method: str, path: str, *, body: bytes | None, headers: dict[str, str], sent: Sent
    ) -> Reply:
        try:
            async with asyncio.timeout(self._timeout_s):
                status, waits, reply = await self._exchange(method, path, body=body, headers=headers, sent=sent)
        except TimeoutError as error:  # aiohttp's own are of this class too
            if sent.started:
                raise AttemptTimeout(f"no answer of {self.url / path} within {self._timeout_s:g} s") from error
            raise self._unreachable(f"no connection within {self._connect_timeout_s:g} s") from error
        except aiohttp.ClientError as error:
            if sent.started:
                raise OutcomeUnknown(f"the connection to {self.url} broke before the answer came: {error!r}") from error
            raise self._unreachable(str(error)) from error
        if status != 200:
            raise error_from_answer(status, self._without_key(reply.body), retry_after_s=_seconds(waits))
        return reply

    async def _exchange(
        self, method: str, path: str, *, body: bytes | None, headers: dict[str, str], sent: Sent
    ) -> tuple[int, str | None, Reply]:
        if self._session is None or self._session.closed:
            raise RuntimeError("the backend is closed: use it inside `async with`")
        async with self._session.request(
            method, self.url / path, data=body, headers=headers, allow_redirects=False, trace_request_ctx=sent
        ) as response:
            answer = await response.read()
            sent.down += _head_bytes(response) + len(answer)
            return response.status, response.headers.get("Retry-After"), Reply(answer, response.content_type)

    def _unreachable(self, why: str) -> BackendUnavailable:
        return BackendUnavailable(
            f"no server answers at {self.url} ({why}): is it running? "
            "Start one with `lmaas serve --model roberta-tiny --port 8080` and give its URL"
        )

    def _without_key(self, answer: bytes) -> bytes:
        """A proxy may echo the request in its error page; the key must not reach a message or a log."""
        return answer if self._api_key is None else answer.replace(self._api_key.encode(), b"***")


def _checked(url: str) -> URL:
    try:
        parsed = URL(url)
    except ValueError as error:
        raise ValueError(f"not a URL: {url!r} (write it as 'http://127.0.0.1:8080')") from error
    if parsed.user or parsed.password:
        raise ValueError("the URL holds a user or password: give the key as api_key= or LMAAS_API_KEY instead")
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ValueError(f"a server's URL starts with http:// or https:// and has a host, not {url!r}")
    return parsed


def _check_positive(**durations_s: float) -> None:
    for name, value in durations_s.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} is a positive number of seconds, not {value!r}")


def _proxy_for(url: URL) -> str | None:
    """The environment's proxy for this server; never one for loopback.

    aiohttp's `trust_env` would also read ~/.netrc, and refuse to send our key to a host that is named there.
    """
    host = url.host or ""
    if _is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(url.scheme)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _byte_counter() -> aiohttp.TraceConfig:
    """Counts a request's bytes as they are handed to the socket, into the `Sent` it was made with."""
    trace = aiohttp.TraceConfig()

    async def headers_sent(
        _: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestHeadersSentParams
    ) -> None:
        sent: Sent = context.trace_request_ctx
        sent.started = True
        sent.up += len(f"{params.method} {params.url.raw_path_qs} HTTP/1.1\r\n\r\n")
        sent.up += sum(len(f"{name}: {value}\r\n".encode()) for name, value in params.headers.items())

    async def chunk_sent(
        _: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestChunkSentParams
    ) -> None:
        sent: Sent = context.trace_request_ctx
        sent.up += len(params.chunk)

    trace.on_request_headers_sent.append(headers_sent)
    trace.on_request_chunk_sent.append(chunk_sent)
    return trace


def _head_bytes(response: aiohttp.ClientResponse) -> int:
    status_line = len(f"HTTP/1.1 {response.status} {response.reason}\r\n\r\n")
    return status_line + sum(len(name) + len(value) + len(b": \r\n") for name, value in response.raw_headers)


def _seconds(retry_after: str | None) -> float | None:
    """Seconds of a Retry-After header, which is a number of them or an HTTP date (RFC 9110, section 10.2.3)."""
    if retry_after is None:
        return None
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:_MOST_DIGITS])
    try:
        date = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    zoned = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    return max(0.0, (zoned - datetime.now(UTC)).total_seconds())
