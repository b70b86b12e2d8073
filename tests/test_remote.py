"""The remote backend: against the real server and model, and against servers that misbehave."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from lmaas_backends.remote import RemoteBackend, open_backend
from lmaas_backends.roberta.accounts import Accounts, ApiKeys, Terms
from lmaas_backends.roberta.calls import ModelCalls
from lmaas_backends.roberta.engine import Engine
from lmaas_backends.roberta.engine_thread import EngineThread
from lmaas_backends.roberta.http_app import application
from lmaas_backends.roberta.model import LoadedModel, load_model
from lmaas_backends.roberta.protocol import JSON
from lmaas_backends.roberta.rate_limits import Clocks
from lmaas_backends.roberta.server import serving
from lmaas_backends.roberta.wire_card import card_fields
from lmaas_backends.roberta.wire_errors import KINDS, ErrorKind, RefusalError
from lmaas_sdk.backend import Capabilities, FeatureQuery, ModelCard, ScoreQuery
from lmaas_sdk.errors import (
    AttemptTimeout,
    AuthenticationFailed,
    BackendUnavailable,
    InvalidQuery,
    LmaasError,
    OutcomeUnknown,
    ProtocolError,
    RateLimited,
    UnknownDataset,
)
from lmaas_sdk.testing import check_backend
from lmaas_sdk.texts import MASK, LabelWords, Piece, TextSet
from lmaas_sdk.tuning.subspace import Subspace

TEXTS = TextSet(
    tuple(
        (
            Piece("field", f"film number {i} was a long one"),
            Piece("template", " . It was"),
            MASK,
            Piece("template", " ."),
        )
        for i in range(32)
    ),
    LabelWords((" bad", " great")),
)
SUBSPACE = Subspace(d=500, prompt_tokens=50, hidden_size=128)
Z = np.random.Generator(np.random.Philox(1)).standard_normal((20, 500)).astype(np.float32)
KEY = "a-secret-key"


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load_model("roberta-tiny")


@asynccontextmanager
async def real_server(model: LoadedModel, *, port: int = 0) -> AsyncIterator[str]:
    """A server with an engine of its own, so that it knows no texts yet."""
    clocks, terms = Clocks(), Terms()
    async with EngineThread() as thread:
        accounts = Accounts(ApiKeys([f"ann={KEY}"]), terms, clocks)
        calls = ModelCalls(Engine(model), thread, accounts=accounts, terms=terms, clocks=clocks)
        async with serving(calls, application(calls, model.vocabulary.tokenizer_json), port=port) as url:
            yield url


@asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[RemoteBackend]:
    async with open_backend(url, **({"api_key": KEY} | options)) as backend:
        yield backend


@asynccontextmanager
async def to_real(model: LoadedModel, **options: Any) -> AsyncIterator[RemoteBackend]:
    async with real_server(model) as url, connected(url, **options) as backend:
        yield backend


@pytest.mark.parametrize("encoding", ["raw", "base64"])
async def test_logits_are_the_engines_own_bits(model: LoadedModel, encoding: str) -> None:
    """Scores over HTTP equal those of the engine in this process, in both forms, for prompts, rows and top_k."""
    engine = Engine(model)
    queries = [
        ScoreQuery(TEXTS, subspace=SUBSPACE, Z=Z[:2]),
        ScoreQuery(TEXTS, rows=(3, 1), subspace=SUBSPACE, Z=Z[:1]),
        ScoreQuery(TEXTS, rows=(0,), top_k=2),
    ]
    async with to_real(model, encoding=encoding) as backend:
        for place, query in enumerate(queries):
            expected, actual = engine.score(query), await backend.score(query, key=f"k{place}")

            assert expected.logits.tobytes() == actual.logits.tobytes()
            assert (expected.usage, expected.words) == (actual.usage, actual.words)


async def test_half_precision_rounds_z_and_nothing_else(model: LoadedModel) -> None:
    """float16 on the wire scores the rounded z."""
    rounded = Z[:2].astype(np.float16).astype(np.float32)
    expected = Engine(model).score(ScoreQuery(TEXTS, subspace=SUBSPACE, Z=rounded))
    async with to_real(model, z_dtype="float16") as backend:
        actual = await backend.score(ScoreQuery(TEXTS, subspace=SUBSPACE, Z=Z[:2]), key="k")

    assert expected.logits.tobytes() == actual.logits.tobytes()


async def test_features_arrays_counts_and_tokenizer_come_through(model: LoadedModel) -> None:
    """Features, registrations, uploads and the tokenizer equal the engine's own."""
    engine, p0 = Engine(model), np.full((50, 128), 0.5, np.float32)
    learned = Subspace(d=500, prompt_tokens=50, hidden_size=128, layout="cat", base=engine.upload(p0))
    expected = engine.features(FeatureQuery(TEXTS, rows=(0, 5), pool="tokens"))
    async with to_real(model) as backend:
        features = await backend.features(FeatureQuery(TEXTS, rows=(0, 5), pool="tokens"), key="f")
        registration = await backend.register(TEXTS, learned)
        uploaded = await backend.upload(p0)
        reply = await backend.score(ScoreQuery(TEXTS, subspace=learned, Z=Z[:1]), key="s")
        tokenizer = await backend.tokenizer_json()

    assert expected.features.tobytes() == features.features.tobytes()
    assert (expected.lengths.tolist(), expected.usage) == (features.lengths.tolist(), features.usage)
    assert expected.layer_std.tobytes() == features.layer_std.tobytes()
    assert engine.register(TEXTS, learned) == registration
    assert (learned.base, model.vocabulary.tokenizer_json) == (uploaded, tokenizer)
    assert engine.score(ScoreQuery(TEXTS, subspace=learned, Z=Z[:1])).logits.tobytes() == reply.logits.tobytes()


async def test_an_evaluation_of_the_papers_setting_is_small(model: LoadedModel) -> None:
    """20 candidates (d = 500) on 32 texts: at most 2.1 KB up and 300 B down an evaluation, as sockets see it."""
    async with AsyncExitStack() as stack:
        relay = Relay(await stack.enter_async_context(real_server(model)))
        backend = await stack.enter_async_context(connected(await stack.enter_async_context(relay.running())))
        await backend.register(TEXTS, SUBSPACE)
        before = (relay.up, relay.down)
        await backend.score(ScoreQuery(TEXTS, subspace=SUBSPACE, Z=Z), key="0123456789abcdef" * 4)
        seen = (relay.up - before[0], relay.down - before[1])

    assert seen == (backend.bytes_up, backend.bytes_down)
    assert (seen[0] <= 20 * 2_100, seen[1] <= 20 * 300) == (True, True), seen


class Relay:
    """Passes bytes between a client and a server, and counts them."""

    def __init__(self, url: str) -> None:
        self._port = int(url.rpartition(":")[2])
        self.up = self.down = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._passed(reader, far_writer, "up"))
            tasks.create_task(self._passed(far_reader, writer, "down"))

    async def _passed(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, way: str) -> None:
        while part := await source.read(1 << 16):
            setattr(self, way, getattr(self, way) + len(part))
            sink.write(part)
            await sink.drain()
        sink.close()


async def test_a_restarted_server_is_sent_texts_and_arrays_again(model: LoadedModel) -> None:
    """After a restart a query is answered as before, though the new server knew neither its texts nor its arrays."""
    p0 = np.full((50, 128), 0.5, np.float32)
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(AsyncExitStack())
        url = await first.enter_async_context(real_server(model))
        backend = await stack.enter_async_context(connected(url))
        subspace = Subspace(d=500, prompt_tokens=50, hidden_size=128, layout="cat", base=await backend.upload(p0))
        query = ScoreQuery(TEXTS, subspace=subspace, Z=Z[:1])
        before = await backend.score(query, key="k1")
        await first.aclose()
        await stack.enter_async_context(real_server(model, port=int(url.rpartition(":")[2])))
        async with asyncio.TaskGroup() as tasks:
            again = [tasks.create_task(backend.score(query, key=f"k{place}")) for place in (2, 3)]
        by_digest = await backend.score(ScoreQuery(TEXTS.digest, subspace=subspace, Z=Z[:1]), key="k4")

    replies = [*(task.result() for task in again), by_digest]
    assert [before.logits.tobytes()] * 3 == [reply.logits.tobytes() for reply in replies]


async def test_a_text_set_is_sent_once(model: LoadedModel, caplog: pytest.LogCaptureFixture) -> None:
    """Concurrent queries and counts on one set share its registration under each prompt."""
    caplog.set_level(logging.INFO)
    async with to_real(model) as backend, asyncio.TaskGroup() as tasks:
        for place in range(4):
            tasks.create_task(backend.score(ScoreQuery(TEXTS, rows=(place,)), key=f"k{place}"))
            tasks.create_task(backend.register(TEXTS))
            tasks.create_task(backend.register(TEXTS, SUBSPACE))

    assert caplog.text.count("POST /v1/datasets 200") == 2


async def test_a_wrong_key_and_its_owner_are_told_apart(model: LoadedModel, caplog: pytest.LogCaptureFixture) -> None:
    """A wrong key is AuthenticationFailed on entering; no key is in the error, a repr or a log."""
    caplog.set_level(logging.DEBUG)
    async with real_server(model) as url:
        with pytest.raises(AuthenticationFailed) as caught:
            async with connected(url, api_key="a-wrong-key"):
                pass
        async with connected(url) as backend:
            shown = repr(backend) + repr(vars(backend)) + repr(backend._http)

    everything = caplog.text + shown + repr(caught.value) + repr(caught.value.__cause__)
    assert "LMAAS_API_KEY" in str(caught.value)
    assert not any(key in everything for key in (KEY, "a-wrong-key"))


async def test_the_key_comes_from_the_environment(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without api_key= the key is LMAAS_API_KEY; a proxy of the environment is never asked for loopback."""
    monkeypatch.setenv("LMAAS_API_KEY", KEY)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with to_real(model, api_key=None) as backend:
        assert backend.card.name == "roberta-tiny"


CARD = ModelCard("m", 4, 100, 64, "<mask>", Capabilities())
SHORT = TextSet((TEXTS.texts[0], TEXTS.texts[1]), TEXTS.label_words)
MANUAL = ScoreQuery(SHORT)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def models(_: web.Request) -> web.StreamResponse:
    return web.json_response({"models": [card_fields(CARD)]})


async def registered(request: web.Request) -> web.StreamResponse:
    texts = (await request.json())["texts"]
    return web.json_response({"digest": SHORT.digest, "token_counts": [1] * len(texts)})


def answers(body: object, status: int = 200, **headers: str) -> Handler:
    async def handler(_: web.Request) -> web.StreamResponse:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(body=data, status=status, content_type=JSON, headers=named)

    return handler


@asynccontextmanager
async def scripted(score: Handler, *, listed: Handler = models, datasets: Handler = registered) -> AsyncIterator[str]:
    """A server that answers as told."""
    app = web.Application()
    app.add_routes([web.get("/v1/models", listed), web.post("/v1/datasets", datasets), web.post("/v1/score", score)])
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def score_error(score: Handler, **options: Any) -> LmaasError:
    """The error that a score call raises."""
    async with scripted(score, **options) as url, connected(url, timeout_s=10) as backend:
        with pytest.raises(LmaasError) as caught:
            await backend.score(MANUAL, key="k")
    return caught.value


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_every_status_becomes_its_error(kind: ErrorKind) -> None:
    """Each kind of refusal reaches the caller as the class of the table."""
    error = await score_error(answers(RefusalError(kind.name, "no").body(), kind.status))

    assert kind.error is type(error)


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_read_in_seconds_and_as_a_date(status: int) -> None:
    """Both forms of Retry-After reach the error; nonsense leaves it out."""
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    waits = []
    for value in ("17", later, "Mon, 01 Jan 2001 00:00:00 GMT", "soon"):
        error = await score_error(answers({}, status, Retry_After=value))
        assert isinstance(error, RateLimited if status == 429 else BackendUnavailable)
        waits.append(error.retry_after_s)

    assert (waits[0], waits[2], waits[3]) == (17.0, 0.0, None)
    assert waits[1] == pytest.approx(3600, abs=60)


def logits(shape: list[int], data: str) -> dict[str, object]:
    usage = {"input_tokens": 1, "cached_tokens": 0, "output_tokens": 0}
    return {"logits": {"dtype": "float32", "shape": shape, "data": data}, "usage": usage}


GOOD_LOGITS = logits([1, 2, 2], "AACAPwAAAEAAAEBAAACAQA==")
BAD_ANSWERS: dict[str, object] = {
    "not json": b"<html>",
    "empty": b"",
    "a list": [],
    "no logits": {"usage": GOOD_LOGITS["usage"]},
    "no usage": {"logits": GOOD_LOGITS["logits"]},
    "negative usage": GOOD_LOGITS | {"usage": {"input_tokens": -1, "cached_tokens": 0, "output_tokens": 0}},
    "more cached than read": GOOD_LOGITS | {"usage": {"input_tokens": 1, "cached_tokens": 2, "output_tokens": 0}},
    "NaN": logits([1, 2, 2], "AADAfwAAAEAAAEBAAACAQA=="),
    "flat": logits([4], "AACAPwAAAEAAAEBAAACAQA=="),
    "another candidate": logits([2, 1, 2], "AACAPwAAAEAAAEBAAACAQA=="),
    "another label": logits([1, 1, 4], "AACAPwAAAEAAAEBAAACAQA=="),
    "words unasked": GOOD_LOGITS | {"words": [[["a", "b"], ["c", "d"]]]},
}


@pytest.mark.parametrize("body", BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
async def test_an_answer_that_breaks_the_promise_is_a_protocol_error(body: object) -> None:
    """A 200 with another form, shape or NaN never becomes a reply."""
    assert ProtocolError is type(await score_error(answers(body)))


@pytest.mark.parametrize("words", [[], [[["a"], ["b"]]], [[["a", 1], ["b", "c"]]], [["ab", "cd"]], [5], [[5]], "x"])
async def test_words_of_another_shape_are_a_protocol_error(words: object) -> None:
    """Words must be one string a rank, for every text and candidate."""
    async with scripted(answers(GOOD_LOGITS | {"words": words})) as url, connected(url) as backend:
        with pytest.raises(ProtocolError):
            await backend.score(ScoreQuery(SHORT, top_k=2), key="k")


async def test_a_redirect_is_not_followed() -> None:
    """A redirect could carry the key elsewhere; it is a protocol error."""
    assert ProtocolError is type(await score_error(answers(b"", 307, Location="http://127.0.0.1:1/")))


async def test_an_echoed_key_is_blotted_out() -> None:
    """A page that repeats the request's headers does not bring the key into the message."""

    async def echo(request: web.Request) -> web.StreamResponse:
        return web.Response(status=502, text=f"bad gateway: {request.headers['Authorization']}")

    error = await score_error(echo)

    assert "Bearer ***" in str(error)


async def test_no_server_is_unavailable_with_a_hint() -> None:
    """A refused connection names the URL and how to start a server."""
    async with scripted(answers({})) as url:
        pass
    with pytest.raises(BackendUnavailable, match=f"no server answers at {url}.*lmaas serve"):
        async with connected(url):
            pass


async def hang_up(request: web.Request) -> web.StreamResponse:
    """Reads the request, then closes the connection without an answer."""
    await request.read()
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def never(request: web.Request) -> web.StreamResponse:
    """Reads the request and does not answer; it is cancelled when its client goes."""
    await request.read()
    await asyncio.Event().wait()
    return web.Response()


async def test_a_connection_lost_after_sending_has_an_unknown_outcome() -> None:
    """The request may have been computed and charged, and the bytes were spent."""
    async with scripted(hang_up) as url, connected(url) as backend:
        with pytest.raises(OutcomeUnknown) as caught:
            await backend.score(MANUAL, key="k")

        assert OutcomeUnknown is type(caught.value)
        assert (backend.bytes_up > 0, backend.bytes_down) == (True, 0)


async def test_an_attempt_has_a_deadline() -> None:
    """No answer in time is AttemptTimeout, whose outcome is unknown."""
    async with scripted(never) as url, connected(url, timeout_s=0.2) as backend:
        with pytest.raises(AttemptTimeout, match=r"within 0\.2 s"):
            await backend.score(MANUAL, key="k")


@pytest.mark.parametrize("datasets", [hang_up, answers({}, 500)], ids=["hangs up", "fails"])
async def test_a_failed_registration_charges_nothing(datasets: Handler) -> None:
    """When the texts do not arrive the query was never sent, so its outcome is known."""
    error = await score_error(answers(GOOD_LOGITS), datasets=datasets)

    assert BackendUnavailable is type(error)


async def test_texts_that_stay_unknown_are_told() -> None:
    """A server that forgets a set twice in one call is believed; a digest nobody registered is told at once."""
    seen = []

    async def forgetful(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers["Idempotency-Key"])
        return web.Response(status=404, body=RefusalError("unknown_dataset", "gone").body(), content_type=JSON)

    assert UnknownDataset is type(await score_error(forgetful))
    async with scripted(forgetful) as url, connected(url) as backend:
        with pytest.raises(UnknownDataset):
            await backend.score(ScoreQuery("f" * 64), key="other")

    assert seen == ["k", "k", "other"]


async def test_one_of_several_models_has_to_be_named() -> None:
    """With several models model= decides; without it, or with an unknown one, the names are told."""
    several = [card_fields(CARD), card_fields(CARD) | {"name": "n"}]
    async with scripted(answers({}), listed=answers({"models": several})) as url:
        for model, told in ((None, r"several models.*m, n"), ("o", r"no model 'o'; it has m, n")):
            with pytest.raises(InvalidQuery, match=told):
                async with connected(url, model=model):
                    pass
        async with connected(url, model="n") as backend:
            assert backend.card.name == "n"


@pytest.mark.parametrize("listed", [{}, {"models": [{}]}, {"models": [card_fields(CARD) | {"max_tokens": "64"}]}])
async def test_a_server_without_usable_cards_is_a_protocol_error(listed: object) -> None:
    """What is no model card is told on entering."""
    async with scripted(answers({}), listed=answers(listed)) as url:
        with pytest.raises(ProtocolError):
            async with connected(url):
                pass


async def test_other_hosts_are_reached_through_the_environments_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual proxy variables are honoured, a proxy's password included."""
    seen = []

    async def proxied(request: web.Request) -> web.StreamResponse:
        seen.append((request.host, request.headers.get("Proxy-Authorization"), request.headers["Authorization"]))
        return await models(request)

    async with scripted(answers({}), listed=proxied) as proxy:
        monkeypatch.setenv("http_proxy", proxy.replace("//", "//me:pass@"))
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        async with connected("http://models.invalid"):
            pass

    assert [("models.invalid", "Basic bWU6cGFzcw==", f"Bearer {KEY}")] == seen


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"url": "localhost:80"}, "starts with http"),
        ({"url": "ftp://h"}, "starts with http"),
        ({"url": "http://"}, "host"),
        ({"url": "http://me:secret@h"}, "as api_key="),
        ({"encoding": "gzip"}, "'raw' or 'base64', not 'gzip'"),
        ({"z_dtype": "bfloat16"}, "'float32' or 'float16'"),
        ({"timeout_s": 0}, "timeout_s is a positive number"),
        ({"connect_timeout_s": float("nan")}, "connect_timeout_s is a positive number"),
        ({"api_key": "two words"}, "API key"),
        ({"api_key": "line\r\nbreak"}, "API key"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_sent(arguments: dict[str, Any], told: str) -> None:
    """Arguments out of range are ValueError, and a secret among them is not repeated."""
    with pytest.raises(ValueError, match=told) as caught:
        open_backend(**({"url": "http://127.0.0.1:1"} | arguments))

    assert not any(secret in str(caught.value) for secret in ("secret", "two words", "break"))


async def test_a_closed_backend_says_so() -> None:
    """A call after leaving is a clear error."""
    async with scripted(answers({})) as url, open_backend(url) as backend:
        await backend.aclose()
        with pytest.raises(RuntimeError, match="closed"):
            await backend.score(MANUAL, key="k")


@pytest.mark.parametrize("encoding", ["raw", "base64"])
async def test_the_remote_backend_conforms(model: LoadedModel, encoding: str) -> None:
    """It keeps every promise of `Backend`, in both forms of a message."""
    async with to_real(model, encoding=encoding) as backend:
        await check_backend(backend)
