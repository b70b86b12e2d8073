"""The remote backend against servers that refuse, misbehave or are not there, and against bad arguments."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web

from lmaas_backends.remote import RemoteBackend, open_backend
from lmaas_backends.roberta.protocol import JSON
from lmaas_backends.roberta.wire_card import card_fields
from lmaas_backends.roberta.wire_errors import KINDS, ErrorKind, RefusalError
from lmaas_sdk.backend import Capabilities, ModelCard, ScoreQuery
from lmaas_sdk.errors import (
    AttemptTimeout,
    BackendUnavailable,
    InvalidQuery,
    LmaasError,
    OutcomeUnknown,
    ProtocolError,
    RateLimited,
    UnknownDataset,
)
from lmaas_sdk.texts import MASK, LabelWords, Piece, TextSet

KEY = "test-key-of-nobody-else"


@asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[RemoteBackend]:
    async with open_backend(url, **({"api_key": KEY} | options)) as backend:
        yield backend


CARD = ModelCard("m", 4, 100, 64, "<mask>", Capabilities())
SHORT = TextSet(((Piece("field", "fine"), MASK), (Piece("field", "dull"), MASK)), LabelWords((" bad", " great")))
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
