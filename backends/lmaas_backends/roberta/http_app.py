"""The HTTP API (docs/http-api.md) as an aiohttp application."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from aiohttp import web

from lmaas_backends.roberta.accounts import Account
from lmaas_backends.roberta.calls import ModelCalls
from lmaas_backends.roberta.idempotency import Answer
from lmaas_backends.roberta.protocol import JSON, TENSORS, Message, decode_message
from lmaas_backends.roberta.wire_card import card_fields
from lmaas_backends.roberta.wire_errors import RefusalError, refusal_from
from lmaas_backends.roberta.wire_queries import (
    ARRAY_ARRAYS,
    SCORE_ARRAYS,
    read_array,
    read_dataset,
    read_features,
    read_score,
)
from lmaas_sdk.canonical import canonical_json
from lmaas_sdk.errors import InvalidQuery, LmaasError

__all__ = ["MOST_BODY_BYTES", "application"]

MOST_BODY_BYTES = 64 << 20
_DECODED_ON_LOOP_BYTES = 64 << 10
_MOST_KEY_CHARACTERS = 255
_CALLS: web.AppKey[ModelCalls] = web.AppKey("calls", ModelCalls)
_TOKENIZER: web.AppKey[bytes] = web.AppKey("tokenizer", bytes)
_OPEN_PATHS = ("/health", "/ready")
_HTTP_KINDS = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
_log = logging.getLogger("lmaas.server")

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_T = TypeVar("_T")


def application(calls: ModelCalls, tokenizer_json: bytes, *, most_body_bytes: int = MOST_BODY_BYTES) -> web.Application:
    """The application that serves one model's calls.

    Args:
        calls: The model; entered and left by the caller.
        tokenizer_json: The model's tokenizer.json.
        most_body_bytes: Larger request bodies are refused with 413.
    """
    app = web.Application(middlewares=[_answer_errors, _admit], client_max_size=most_body_bytes)
    app[_CALLS], app[_TOKENIZER] = calls, tokenizer_json
    app.on_response_prepare.append(_name_server)
    app.add_routes(
        [
            web.get("/v1/models", _models),
            web.get("/v1/models/{name:.+}/tokenizer", _tokenizer),
            web.post("/v1/datasets", _datasets),
            web.post("/v1/arrays", _arrays),
            web.post("/v1/score", _score),
            web.post("/v1/features", _features),
            web.get("/v1/usage", _usage),
            web.get("/health", _health),
            web.get("/ready", _ready),
        ]
    )
    return app


async def _name_server(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "lmaas"  # shorter than aiohttp's own, and tells no versions


@web.middleware
async def _answer_errors(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Turns every error into the JSON of the API, and logs one line a request, without bodies and keys."""
    started = time.perf_counter()
    try:
        response = await handler(request)
    except RefusalError as refusal:
        response = _refused(refusal)
    except LmaasError as error:
        response = _refused(refusal_from(error))
    except web.HTTPException as error:
        response = _refused(RefusalError(_HTTP_KINDS.get(error.status, "malformed_body"), error.text or error.reason))
    except Exception:
        _log.exception("the server failed on %s %s", request.method, request.rel_url.raw_path)
        response = _refused(RefusalError("server_fault", "the server failed on this request"))
    wall_ms = (time.perf_counter() - started) * 1000
    path = request.rel_url.raw_path  # still quoted, so that no path can forge a line
    _log.info("%s %s %s %d %.1f ms", _name_of(request), request.method, path, response.status, wall_ms)
    return response


def _refused(refusal: RefusalError) -> web.Response:
    headers = dict(refusal.headers)
    if refusal.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(refusal.retry_after_s)))
    return web.Response(status=refusal.kind.status, body=refusal.body(), content_type=JSON, headers=headers)


@web.middleware
async def _admit(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Lets a request through when its key is right and the server is not draining."""
    if request.path in _OPEN_PATHS:
        return await handler(request)
    calls = request.app[_CALLS]
    if calls.draining:
        raise RefusalError("unavailable", "the server is shutting down", headers={"Connection": "close"})
    _account(request)
    return await handler(request)


def _account(request: web.Request) -> Account:
    """Whose request it is, by its key."""
    return request.app[_CALLS].accounts.authenticate(request.headers.get("Authorization"))


def _name_of(request: web.Request) -> str:
    try:
        return "-" if request.path in _OPEN_PATHS else _account(request).name
    except RefusalError:
        return "-"


async def _health(request: web.Request) -> web.Response:
    calls = request.app[_CALLS]
    return _json({"status": "draining" if calls.draining else "ok", "in_flight": calls.in_flight})


async def _ready(request: web.Request) -> web.Response:
    if not await request.app[_CALLS].ready():
        raise RefusalError("unavailable", "the engine does not answer now", retry_after_s=1)
    return _json({"status": "ready"})


async def _models(request: web.Request) -> web.Response:
    return _json({"models": [card_fields(request.app[_CALLS].card)]})


async def _tokenizer(request: web.Request) -> web.Response:
    _check_model(request, request.match_info["name"])
    return web.Response(body=request.app[_TOKENIZER], content_type=JSON)


async def _usage(request: web.Request) -> web.Response:
    account = _account(request)
    return _json({"usage": {account.name: account.fields()}})


async def _datasets(request: web.Request) -> web.Response:
    model, texts, subspace = await _read(request, read_dataset)
    _check_model(request, model)
    registration = await request.app[_CALLS].register(texts, subspace)
    return _json(
        {
            "digest": registration.digest,
            "token_counts": list(registration.token_counts),
            "shortened": registration.shortened,
        }
    )


async def _arrays(request: web.Request) -> web.Response:
    model, array = await _read(request, read_array, ARRAY_ARRAYS)
    _check_model(request, model)
    return _json({"digest": await request.app[_CALLS].upload(array)})


async def _score(request: web.Request) -> web.Response:
    model, query = await _read(request, read_score, SCORE_ARRAYS)
    _check_model(request, model)
    answer = await request.app[_CALLS].score(
        _account(request),
        query,
        key=_idempotency_key(request),
        fingerprint=await _fingerprint(request),
        media_type=_asked_form(request),
    )
    return _answered(request, answer)


async def _features(request: web.Request) -> web.Response:
    model, query = await _read(request, read_features)
    _check_model(request, model)
    answer = await request.app[_CALLS].features(
        _account(request),
        query,
        key=_idempotency_key(request),
        fingerprint=await _fingerprint(request),
        media_type=_asked_form(request),
    )
    return _answered(request, answer)


async def _read(request: web.Request, read: Callable[[Message], _T], arrays: Sequence[str] = ()) -> _T:
    """Decodes a body, a large one off the loop: 400 when it has no known form, 422 when its content is wrong."""
    try:
        body = await request.read()
    except (web.RequestPayloadError, ValueError) as error:
        raise RefusalError("malformed_body", f"the body cannot be read: {error}") from error
    if len(body) <= _DECODED_ON_LOOP_BYTES:
        return read(_decoded(body, request.content_type, arrays))
    return await asyncio.to_thread(lambda: read(_decoded(body, request.content_type, arrays)))


def _decoded(body: bytes, media_type: str, arrays: Sequence[str]) -> Message:
    try:
        return decode_message(body, media_type, arrays)
    except InvalidQuery as error:
        raise RefusalError("malformed_body", str(error)) from error


def _check_model(request: web.Request, name: str) -> None:
    served = request.app[_CALLS].card.name
    if name != served:
        raise RefusalError("unknown_model", f"this server has the model {served!r}, not {name[:80]!r}")


def _idempotency_key(request: web.Request) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not 1 <= len(key) <= _MOST_KEY_CHARACTERS:
        raise RefusalError("invalid_query", f"an Idempotency-Key has 1 to {_MOST_KEY_CHARACTERS} characters")
    return key


async def _fingerprint(request: web.Request) -> str:
    """Of all that decides the answer: endpoint, both forms, body."""
    head = "\0".join((request.path, request.content_type, _asked_form(request))).encode()
    return hashlib.sha256(head + b"\0" + await request.read()).hexdigest()


def _asked_form(request: web.Request) -> str:
    """The answer's form: what Accept names, else the form of the request."""
    accepted = request.headers.get("Accept", "*/*")
    if TENSORS in accepted:
        return TENSORS
    return JSON if JSON in accepted else request.content_type


def _answered(request: web.Request, answer: Answer) -> web.Response:
    headers = _account(request).quota.headers()
    return web.Response(body=answer.body, content_type=answer.media_type, headers=headers)


def _json(value: dict[str, object]) -> web.Response:
    return web.Response(body=canonical_json(value), content_type=JSON)
