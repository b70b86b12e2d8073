"""The API key is in no error, traceback, repr, pickle or log, however a request fails."""

from __future__ import annotations

import asyncio
import copy
import io
import json
import logging
import pickle
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import rich.console
import rich.traceback
from key_search import MARKERS

from lmaas_backends import server_process
from lmaas_backends.http_answers import MOST_ANSWER_BYTES
from lmaas_backends.http_calls import HttpCalls
from lmaas_backends.roberta.protocol import JSON
from lmaas_backends.roberta.wire_card import card_fields
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.ledger_file import open_ledger
from lmaas_sdk.backend import Capabilities, ModelCard, ScoreQuery
from lmaas_sdk.client import Client
from lmaas_sdk.errors import BackendUnavailable, LmaasError
from lmaas_sdk.registry import load_backend
from lmaas_sdk.secret import Secret
from lmaas_sdk.texts import MASK, LabelWords, Piece, TextSet
from lmaas_sdk.traffic.cache_file import open_cache
from lmaas_sdk.traffic.retry import RetryPolicy

# Put together here, so that no line of this file that a traceback quotes holds it.
KEY = "".join((MARKERS[0], 'quote"d-%\\x'))
ENVIRONMENT = pytest.fixture(autouse=True)(lambda monkeypatch: monkeypatch.setenv("LMAAS_API_KEY", KEY))

TEXTS = TextSet(((Piece("field", "fine"), MASK),), LabelWords((" bad", " great")))
CARD = card_fields(ModelCard("m", 4, 100, 64, "<mask>", Capabilities()))
REGISTERED = {"digest": TEXTS.digest, "token_counts": [5], "shortened": 0}
Speech = Callable[[asyncio.StreamReader, asyncio.StreamWriter, str], Awaitable[None]]


def said(body: bytes | str, head: str = "200 OK", *headers: str) -> bytes:
    """An answer as it is on the wire."""
    raw = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {head}", f"Content-Type: {JSON}", f"Content-Length: {len(raw)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + raw


def answers(make: Callable[[str], bytes]) -> Speech:
    """Says what `make` makes of the request's Authorization."""

    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter, authorization: str) -> None:
        writer.write(make(authorization))

    return speak


async def hangs_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter, authorization: str) -> None:
    writer.close()


async def resets(_: asyncio.StreamReader, writer: asyncio.StreamWriter, authorization: str) -> None:
    writer.transport.abort()


async def says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, authorization: str) -> None:
    await reader.read()


async def stops_half_way(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, authorization: str) -> None:
    writer.write(said(authorization + " " * 100, "200 OK", f"X-Echo: {authorization}")[:-50])
    await reader.read()


def told(authorization: str, kind: str) -> str:
    return json.dumps({"error": {"type": kind, "message": f"no: {authorization}", "hint": authorization}})


FAILURES: dict[str, Speech] = {
    "401": answers(lambda key: said(told(key, "authentication_failed"), "401 No")),
    "401 with the key as reason": answers(lambda key: said(b"", f"401 {key}")),
    "422": answers(lambda key: said(told(key, "invalid_query"), "422 No")),
    "429": answers(lambda key: said(told(key, "rate_limited"), "429 No", f"Retry-After: {key}")),
    "500 with a page": answers(lambda key: said(f"<html>{key}", "500 No", f"X-Echo: {key}")),
    "500 in JSON": answers(lambda key: said(told(key, "server_fault"), "500 No")),
    "a redirect": answers(lambda key: said(b"", "307 Go", f"Location: http://{key.split()[1]}/?{key}")),
    "no JSON": answers(lambda key: said(key)),
    "JSON of another kind": answers(lambda key: said(json.dumps({"usage": key, key: key}))),
    "logits that are none": answers(lambda key: said(json.dumps({"logits": {"dtype": key, "shape": [key]}}))),
    "another media type": answers(lambda key: said(b"x").replace(JSON.encode(), key.encode())),
    "compressed": answers(lambda key: said(b"x", "200 OK", f"Content-Encoding: {key}", f"X-Echo: {key}")),
    "too long": answers(lambda key: said(b" " * (MOST_ANSWER_BYTES + 1), "200 OK", f"X-Echo: {key}")),
    "no HTTP": answers(lambda key: f"SSH {key}\r\n\r\n".encode()),
    "a bad header": answers(lambda key: f"HTTP/1.1 200 OK\r\n{key}\x00: {key}\r\n\r\n".encode()),
    "a bad length": answers(lambda key: f"HTTP/1.1 200 OK\r\nContent-Length: {key}\r\n\r\n".encode()),
    "a bad chunk": answers(lambda key: f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{key}\r\n".encode()),
    "hangs up": hangs_up,
    "resets": resets,
    "time-out": says_nothing,
    "stops half-way": stops_half_way,
}


@asynccontextmanager
async def server(speak: Speech, *, at: str = "score") -> AsyncIterator[str]:
    """A server that does well but for one path; yields its URL."""
    fine = {"models": {"models": [CARD]}, "datasets": REGISTERED}

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            try:
                while not writer.is_closing():
                    head = (await reader.readuntil(b"\r\n\r\n")).decode()
                    await reader.readexactly(int(head.partition("Content-Length: ")[2].partition("\r\n")[0] or 0))
                    path = head.split()[1].rpartition("/")[2]
                    authorization = head.partition("Authorization: ")[2].partition("\r\n")[0]
                    assert authorization == f"Bearer {KEY}"
                    if path == at:
                        await speak(reader, writer, authorization)
                    else:
                        writer.write(said(json.dumps(fine[path])))
                    await writer.drain()
            except (asyncio.IncompleteReadError, ConnectionError):
                pass

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """All that any logger says, at any level, with the values of variables where there is a traceback."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Telling())
    names = ("", "aiohttp", "aiohttp.client", "asyncio", "lmaas_sdk", "lmaas_backends")
    before = {name: logging.getLogger(name).level for name in names}
    logging.getLogger().addHandler(handler)
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield stream
    logging.getLogger().removeHandler(handler)
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


class Telling(logging.Formatter):
    """Says all there is to a record."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{super().format(record)} {vars(record)!r}"

    def formatException(self, ei: Any) -> str:  # noqa: N802  (logging's own name)
        return with_locals(ei[1])


def with_locals(error: BaseException) -> str:
    """A traceback that shows the values of variables, of the error and all that it came from."""
    return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())


def everything_about(error: BaseException) -> str:
    """All that might be shown of an error."""
    shown = io.StringIO()
    told = rich.traceback.Traceback.from_exception(type(error), error, error.__traceback__, show_locals=True)
    rich.console.Console(file=shown, width=400).print(told)
    pickled = repr(pickle.loads(pickle.dumps(error)))  # noqa: S301
    return "\n".join((str(error), repr(error), repr(vars(error)), with_locals(error), shown.getvalue(), pickled))


def assert_hidden(text: str) -> None:
    """No part of the key that tells it is there, however it is spelled."""
    places = [text[max(0, at - 300) : at + 50] for at in (text.find(MARKERS[0]),) if at >= 0]
    assert [] == places


async def ask(url: str) -> None:
    """One call, without retries."""
    async with load_backend(url, timeout_s=0.3) as backend:
        await backend.score(ScoreQuery(TEXTS), key="k")


async def failure(url: str) -> str:
    """All that a failed call tells: nothing of this function's own variables is in it, which has no key."""
    try:
        await ask(url)
    except LmaasError as error:
        return everything_about(error)
    pytest.fail("it did not fail")


@pytest.mark.parametrize("at", ["score", "models", "datasets"])
@pytest.mark.parametrize("speak", FAILURES.values(), ids=FAILURES)
async def test_no_failed_request_tells_the_key(speak: Speech, at: str, logged: io.StringIO) -> None:
    """Whatever the server says or does, at any path; with debug logs of asyncio and aiohttp on."""
    asyncio.get_running_loop().set_debug(True)
    async with server(speak, at=at) as url:
        told = await failure(url)
    assert "Error" in told or "error" in told
    assert_hidden(told)
    assert_hidden(logged.getvalue())
