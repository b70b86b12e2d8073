"""The remote backend against servers that lie, flood or babble: only errors of the tree, and never the API key."""

from __future__ import annotations

import asyncio
import contextlib
import json
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from lmaas_backends.http_answers import MOST_ANSWER_BYTES
from lmaas_backends.remote import open_backend
from lmaas_backends.roberta.protocol import JSON
from lmaas_backends.roberta.wire_card import card_fields
from lmaas_sdk.backend import Capabilities, Limits, ModelCard, ScoreQuery
from lmaas_sdk.errors import AuthenticationFailed, LmaasError, OutcomeUnknown, ProtocolError, RateLimited, ServerFault
from lmaas_sdk.texts import MASK, LabelWords, Piece, TextSet

KEY = "test-key-of-nobody-else"
TEXTS = TextSet(((Piece("field", "fine"), MASK),), LabelWords((" bad", " great")))
CARD = card_fields(ModelCard("m", 4, 100, 64, "<mask>", Capabilities()))
Speech = Callable[[asyncio.StreamWriter], Awaitable[None]]


def answer(body: bytes, head: str = "200 OK", *, media_type: str = JSON, headers: str = "") -> bytes:
    return (
        f"HTTP/1.1 {head}\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body
    )


def told(value: object) -> bytes:
    return answer(json.dumps(value).encode())


REGISTERED: dict[str, object] = {"digest": TEXTS.digest, "token_counts": [5], "shortened": 0}


class RawServer:
    """Answers paths with bytes as they are, or with whatever a coroutine writes."""

    def __init__(self, score: bytes | Speech, *, card: object = CARD, registered: object = REGISTERED) -> None:
        self._answers = {"models": told({"models": [card]}), "datasets": told(registered), "score": score}
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[RawServer]:
        async with await asyncio.start_server(self._connected, "127.0.0.1", 0) as server:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield self

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r\n")[0] or 0))
                scripted = self._answers[head.split()[1].rpartition("/")[2]]
                if isinstance(scripted, bytes):
                    writer.write(scripted)
                    writer.write_eof() if scripted[:8] != b"HTTP/1.1" else None
                else:
                    await scripted(writer)
                await writer.drain()
        writer.close()


async def raised(score: bytes | Speech = b"", **options: Any) -> LmaasError:
    """The error of the tree that a score call raises; no other may come."""
    async with RawServer(score, **options).running() as server:
        with pytest.raises(LmaasError) as caught:
            async with open_backend(server.url, api_key=KEY, timeout_s=20) as backend:
                await backend.score(ScoreQuery(TEXTS), key="k")
    return caught.value


BABBLE: dict[str, bytes] = {
    "no status line": b"SSH-2.0-x\r\n\r\n",
    "control characters": b"\x00\x01\x02\r\n\r\n",
    "TLS alert": b"\x15\x03\x01\x00\x02\x02\x46",
    "an echo": f"Authorization: Bearer {KEY}\r\n\r\n".encode(),
    "bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "long header": answer(b"{}", headers=f"X: {'a' * 100_000}\r\n"),
    "short body": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\n{}",
}


@pytest.mark.parametrize("babble", BABBLE.values(), ids=BABBLE.keys())
async def test_no_broken_answer_brings_the_key_into_an_error(babble: bytes) -> None:
    """What is not HTTP has an unknown outcome, and neither message, traceback nor cause shows the request's headers."""

    async def said(writer: asyncio.StreamWriter) -> None:
        writer.write(babble)
        writer.write_eof()

    error = await raised(said)
    shown = "".join(traceback.format_exception(error)) + repr(error.__cause__) + repr(error.__context__)

    assert OutcomeUnknown is type(error)
    assert KEY not in shown


ESCAPED = json.dumps({"error": {"type": "authentication_failed", "message": f"no key {KEY}", "hint": KEY}})
ECHOES: dict[str, tuple[bytes, type[LmaasError]]] = {
    "as it is": (answer(ESCAPED.encode(), "401 X"), AuthenticationFailed),
    "escaped": (answer(ESCAPED.replace("a-s", "\\u0061-\\u0073").encode(), "401 X"), AuthenticationFailed),
    "cut in two": (answer(b"<" * 75 + KEY.encode(), "502 X"), ServerFault),
    "in a header": (answer(b"", "302 X", headers=f"Location: http://{KEY}.example/\r\n"), ProtocolError),
    "in an answer": (told({"usage": KEY, "logits": KEY}), ProtocolError),
}


@pytest.mark.parametrize(("echo", "kind"), ECHOES.values(), ids=ECHOES.keys())
async def test_an_echoed_key_is_blotted_out_however_it_is_spelled(echo: bytes, kind: type[LmaasError]) -> None:
    """The key is taken out of messages after they are decoded and before they are cut."""
    error = await raised(echo)

    assert kind is type(error)
    assert KEY[:5] not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    "value",
    [
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Mon, 01 Jan 2030 00:00:00 +999999999999999",
        "-4",
        "1.5",
        "Mon",
    ],
)
async def test_a_senseless_retry_after_is_passed_over(value: str) -> None:
    """Dates beyond any calendar and numbers that are none leave the wait open."""
    error = await raised(answer(b"{}", "429 X", headers=f"Retry-After: {value}\r\n"))

    assert isinstance(error, RateLimited)
    assert error.retry_after_s is None


PRICE = {"input_nanousd_per_mtok": 0, "output_nanousd_per_mtok": 0, "call_nanousd": 0, "effective": "", "source": ""}
BAD_CARDS: dict[str, dict[str, object]] = {
    "negative price": {"price": PRICE | {"input_nanousd_per_mtok": -1}},
    "price beyond 64 bits": {"price": PRICE | {"call_nanousd": 10**30}},
    "no candidates": {"max_candidates": 0},
    "negative candidates": {"max_candidates": -1},
    "no texts": {"max_texts": 0},
    "no width": {"hidden_size": 0},
    "endless width": {"hidden_size": 10**30},
    "no tokens": {"max_tokens": 0},
    "no deviation": {"embedding_std": 0.0},
    "negative limit": {"limits": {"requests_per_minute": -1}},
    "no requests": {"limits": {"requests_per_day": 0}},
    "unknown zone": {"limits": {"day_time_zone": "No/Where", "requests_per_day": 5}},
    "zone outside": {"limits": {"day_time_zone": "../../etc/passwd", "requests_per_day": 5}},
    "line break in the name": {"name": "m\r\nX: y"},
    "no name": {"name": ""},
}


@pytest.mark.parametrize("fields", BAD_CARDS.values(), ids=BAD_CARDS.keys())
async def test_a_card_that_no_model_can_have_is_a_protocol_error(fields: dict[str, object]) -> None:
    """Sizes, prices, limits and zones out of range are refused on entering, before anything relies on them."""
    error = await raised(card=CARD | fields)

    assert ProtocolError is type(error)
    assert next(iter(fields)) in str(error) or "limits" in fields or "price" in fields or "name" in fields


async def test_limits_within_range_are_taken() -> None:
    """A card with a zone and limits is read as it is."""
    limits = {"requests_per_day": 5, "day_time_zone": "Europe/Rome"}
    async with RawServer(b"", card=CARD | {"limits": limits}).running() as server, open_backend(server.url) as backend:
        found = backend.card.limits

    assert Limits(requests_per_day=5, day_time_zone="Europe/Rome") == found


@pytest.mark.parametrize("counts", [[-100], [0], [10**30], [True], [1.5]])
async def test_token_counts_out_of_range_are_a_protocol_error(counts: list[object]) -> None:
    """A text takes at least one token, and no more than a ledger can count."""
    assert ProtocolError is type(await raised(registered=REGISTERED | {"token_counts": counts}))


USAGE = {"input_tokens": 3, "cached_tokens": 0, "output_tokens": 0}
FLOATS = {"dtype": "float32", "shape": [1, 1, 2], "data": "AACAPwAAAEA="}


@pytest.mark.parametrize(
    ("logits", "usage"),
    [
        ({"dtype": "int64", "shape": [1, 1, 2], "data": "AQEBAQEBAQEBAQEBAQEBAQ=="}, USAGE),
        (FLOATS, USAGE | {"input_tokens": 10**300}),
    ],
    ids=["whole logits", "endless usage"],
)
async def test_logits_are_floats_and_usage_is_countable(logits: object, usage: object) -> None:
    """Logits of an integer kind, and a bill beyond any call's, are no answers."""
    assert ProtocolError is type(await raised(told({"logits": logits, "usage": usage})))


class Flood:
    """Writes one endless chunked body, and counts what was taken from it."""

    def __init__(self, head: str) -> None:
        self._head = head
        self.taken_bytes = 0

    async def __call__(self, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {self._head}\r\nContent-Type: {JSON}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        piece = b"x" * (1 << 20)
        while self.taken_bytes < 4 * MOST_ANSWER_BYTES:
            writer.write(b"100000\r\n" + piece + b"\r\n")
            await writer.drain()
            self.taken_bytes += len(piece)


@pytest.mark.parametrize(("head", "kind"), [("200 OK", ProtocolError), ("502 X", ServerFault)])
async def test_an_endless_answer_is_given_up(head: str, kind: type[LmaasError]) -> None:
    """Reading stops at a bound: 64 MiB of an answer, or the beginning of a refusal, whose status decides."""
    flood = Flood(head)
    error = await raised(flood)

    assert kind is type(error)
    assert flood.taken_bytes < 2 * MOST_ANSWER_BYTES


async def test_a_compressed_answer_is_refused() -> None:
    """Nobody asked for compression, and a few bytes of it could grow to any size."""
    error = await raised(answer(b"zzz", headers="Content-Encoding: gzip\r\n"))

    assert ProtocolError is type(error)
    assert "Content-Encoding" in str(error)


@pytest.mark.parametrize(
    ("status", "location", "host"),
    [
        ("302", "http://models.example:81/v1", "models.example:81"),
        ("307", "/login", "127.0.0.1:"),
        ("307", "//[", "no URL"),
    ],
)
async def test_a_redirect_names_the_host_it_points_to(status: str, location: str, host: str) -> None:
    """The caller sees where the server wanted the request to go, and that it did not."""
    error = await raised(answer(b"", f"{status} X", headers=f"Location: {location}\r\n"))

    assert ProtocolError is type(error)
    assert f"{status} and points to '{host}" in str(error)
