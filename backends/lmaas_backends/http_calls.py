"""HTTP as `RemoteBackend` needs it: one pooled session, errors of the tree, the bytes counted."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import math
import urllib.request
from types import TracebackType

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from yarl import URL

from lmaas_backends.http_answers import Answer, Reply, Sent, read_answer, retry_after_s
from lmaas_backends.masking import masking
from lmaas_backends.roberta.wire_errors import error_from_answer
from lmaas_backends.tls import untrusted, verifying_context
from lmaas_sdk.errors import (
    AttemptTimeout,
    BackendUnavailable,
    LmaasError,
    OutcomeUnknown,
    ProtocolError,
    ServerUntrusted,
)
from lmaas_sdk.secret import Secret

__all__ = ["HttpCalls"]

_USER_AGENT = "lmaas-sdk"
_POOLED_CONNECTIONS = 64
_MOST_REASON = 300  # characters: a server decides how long it is


class HttpCalls:
    """Requests to one server. Use it as an async context manager.

    Args:
        url: The server, such as `http://127.0.0.1:8080`; a path in front of the API is kept.
        api_key: Sent as a bearer token; it is in no repr and no error of this class.
        timeout_s: For a whole attempt.
        connect_timeout_s: For getting a connection.

    Attributes:
        masked: Gives a text without the API key and the proxy's password, which a server or proxy may have echoed.
    """

    url = URL()  # what reports an error in `__init__` asks for the `repr`

    def __init__(self, url: str, *, api_key: str | None, timeout_s: float, connect_timeout_s: float) -> None:
        api_key = None if api_key is None else Secret(api_key)  # no variable shows it, whatever is raised below
        url = Secret(url)  # it may hold a key where none belongs
        self.url = _checked(url)
        _check_positive(timeout_s=timeout_s, connect_timeout_s=connect_timeout_s)
        if api_key is not None and not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
            raise ValueError("the API key holds a blank or a character that no header may hold: was it pasted whole?")
        self._api_key = api_key
        self.masked = masking(api_key)
        self._timeout_s, self._connect_timeout_s = timeout_s, connect_timeout_s
        self.account = "" if api_key is None else _account(self.url, api_key)
        self._session: aiohttp.ClientSession | None = None
        self._urls: dict[str, URL] = {}

    def __repr__(self) -> str:
        return f"HttpCalls({str(self.url)!r})"

    async def __aenter__(self) -> HttpCalls:
        headers = {"User-Agent": _USER_AGENT}
        if self._api_key is not None:
            headers["Authorization"] = Secret(f"Bearer {self._api_key}")
        proxy = _proxy_for(self.url)
        self.masked = masking(self._api_key, proxy.password if proxy is not None else None)
        ways = {self.url.scheme, "" if proxy is None else proxy.scheme}
        tls = await asyncio.to_thread(verifying_context) if "https" in ways else True
        self._session = aiohttp.ClientSession(
            headers=headers,
            skip_auto_headers=("Accept", "Accept-Encoding"),  # logits do not compress
            auto_decompress=False,  # a small body that grows without bound must not
            connector=aiohttp.TCPConnector(limit=_POOLED_CONNECTIONS, ssl=tls),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=proxy,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections; a second time does nothing."""
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str) -> Reply:
        """One attempt of a GET.

        Args:
            path: Of the API, such as "v1/models".

        Raises:
            LmaasError: As `post` does.
        """
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
            ServerUntrusted: Nor was it here, and trying again does not help.
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
                answer = await self._exchange(method, path, body=body, headers=headers, sent=sent)
        except TimeoutError as error:  # aiohttp's own are of this class too
            failure = self._too_late(error, path, sent)
        except aiohttp.ClientError as error:
            failure = self._lost(error, sent)
        except (asyncio.CancelledError, LmaasError) as passing:
            raise passing.with_traceback(None)  # noqa: B904  (it is its own cause, without the frames below this one)
        else:
            return self._understood(answer)
        # Here, where no cause hangs on it: aiohttp's errors, and the variables of its functions, hold headers of the
        # request, and so the key, and of an answer that may echo it.
        raise failure

    async def _exchange(
        self, method: str, path: str, *, body: bytes | None, headers: dict[str, str], sent: Sent
    ) -> Answer:
        if self._session is None or self._session.closed:
            raise RuntimeError("the backend is closed: use it inside `async with`")
        sent.started = body is None  # what has no body is free; `_lost` and timeouts tell no connection apart
        data = None if body is None else _Body(body, sent)
        async with self._session.request(
            method, self._url(path), data=data, headers=headers, allow_redirects=False
        ) as response:
            sent.up += _head_bytes(response.request_info)
            return await read_answer(response, sent)

    def _url(self, path: str) -> URL:
        """The URL of a path of the API, joined once."""
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = self.url / path
        return url

    def _understood(self, answer: Answer) -> Reply:
        if answer.status == 200:
            return answer.reply
        if answer.redirected_to and 300 <= answer.status < 400:
            raise ProtocolError(
                f"the server answered {answer.status} and points to {self.masked(answer.redirected_to)[:80]!r}: "
                "redirects are not followed, they could carry the API key elsewhere; give that URL if you trust it"
            )
        wait_s = retry_after_s(answer.retry_after)
        raise error_from_answer(answer.status, answer.reply.body, retry_after_s=wait_s, masked=self.masked)

    def _too_late(self, error: TimeoutError, path: str, sent: Sent) -> LmaasError:
        if sent.started and not isinstance(error, aiohttp.ConnectionTimeoutError):
            return AttemptTimeout(f"no answer of {self.url / path} within {self._timeout_s:g} s")
        return self._unreachable(f"no connection within {self._connect_timeout_s:g} s")

    def _lost(self, error: aiohttp.ClientError, sent: Sent) -> LmaasError:
        """What a failed exchange is to the caller. Only the text of aiohttp's errors is free of the request."""
        why = self.masked(f"{type(error).__name__}: {error}")[:_MOST_REASON]
        if told := untrusted(error):
            return ServerUntrusted(f"nothing was sent to {self.url}: {self.masked(told)}")
        if not sent.started or isinstance(error, aiohttp.ClientConnectorError):
            return self._unreachable(why)
        return OutcomeUnknown(f"the connection to {self.url} broke before a whole answer came ({why})")

    def _unreachable(self, why: str) -> BackendUnavailable:
        return BackendUnavailable(
            f"no server answers at {self.url} ({why}): is it running? "
            "Start one with `lmaas serve --model roberta-tiny --port 8080` and give its URL"
        )


def _account(url: URL, api_key: str) -> str:
    """Names a key at a server, without telling it: equal for equal keys, and of no use at any other server."""
    salt = hashlib.blake2b(str(url).encode(), digest_size=32).digest()
    return hashlib.blake2b(api_key.encode("ascii"), key=salt, digest_size=6).hexdigest()


def _checked(url: str) -> URL:
    if fault := _fault_of(url):
        # It is told from here, where no variable and no cause holds what was given: a key may stand anywhere in it.
        raise ValueError(f"{fault}: write the server's URL as 'http://127.0.0.1:8080', or with https")
    return URL(url)


def _fault_of(url: str) -> str:
    """What is wrong with a server's URL, without telling any of it; "" where nothing is."""
    try:
        parsed = URL(url)
    except ValueError:
        return "this is not a URL, or its host or port cannot be"
    if parsed.user or parsed.password:
        return "the URL holds a user or password (give the key as api_key= or LMAAS_API_KEY instead)"
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        return "a server's URL starts with http:// or https:// and has a host, and this one has not"
    if parsed.raw_query_string or parsed.raw_fragment:
        return "the URL holds a query or fragment (give a key as api_key= or LMAAS_API_KEY instead)"
    return ""


def _check_positive(**durations_s: float) -> None:
    for name, value in durations_s.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} is a positive number of seconds, not {value!r}")


def _proxy_for(url: URL) -> URL | None:
    """The environment's proxy for this server; never one for loopback.

    aiohttp's `trust_env` would also read ~/.netrc, and refuse to send our key to a host that is named there.
    """
    host = url.host or ""
    if _is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    proxy = Secret(urllib.request.getproxies().get(url.scheme, ""))  # it may hold a password
    if proxy and not _is_readable(proxy):
        raise ValueError(f"the environment's proxy for {url.scheme} is not a URL: mend {url.scheme}_proxy")
    return URL(proxy) if proxy else None


def _is_readable(url: str) -> bool:
    try:
        return bool(URL(url).host)
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Body(aiohttp.BytesPayload):
    """A body that tells when it is written: before that, no byte of its request has left.

    aiohttp's own hooks would tell too, and cost a tenth of a call.
    """

    def __init__(self, body: bytes, sent: Sent) -> None:
        super().__init__(body)
        self._sent = sent

    async def write(self, writer: AbstractStreamWriter) -> None:
        self._begin()
        await super().write(writer)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        self._begin()
        await super().write_with_length(writer, content_length)

    def _begin(self) -> None:
        if not self._sent.started:
            self._sent.started = True
            self._sent.up += self.size or 0


def _head_bytes(request: aiohttp.RequestInfo) -> int:
    """Bytes of a request's line and headers as HTTP/1.1 has them."""
    line = len(request.method) + len(request.url.raw_path_qs) + len("  HTTP/1.1\r\n\r\n")
    return line + sum(len(name) + len(value) + len(": \r\n") for name, value in request.headers.items())
