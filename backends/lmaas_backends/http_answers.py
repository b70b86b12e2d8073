"""Answers of an HTTP server that need not mean well: read up to a bound, and never trusted."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import chain

import aiohttp
from yarl import URL

from lmaas_sdk.errors import ProtocolError

__all__ = ["MOST_ANSWER_BYTES", "Answer", "Reply", "Sent", "read_answer", "retry_after_s"]

MOST_ANSWER_BYTES = 64 << 20
_MOST_REFUSAL_BYTES = 64 << 10
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
    """The body of a 200 answer and its media type. No `repr` shows them: a server may echo the API key."""

    body: bytes = field(repr=False)
    media_type: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered to one request. Its `repr` shows the status alone, as that of `Reply`.

    Args:
        status: The HTTP status.
        reply: Body and media type. The body of a refusal ends after 64 KiB, which is more than any of this API has.
        retry_after: The Retry-After header, as it came.
        redirected_to: The host that a Location header names, for messages; "" without one.
    """

    status: int
    reply: Reply
    retry_after: str | None = field(repr=False)
    redirected_to: str = field(repr=False)


async def read_answer(response: aiohttp.ClientResponse, sent: Sent) -> Answer:
    """Reads an answer in pieces, so that no server can fill this process's memory.

    Args:
        response: Its head has come; its body is left as it is on the wire.
        sent: Where the bytes are counted as they come.

    Raises:
        ProtocolError: A 200 answer has more than `MOST_ANSWER_BYTES`, or is compressed, which nobody asked for.
    """
    sent.down += _head_bytes(response)
    encoding = response.headers.get("Content-Encoding", "identity")
    if response.status == 200 and encoding.lower() != "identity":
        raise ProtocolError("the server compressed its answer (Content-Encoding), and nobody asked it to")
    body = await (_whole(response, sent) if response.status == 200 else _beginning(response, sent))
    host = _host(response.headers.get("Location"), response.url)
    return Answer(response.status, Reply(body, response.content_type), response.headers.get("Retry-After"), host)


async def _whole(response: aiohttp.ClientResponse, sent: Sent) -> bytes:
    body = await _read(response, sent, MOST_ANSWER_BYTES)
    if len(body) > MOST_ANSWER_BYTES:
        raise ProtocolError(f"the server's answer is longer than {MOST_ANSWER_BYTES >> 20} MiB: ask for less a call")
    return body


async def _beginning(response: aiohttp.ClientResponse, sent: Sent) -> bytes:
    """As much of a refusal as a message may need: its status decides, however long its page is."""
    return (await _read(response, sent, _MOST_REFUSAL_BYTES))[:_MOST_REFUSAL_BYTES]


async def _read(response: aiohttp.ClientResponse, sent: Sent, most: int) -> bytes:
    """The body, or more than `most` bytes of it; then the connection is closed."""
    pieces, size = [], 0
    while piece := await response.content.readany():
        pieces.append(piece)
        sent.down += len(piece)
        size += len(piece)
        if size > most:
            response.close()
            break
    return b"".join(pieces)  # a body that came in one piece, as nearly all do, is not copied


def _head_bytes(response: aiohttp.ClientResponse) -> int:
    status_line = len(f"HTTP/1.1 {response.status} {response.reason}\r\n\r\n")
    headers = response.raw_headers
    return status_line + sum(map(len, chain.from_iterable(headers))) + len(headers) * len(b": \r\n")


def _host(location: str | None, asked: URL) -> str:
    if location is None:
        return ""
    try:
        return asked.join(URL(location)).authority
    except ValueError:
        return "no URL"


def retry_after_s(header: str | None) -> float | None:
    """Seconds of a Retry-After header, which is a number of them or an HTTP date (RFC 9110, section 10.2.3).

    Returns:
        None where the header is missing, or is neither, or names a date that no calendar has.
    """
    if header is None:
        return None
    if header.isascii() and header.isdigit():
        return float(header[:_MOST_DIGITS])
    try:
        date = parsedate_to_datetime(header)
        zoned = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
        return max(0.0, (zoned - datetime.now(UTC)).total_seconds())
    except (ValueError, OverflowError, TypeError):
        return None
