"""The engine as an asynchronous backend in this process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
import pytest

from lmaas_backends.roberta.engine import Engine
from lmaas_backends.roberta.in_process import InProcessBackend
from lmaas_sdk.backend import ArrayStore, FeatureQuery, ScoreQuery, TextRegistry
from lmaas_sdk.errors import BackendError, ModelLoadError
from lmaas_sdk.tuning.subspace import Subspace


class Gate:
    """Holds the engine's thread inside a call until the test opens it; counts the calls begun and stopped."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()
        self.calls, self.stopped = 0, 0
        real = Engine.score

        def score(engine: Engine, query: ScoreQuery, cancelled: Any) -> Any:
            self.calls += 1
            self.entered.set()
            self.opened.wait(timeout=30)
            try:
                return real(engine, query, cancelled)
            except CancelledError:
                self.stopped += 1
                raise

        monkeypatch.setattr(Engine, "score", score)


async def test_it_answers_as_the_engine_does(roberta: Any) -> None:
    """Scores, features, registration and uploads are the engine's own."""
    texts = roberta.texts("a fine film", "dull")
    space, Z = Subspace(8, 3, 128), np.ones((2, 8), dtype=np.float32)
    engine = Engine(roberta.loaded)
    async with InProcessBackend() as backend:
        registered = await backend.register(texts, space)
        scored = await backend.score(ScoreQuery(texts.digest, subspace=space, Z=Z), key="k")
        features = await backend.features(FeatureQuery(texts.digest), key="f")
        uploaded = await backend.upload(np.ones((3, 128), dtype=np.float32))
        assert backend.card == engine.card
        assert (isinstance(backend, TextRegistry), isinstance(backend, ArrayStore)) == (True, True)
    assert registered == engine.register(texts, space)
    own = await asyncio.to_thread(engine.score, ScoreQuery(texts, subspace=space, Z=Z))
    own_features = await asyncio.to_thread(engine.features, FeatureQuery(texts))
    assert (scored.logits.tobytes(), features.features.tobytes()) == (
        own.logits.tobytes(),
        own_features.features.tobytes(),
    )
    assert uploaded == engine.upload(np.ones((3, 128), dtype=np.float32))


async def test_the_loop_runs_while_it_computes(roberta: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread is held inside a call, and the loop still turns."""
    gate = Gate(monkeypatch)
    async with InProcessBackend() as backend, asyncio.TaskGroup() as group:
        call = group.create_task(backend.score(ScoreQuery(roberta.texts("fine")), key="k"))
        await asyncio.to_thread(gate.entered.wait, 30)
        assert not call.done()
        gate.opened.set()
    assert call.result().logits.shape == (1, 1, 2)


async def test_a_cancelled_call_stops_and_the_next_one_is_answered(
    roberta: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelling the caller stops its candidates; a call that was still waiting never starts."""
    gate = Gate(monkeypatch)
    query = ScoreQuery(roberta.texts("fine"))
    async with InProcessBackend() as backend:
        running = asyncio.ensure_future(backend.score(query, key="1"))
        await asyncio.to_thread(gate.entered.wait, 30)
        waiting = asyncio.ensure_future(backend.score(query, key="2"))
        await asyncio.sleep(0)
        running.cancel()
        waiting.cancel()
        await asyncio.wait([running, waiting])
        gate.opened.set()
        reply = await backend.score(query, key="3")
    assert (running.cancelled(), waiting.cancelled()) == (True, True)
    assert (gate.calls, gate.stopped) == (2, 1)
    assert reply.logits.shape == (1, 1, 2)


async def test_closing_tells_callers_and_joins_the_thread(roberta: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call in flight and one that waits end with BackendError, not with a cancellation, and no thread stays."""
    gate = Gate(monkeypatch)
    query = ScoreQuery(roberta.texts("fine"))
    backend = InProcessBackend()
    async with backend:
        calls = [asyncio.ensure_future(backend.score(query, key=str(number))) for number in range(2)]
        await asyncio.to_thread(gate.entered.wait, 30)
        closing = asyncio.ensure_future(backend.aclose())
        await asyncio.sleep(0)
        gate.opened.set()
        await asyncio.wait([*calls, closing])
    assert [type(call.exception()) for call in calls] == [BackendError, BackendError]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("lmaas-")]


async def test_a_closed_backend_says_so(roberta: Any) -> None:
    """Closing twice is fine; calling afterwards is not."""
    backend = InProcessBackend()
    await backend.aclose()
    await backend.aclose()
    with pytest.raises(BackendError, match="is closed: open a new one"):
        await backend.score(ScoreQuery(roberta.texts("fine")), key="k")


async def test_the_card_needs_the_model() -> None:
    """Before it is entered there is no card."""
    backend = InProcessBackend()
    with pytest.raises(BackendError, match="enter the backend with 'async with' first"):
        _ = backend.card
    await backend.aclose()


async def test_a_model_that_cannot_be_loaded_fails_on_entering() -> None:
    """The loader's own error comes through, and the thread is gone."""
    with pytest.raises(ModelLoadError, match="there is no such folder"):
        async with InProcessBackend("/no/such/model"):
            pass
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("lmaas-")]


def test_every_public_method_is_described() -> None:
    """What it computes, and what it raises."""
    public = [name for name in vars(InProcessBackend) if not name.startswith("_")]
    assert [name for name in public if not getattr(InProcessBackend, name).__doc__] == []


def test_importing_it_pulls_no_torch() -> None:
    """torch comes with the model, not with the module."""
    code = "import sys, lmaas_backends.roberta.in_process; print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
