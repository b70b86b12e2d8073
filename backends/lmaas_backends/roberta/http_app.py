"""The HTTP API (docs/http-api.md) as an aiohttp application."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from aiohttp import web

from lmaas_backends.roberta.accounts import Account
from lmaas_backends.roberta.calls import ModelCalls
from lmaas_backends.roberta.http_connection import refused
from lmaas_backends.roberta.kept_answers import Answer
from lmaas_backends.roberta.metrics import CONTENT_TYPE
from lmaas_backends.roberta.protocol import JSON, Message, decode_message, encode_message
from lmaas_backends.roberta.request_bodies import RequestBodies
from lmaas_backends.roberta.usage_store import Metered
from lmaas_backends.roberta.wire_card import card_fields
from lmaas_backends.roberta.wire_errors import RefusalError, refusal_from
from lmaas_backends.roberta.wire_media import asked_form
from lmaas_backends.roberta.wire_queries import (
    ARRAY_ARRAYS,
    PROMPT_ARRAYS,
    SCORE_ARRAYS,
    read_array,
    read_dataset,
    read_features,
    read_prompt,
    read_score,
)
from lmaas_sdk.canonical import canonical_json
from lmaas_sdk.errors import InvalidQuery, LmaasError

__all__ = ["application"]

_DECODED_ON_LOOP_BYTES = 64 << 10
_MOST_KEY_CHARACTERS = 255
_RESTART_S = 1.0  # when a caller may look for whoever serves after us
_REPLAYED = "Idempotent-Replayed"
_CALLS: web.AppKey[ModelCalls] = web.AppKey("calls", ModelCalls)
_BODIES: web.AppKey[RequestBodies] = web.AppKey("bodies", RequestBodies)
_TOKENIZER: web.AppKey[bytes] = web.AppKey("tokenizer", bytes)
_OPEN_PATHS = ("/health", "/ready")
METRICS_KEY = "metrics"  # the name of the API key that may read what all others used
_HTTP_KINDS = {404: "not_found", 405: "method_not_allowed"}
_log = logging.getLogger("lmaas_backends.server")

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_T = TypeVar("_T")


def application(calls: ModelCalls, tokenizer_json: bytes, *, bodies: RequestBodies | None = None) -> web.Application:
    """The application that serves one model's calls.

    Args:
        calls: The model; entered and left by the caller.
        tokenizer_json: The model's tokenizer.json.
        bodies: Bounds on the bodies of requests; None: the ones that docs/http-api.md tells.
    """
    app = web.Application(middlewares=[_answer_errors, _admit])
    app[_CALLS], app[_TOKENIZER], app[_BODIES] = calls, tokenizer_json, bodies or RequestBodies()
    app.on_response_prepare.append(_name_server)
    app.add_routes(
        [
            web.get("/v1/models", _models),
            web.get("/v1/models/{name:.+}/tokenizer", _tokenizer),
            web.post("/v1/datasets", _datasets),
            web.post("/v1/arrays", _arrays),
            web.post("/v1/prompts", _prompts),
            web.post("/v1/score", _score),
            web.post("/v1/features", _features),
            web.get("/v1/usage", _usage),
            web.get("/health", _health),
            web.get("/ready", _ready),
            web.get("/metrics", _metrics),
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
        response = refused(refusal)
    except LmaasError as error:
        response = refused(refusal_from(error))
    except web.HTTPException as error:
        response = refused(RefusalError(_HTTP_KINDS.get(error.status, "malformed_body"), error.text or error.reason))
    except Exception:
        _log.exception("the server failed on %s %s", request.method, request.rel_url.raw_path)
        response = refused(RefusalError("server_fault", "the server failed on this request"))
    wall_s = time.perf_counter() - started
    request.app[_CALLS].metrics.answered(_route_of(request), response.status, wall_s)
    path = request.rel_url.raw_path  # still quoted, so that no path can forge a line
    _log.info("%s %s %s %d %.1f ms", _name_of(request), request.method, path, response.status, wall_s * 1000)
    return response


def _route_of(request: web.Request) -> str:
    """The path as the API's documentation writes it; one name for all that are not in it."""
    resource = request.match_info.route.resource
    return "other" if resource is None else resource.canonical


@web.middleware
async def _admit(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Lets a request through when its key is right and the server is not draining."""
    if request.path in _OPEN_PATHS:
        return await handler(request)
    calls = request.app[_CALLS]
    if calls.draining:
        raise RefusalError(
            "unavailable", "the server is shutting down", retry_after_s=_RESTART_S, headers={"Connection": "close"}
        )
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


async def _metrics(request: web.Request) -> web.Response:
    if request.app[_CALLS].accounts.has_keys and _account(request).name != METRICS_KEY:
        raise RefusalError("forbidden", f"the metrics tell of all keys: they are for the key named {METRICS_KEY!r}")
    page = await request.app[_CALLS].metrics_page()
    return web.Response(body=page, headers={"Content-Type": CONTENT_TYPE})


async def _models(request: web.Request) -> web.Response:
    return _json({"models": [card_fields(request.app[_CALLS].card_for(_account(request)))]})


async def _tokenizer(request: web.Request) -> web.Response:
    _check_model(request, request.match_info["name"])
    return web.Response(body=request.app[_TOKENIZER], content_type=JSON)


async def _usage(request: web.Request) -> web.Response:
    account = _account(request)
    return _json({"usage": {account.name: await request.app[_CALLS].report(account)}})


async def _datasets(request: web.Request) -> web.Response:
    model, texts, subspace = await _read(request, lambda body: read_dataset(_decoded(request, body)))
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
    model, array = await _read(request, lambda body: read_array(_decoded(request, body, ARRAY_ARRAYS)))
    _check_model(request, model)
    return _json({"digest": await request.app[_CALLS].upload(array)})


async def _prompts(request: web.Request) -> web.Response:
    model, subspace, Z = await _read(request, lambda body: read_prompt(_decoded(request, body, PROMPT_ARRAYS)))
    _check_model(request, model)
    prompts = await request.app[_CALLS].soft_prompts(subspace, Z)
    form = _asked_form(request)
    return web.Response(body=encode_message(Message({}, {"prompts": prompts}), form), content_type=form)


async def _score(request: web.Request) -> web.Response:
    return await _called(request, "score", read_score, request.app[_CALLS].score, SCORE_ARRAYS)


async def _features(request: web.Request) -> web.Response:
    return await _called(request, "features", read_features, request.app[_CALLS].features)


async def _called(
    request: web.Request,
    endpoint: str,
    read: Callable[[Message], tuple[str, _T]],
    compute: Callable[..., Awaitable[Answer]],
    arrays: Sequence[str] = (),
) -> web.Response:
    """Answers a call: its query is read, then computed and billed once a key."""
    account, key = _account(request), _idempotency_key(request)
    (model, query), fingerprint = await _read(
        request, lambda body: (read(_decoded(request, body, arrays)), _fingerprint(request, body))
    )
    _check_model(request, model)
    scoped = None if key is None else f"{account.name}\0{key}"
    answer = await compute(Metered(account, endpoint, scoped, fingerprint), query, media_type=_asked_form(request))
    headers = dict(answer.quota_headers) | ({_REPLAYED: "true"} if answer.replayed else {})
    return web.Response(body=answer.body, content_type=answer.media_type, headers=headers)


async def _read(request: web.Request, understand: Callable[[bytes], _T]) -> _T:
    """What `understand` makes of a request's body; a large one is decoded off the loop, and none is kept."""
    async with request.app[_BODIES].read(request) as body:
        if len(body) <= _DECODED_ON_LOOP_BYTES:
            return understand(body)
        return await asyncio.to_thread(understand, body)


def _decoded(request: web.Request, body: bytes, arrays: Sequence[str] = ()) -> Message:
    """A body's message: 400 when it has no known form; what is wrong inside is for its reader to say, by 422."""
    try:
        return decode_message(body, request.content_type, arrays)
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


def _fingerprint(request: web.Request, body: bytes) -> str:
    """Of all that decides the answer: endpoint, both forms, body."""
    head = "\0".join((request.path, request.content_type, _asked_form(request))).encode()
    return hashlib.sha256(head + b"\0" + body).hexdigest()


def _asked_form(request: web.Request) -> str:
    return asked_form(",".join(request.headers.getall("Accept", ())), request.content_type)


def _json(value: dict[str, object]) -> web.Response:
    return web.Response(body=canonical_json(value), content_type=JSON)
