"""A server that answers at once and computes nothing: what is left is what a client costs.

    python -m benchmarks.stub_server

It speaks enough of our HTTP API for one score call, and enough of OpenAI's for a completion of one text or of all. Its
URL is the first line it prints; it ends when stdin does.
"""

from __future__ import annotations

import asyncio
import json
import sys

import numpy as np
from aiohttp import web

from lmaas_backends.roberta.protocol import TENSORS, decode_message, encode_message
from lmaas_backends.roberta.wire_card import card_fields
from lmaas_backends.roberta.wire_queries import read_dataset, score_reply_message
from lmaas_sdk.backend import Capabilities, ModelCard, ScoreReply, Usage
from lmaas_sdk.canonical import canonical_json

MODEL = "stub"
TEXTS, LABELS, TOKENS = 32, 2, 1024
CARD = ModelCard(
    MODEL,
    hidden_size=256,
    vocab_size=50_265,
    max_tokens=512,
    mask="<mask>",
    capabilities=Capabilities(idempotent=True, deterministic=True),
    fingerprint="stub",
)
_LOGITS = np.linspace(-1, 1, TEXTS * LABELS, dtype=np.float32).reshape(1, TEXTS, LABELS)
_SCORED = encode_message(score_reply_message(ScoreReply(_LOGITS, Usage(TOKENS))), TENSORS)


def _completion_of(texts: int, logprobs: dict[str, object] | None) -> bytes:
    choice = {"text": " great", "logprobs": logprobs, "finish_reason": "length"}
    return canonical_json(
        {
            "id": "cmpl-1",
            "object": "text_completion",
            "created": 1_700_000_000,
            "model": MODEL,
            "choices": [{**choice, "index": index} for index in range(texts)],
            "usage": {"prompt_tokens": TOKENS, "completion_tokens": texts, "total_tokens": TOKENS + texts},
        }
    )


_BEST = {"tokens": [" great"], "token_logprobs": [-0.5], "top_logprobs": [{" great": -0.5, " bad": -1.5}]}
_ONE_COMPLETION = _completion_of(1, None)
_ALL_COMPLETIONS = _completion_of(TEXTS, {**_BEST, "text_offset": [60]})


def application() -> web.Application:
    """The stub."""
    app = web.Application()
    app.add_routes(
        [
            web.get("/v1/models", _models),
            web.post("/v1/datasets", _datasets),
            web.post("/v1/score", _score),
            web.post("/v1/completions", _completion),
        ]
    )
    return app


async def _models(request: web.Request) -> web.Response:
    return _json({"models": [card_fields(CARD)]})


async def _datasets(request: web.Request) -> web.Response:
    _, texts, _ = read_dataset(decode_message(await request.read(), request.content_type))
    return _json({"digest": texts.digest, "token_counts": [TOKENS // TEXTS] * len(texts), "shortened": 0})


async def _score(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(body=_SCORED, content_type=TENSORS)


async def _completion(request: web.Request) -> web.Response:
    asked = json.loads(await request.read())
    body = _ALL_COMPLETIONS if isinstance(asked["prompt"], list) else _ONE_COMPLETION
    return web.Response(body=body, content_type="application/json")


def _json(value: dict[str, object]) -> web.Response:
    return web.Response(body=canonical_json(value), content_type="application/json")


async def _serve() -> None:
    runner = web.AppRunner(application(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    sys.stdout.write(json.dumps({"url": f"http://{host}:{port}"}) + "\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(_serve())
