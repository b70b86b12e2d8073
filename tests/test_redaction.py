"""The API key is in no error, traceback, repr, pickle or log, however a request fails."""

from __future__ import annotations

import asyncio
import copy
import io
import json
import logging
import pickle
import re
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
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
KEY = "".join((MARKERS[0], 'QuO"te%\\x'))
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
    "no JSON": answers(said),
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

    def formatException(self, ei: Any) -> str:
        return with_locals(ei[1])


def with_locals(error: BaseException) -> str:
    """A traceback that shows the values of variables, of the error and all that it came from."""
    return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())


def taken_apart(error: BaseException) -> str:
    """The values of variables as rich shows them: it looks into containers and values of data classes."""
    trace = rich.traceback.Traceback.extract(type(error), error, error.__traceback__, show_locals=True)
    frames = [frame for stack in trace.stacks for frame in stack.frames]
    return "\n".join(str(node) for frame in frames for node in (frame.locals or {}).values())


def everything_about(error: BaseException) -> str:
    """All that might be shown of an error."""
    pickled = repr(pickle.loads(pickle.dumps(error)))  # noqa: S301
    return "\n".join((str(error), repr(error), repr(vars(error)), with_locals(error), taken_apart(error), pickled))


def assert_hidden(text: str) -> None:
    """Neither end of the key is there."""
    assert [] == [end for end in (MARKERS[0], "QuO") if end in text]


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


ELSEWHERE = ("401", "500 in JSON", "JSON of another kind", "hangs up", "stops half-way")


@pytest.mark.parametrize(
    ("name", "at"),
    [(name, "score") for name in FAILURES] + [(name, at) for name in ELSEWHERE for at in ("models", "datasets")],
)
async def test_no_failed_request_tells_the_key(name: str, at: str, logged: io.StringIO) -> None:
    """Whatever the server says or does, at any path; with debug logs of asyncio and aiohttp on."""
    asyncio.get_running_loop().set_debug(True)
    async with server(FAILURES[name], at=at) as url:
        told = await failure(url)
    assert "Error" in told or "error" in told
    assert_hidden(told)
    assert_hidden(logged.getvalue())


@pytest.mark.parametrize(("name", "at"), [(name, at) for name in ELSEWHERE for at in ("models", "datasets", "score")])
async def test_no_failure_of_several_servers_tells_the_key(name: str, at: str, logged: io.StringIO) -> None:
    """Two that fail alike, one after the other."""
    async with server(FAILURES[name], at=at) as first, server(FAILURES[name], at=at) as second:
        told = await failure(f"{first},{second}")
    assert_hidden(told)
    assert_hidden(logged.getvalue())


async def test_servers_that_differ_do_not_tell_the_key() -> None:
    """One has the key on its card."""
    echo = answers(lambda key: said(json.dumps({"models": [CARD | {"fingerprint": key}]})))
    async with server(hangs_up) as first, server(echo, at="models") as second:
        with pytest.raises(LmaasError, match=r"fingerprint is '' at .* and 'Bearer ") as caught:
            await ask(f"{first},{second}")
    assert_hidden(str(caught.value))


async def test_no_refused_connection_tells_the_key(logged: io.StringIO) -> None:
    """Nobody listens there any more; or the name means nothing."""
    async with server(hangs_up) as url:
        pass
    for nowhere in (url, "http://nowhere.invalid", f"http://{'x' * 70}.invalid", "https" + url[4:]):
        assert_hidden(await failure_of_any_kind(nowhere))
    assert_hidden(logged.getvalue())


async def failure_of_any_kind(url: str, **options: Any) -> str:
    """As `failure`, where errors of another tree may come too."""
    try:
        async with load_backend(url, **options):
            pass
    except Exception as error:
        return everything_about(error)
    pytest.fail("it did not fail")


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("http://", {}),
        ("http://[::1", {}),
        ("http://h:port", {}),
        ("http://h", {"encoding": "gzip"}),
        ("http://h", {"timeout_s": 0}),
        ("http://h", {"colour": "red"}),
    ],
)
async def test_no_refused_argument_tells_the_key(url: str, options: dict[str, Any]) -> None:
    """The key is given as an argument, so that it goes through every function on the way."""
    given = options | {"api_key": Secret(KEY)}  # as nothing that is shown here may have it
    assert_hidden(await failure_of_any_kind(url, **given))


@pytest.mark.parametrize(
    "form",
    [
        "http://h:1/?api_key={}",
        "HTTPS://h/#{}",
        "http://u:{}@h",
        "http://{}@h",
        "http://u:{}@h:99999",
        "http://h:{}",
        "http://u:{}@[::1",
        "http://u:{}@",
        "htp://u:{}@h",
        "http:/u:{}@h",
        " http://u:{}@h",
        "ws://h/?key={}",
        "http://h,http://u:{}@h",
    ],
)
@pytest.mark.parametrize("key", [MARKERS[0] + "QuO", KEY], ids=["plain", "odd"])
async def test_no_url_that_is_refused_tells_a_key_in_it(form: str, key: str) -> None:
    """Wherever it stands; no cause or context of the error has it either, and no variable of our own functions."""
    with pytest.raises((ValueError, LmaasError), match="URL") as caught:
        load_backend(form.format(key))
    error, frames = caught.value, caught.tb.tb_next
    assert (None, None) == (error.__cause__, error.__context__)
    assert frames is not None
    assert_hidden(everything_about(error.with_traceback(frames)))


@pytest.mark.parametrize("other", ["ftp://h", "http://h", "mock", None], ids=repr)
def test_no_list_of_urls_tells_a_key_in_one(other: Any) -> None:
    """Whichever of the servers is refused."""
    given = ["http://u:{}@h", other]
    with pytest.raises((ValueError, TypeError, LmaasError), match="URL") as caught:
        load_backend([one and one.format(KEY) for one in given])
    error, frames = caught.value, caught.tb.tb_next
    assert_hidden(everything_about(error.with_traceback(frames)))


async def test_a_broken_proxy_of_the_environment_does_not_tell_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused by the name of its variable."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for form in ("http://me:{}@h:99999", "http://h:{}", "http://me:{}@[::1"):
        monkeypatch.setenv("http_proxy", form.format(PASSWORD))
        told = await failure_of_any_kind("http://models.invalid")
        assert (True, False) == ("http_proxy" in told, PASSWORD in told)


def test_a_key_given_in_plain_is_hidden_at_once() -> None:
    """The variables of our own functions never show it, only the caller's do."""
    with pytest.raises(ValueError, match="timeout_s") as caught:
        load_backend("http://h", api_key=KEY, timeout_s=0)
    assert_hidden(with_locals(caught.value.with_traceback(caught.tb.tb_next)))
    for bad in (KEY + " blank", KEY + "\n", KEY + "\u20ac"):
        with pytest.raises(ValueError, match="the API key holds") as caught:
            HttpCalls("http://h", api_key=bad, timeout_s=1, connect_timeout_s=1)
        assert_hidden(with_locals(caught.value.with_traceback(caught.tb.tb_next)))


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_no_failing_proxy_tells_its_password_or_the_key(
    scheme: str, monkeypatch: pytest.MonkeyPatch, logged: io.StringIO
) -> None:
    """It refuses, and echoes what it was sent."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            writer.write(said(f"{head} {PASSWORD}", f"407 {PASSWORD}", f"X-Echo: {PASSWORD}"))

    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        monkeypatch.setenv(f"{scheme}_proxy", f"http://me:{PASSWORD}@127.0.0.1:{port}")
        told = await failure(f"{scheme}://models.invalid")
    assert_hidden(told + logged.getvalue())
    assert PASSWORD not in told + logged.getvalue()


def content_of(folder: Path) -> dict[str, bytes]:
    """The files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


PASSWORD = "".join(("hunter", "22"))


@pytest.mark.parametrize("speak", [says_nothing, stops_half_way], ids=["before an answer", "within an answer"])
async def test_no_cancelled_call_tells_the_key(speak: Speech, logged: io.StringIO) -> None:
    """Nor does the error that a time limit of the caller's makes of it."""
    async with server(speak) as url, load_backend(url) as backend:
        try:
            async with asyncio.timeout(0.1):
                await backend.score(ScoreQuery(TEXTS), key="k")
        except TimeoutError as error:
            told = everything_about(error)
    assert_hidden(told + logged.getvalue())


async def test_no_ledger_or_cache_and_no_error_of_the_whole_client_holds_the_key(
    tmp_path: Path, logged: io.StringIO
) -> None:
    """A call that fails, one that lasts too long and one that is answered; every byte of the files is looked at."""
    usage = {"input_tokens": 5, "cached_tokens": 0, "output_tokens": 0}
    logits = {"dtype": "float32", "shape": [1, 1, 2], "data": "AACAPwAAAEA="}
    said_in_turn = iter([FAILURES["500 in JSON"], says_nothing, answers(lambda _: said(json.dumps(answered)))])
    answered = {"logits": logits, "usage": usage}

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, authorization: str) -> None:
        await next(said_in_turn)(reader, writer, authorization)

    outcomes = []
    async with (
        open_ledger(tmp_path / "ledger") as ledger,
        open_cache(tmp_path / "cache") as cache,
        server(speak) as url,
        load_backend(url, timeout_s=0.3) as backend,
    ):
        budget = Budget(calls=9, ledger=ledger)
        client = Client(backend, budget, retry=RetryPolicy(attempts=1), cache=cache)
        for key in ("a", "b", "c"):
            call = client.call(ScoreQuery(TEXTS), key, purpose="train", token_counts=(5,))
            try:
                await client.score(call)
                outcomes.append("answered")
            except LmaasError as error:
                outcomes.append("failed")
                assert_hidden(everything_about(error))
        written = content_of(tmp_path)
    assert (["failed", "failed", "answered"], True) == (outcomes, {"ledger", "cache"} < written.keys())
    assert not any(part in content for content in written.values() for part in (MARKERS[0].encode(), b"QuO"))
    assert_hidden(logged.getvalue())


async def test_a_local_server_that_does_not_start_tells_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own key is made for it and handed over in its environment."""
    for executable in ("/bin/false", "/no/such/python"):
        monkeypatch.setattr(server_process.sys, "executable", executable)
        with pytest.raises(BackendUnavailable) as caught:
            async with server_process.started_server([], startup_timeout_s=20):
                pass
        told = everything_about(caught.value)
        assert [] == re.findall(r"lmaas-local-[\w-]{20}", told)


async def test_reprs_of_all_that_has_the_key_do_not_show_it() -> None:
    """Of the connection, the backend, and what was made on the way."""
    async with server(hangs_up) as url, load_backend(url) as backend:
        http = backend._http  # type: ignore[attr-defined]
        assert_hidden("".join(map(repr, (backend, http, vars(backend), vars(http), vars(http._session)))))
        assert f"Bearer {KEY}" == str(http._session.headers["Authorization"])


def test_a_secret_is_a_string_that_is_not_shown() -> None:
    """It may be used, put together and compared; it is not pickled."""
    secret = Secret(KEY)
    assert (KEY, f"Bearer {KEY}", "'***'", "['***']") == (secret, f"Bearer {secret}", repr(secret), repr([secret]))
    for taken in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError, match="a secret is not pickled"):
            taken(secret)
