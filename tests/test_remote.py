"""The remote backend against the real server and model."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lmaas_backends.remote import RemoteBackend, open_backend
from lmaas_backends.roberta.accounts import Accounts, Terms
from lmaas_backends.roberta.api_keys import ApiKeys
from lmaas_backends.roberta.calls import ModelCalls
from lmaas_backends.roberta.engine import Engine
from lmaas_backends.roberta.engine_thread import EngineThread
from lmaas_backends.roberta.http_app import application
from lmaas_backends.roberta.model import LoadedModel, load_model
from lmaas_backends.roberta.rate_limits import Clocks
from lmaas_backends.roberta.server import serving
from lmaas_backends.roberta.usage_store import UsageStore
from lmaas_sdk.backend import FeatureQuery, Limits, ScoreQuery
from lmaas_sdk.errors import AuthenticationFailed, InvalidQuery
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
KEY = "test-key-of-nobody-else"


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load_model("roberta-tiny")


@pytest.fixture(scope="module")
def reduced() -> LoadedModel:
    """The same in bfloat16."""
    return load_model("roberta-tiny", dtype="bfloat16")


@asynccontextmanager
async def real_server(
    model: LoadedModel, *, port: int = 0, key: str = KEY, terms: Terms | None = None
) -> AsyncIterator[str]:
    """A server with an engine of its own, so that it knows no texts yet."""
    clocks, accounts = Clocks(), Accounts(ApiKeys([f"ann={key}"]), terms or Terms())
    async with UsageStore(clocks) as store, EngineThread() as thread:
        calls = ModelCalls(Engine(model), thread, accounts=accounts, store=store, clocks=clocks)
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
            expected, actual = await asyncio.to_thread(engine.score, query), await backend.score(query, key=f"k{place}")

            assert expected.logits.tobytes() == actual.logits.tobytes()
            assert (expected.usage, expected.words) == (actual.usage, actual.words)


@pytest.mark.parametrize("encoding", ["raw", "base64"])
async def test_a_precise_query_is_one_for_the_engine_too(reduced: LoadedModel, encoding: str) -> None:
    """Asked for in turn, both kinds come back with their own bits, and the card says that there are two."""
    query = ScoreQuery(TEXTS, subspace=SUBSPACE, Z=Z[:2])
    engine = Engine(reduced)
    expected = {
        precise: (await asyncio.to_thread(engine.score, replace(query, precise=precise))).logits.tobytes()
        for precise in (False, True)
    }
    assert expected[False] != expected[True]
    async with to_real(reduced, encoding=encoding) as backend:
        assert backend.card.capabilities.precise
        for place, precise in enumerate([False, True, False, True]):
            reply = await backend.score(replace(query, precise=precise), key=f"k{place}")
            assert expected[precise] == reply.logits.tobytes()
        with pytest.raises(InvalidQuery, match="another request before"):
            await backend.score(replace(query, precise=True), key="k0")


async def test_an_engine_in_float32_is_precise_whatever_is_asked(model: LoadedModel) -> None:
    """It claims nothing, and takes a precise query as any other."""
    query = ScoreQuery(TEXTS, subspace=SUBSPACE, Z=Z[:1])
    async with to_real(model) as backend:
        replies = [await backend.score(replace(query, precise=precise), key=f"{precise}") for precise in (False, True)]

    assert backend.card.capabilities.precise is False
    assert replies[0].logits.tobytes() == replies[1].logits.tobytes()


async def test_half_precision_rounds_z_and_nothing_else(model: LoadedModel) -> None:
    """float16 on the wire scores the rounded z."""
    rounded = Z[:2].astype(np.float16).astype(np.float32)
    expected = await asyncio.to_thread(Engine(model).score, ScoreQuery(TEXTS, subspace=SUBSPACE, Z=rounded))
    async with to_real(model, z_dtype="float16") as backend:
        actual = await backend.score(ScoreQuery(TEXTS, subspace=SUBSPACE, Z=Z[:2]), key="k")

    assert expected.logits.tobytes() == actual.logits.tobytes()


async def test_features_arrays_counts_and_tokenizer_come_through(model: LoadedModel) -> None:
    """Features, registrations, uploads and the tokenizer equal the engine's own."""
    engine, p0 = Engine(model), np.full((50, 128), 0.5, np.float32)
    learned = Subspace(d=500, prompt_tokens=50, hidden_size=128, layout="cat", base=engine.upload(p0))
    expected = await asyncio.to_thread(engine.features, FeatureQuery(TEXTS, rows=(0, 5), pool="tokens"))
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
    own = await asyncio.to_thread(engine.score, ScoreQuery(TEXTS, subspace=learned, Z=Z[:1]))
    assert own.logits.tobytes() == reply.logits.tobytes()


LONG_KEY = "test-key-of-" + "x" * 152  # as long as the longest that providers give out
QUOTAS = Limits(requests_per_minute=10_000, tokens_per_minute=30_000_000, requests_per_day=100_000)


@pytest.mark.parametrize(("z_dtype", "most_up"), [("float32", 2_100), ("float16", 1_100)])
async def test_an_evaluation_of_the_papers_setting_is_small(model: LoadedModel, z_dtype: str, most_up: int) -> None:
    """32 samples, d = 500, a generation of 20 as one call: at most 2.1 KB up (1.1 in half precision) and 300 B down.

    Bytes are those that a relay between client and server sees: with heads, API key, idempotency key and quota headers.
    """
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(real_server(model, key=LONG_KEY, terms=Terms(limits=QUOTAS)))
        relay = Relay(url)
        through = await stack.enter_async_context(relay.running())
        backend = await stack.enter_async_context(connected(through, api_key=LONG_KEY, z_dtype=z_dtype))
        await backend.register(TEXTS, SUBSPACE)
        registered = (len(relay.up), len(relay.down))
        await backend.score(ScoreQuery(TEXTS, subspace=SUBSPACE, Z=Z), key="0123456789abcdef" * 4)
    up, down = relay.up[registered[0] :], relay.down[registered[1] :]

    assert (len(up), len(down)) == (backend.bytes_up, backend.bytes_down)
    assert (len(up) <= 20 * most_up, len(down) <= 20 * 300) == (True, True), (len(up), len(down))
    assert all(up.count(part) == 1 for part in (LONG_KEY.encode(), b"Idempotency-Key: 0123456789abcdef"))
    assert 9 == down.lower().count(b"\r\nx-ratelimit-")
    print(len(up) / 20, len(down) / 20)


class Relay:
    """Passes bytes between a client and a server, and keeps them."""

    def __init__(self, url: str) -> None:
        self._port = int(url.rpartition(":")[2])
        self.up, self.down = bytearray(), bytearray()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._passed(reader, far_writer, self.up))
            tasks.create_task(self._passed(far_reader, writer, self.down))

    async def _passed(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, kept: bytearray) -> None:
        while part := await source.read(1 << 16):
            kept += part
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


async def test_prompts_are_written_out_by_the_server(model: LoadedModel) -> None:
    """As the engine would, also after a restart, when the array behind them has to be sent again."""
    p0 = np.full((50, 128), 0.5, np.float32)
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(AsyncExitStack())
        url = await first.enter_async_context(real_server(model))
        backend = await stack.enter_async_context(connected(url))
        subspace = Subspace(d=500, prompt_tokens=50, hidden_size=128, layout="cat", base=await backend.upload(p0))
        before = await backend.soft_prompts(subspace, Z)
        await first.aclose()
        await stack.enter_async_context(real_server(model, port=int(url.rpartition(":")[2])))
        again = await backend.soft_prompts(subspace, Z)
        with pytest.raises(InvalidQuery, match="candidates"):
            await backend.soft_prompts(subspace, np.zeros((300, 500), np.float32))

    engine = Engine(model)
    engine.upload(p0)
    assert [engine.soft_prompts(subspace, Z).tobytes()] * 2 == [before.tobytes(), again.tobytes()]


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
            async with connected(url, api_key="test-key-of-mallory"):
                pass
        async with connected(url) as backend:
            shown = repr(backend) + repr(vars(backend)) + repr(backend._http)

    everything = caplog.text + shown + repr(caught.value) + repr(caught.value.__cause__)
    assert "LMAAS_API_KEY" in str(caught.value)
    assert not any(key in everything for key in (KEY, "test-key-of-mallory"))


async def test_the_key_comes_from_the_environment(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without api_key= the key is LMAAS_API_KEY; a proxy of the environment is never asked for loopback."""
    monkeypatch.setenv("LMAAS_API_KEY", KEY)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with to_real(model, api_key=None) as backend:
        assert backend.card.name == "roberta-tiny"


@pytest.mark.parametrize("encoding", ["raw", "base64"])
async def test_the_remote_backend_conforms(model: LoadedModel, encoding: str) -> None:
    """It keeps every promise of `Backend`, in both forms of a message."""
    async with to_real(model, encoding=encoding) as backend:
        await check_backend(backend)
