"""A local model as a backend in this very process: no server, one worker thread that loads and computes.

A training has a thread of its own, so that several of them take a core each, and none waits for calls.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lmaas_backends.roberta.memory import give_memory_back
from lmaas_sdk.backend import FeatureQuery, FeatureReply, ModelCard, Registration, ScoreQuery, ScoreReply
from lmaas_sdk.errors import BackendError
from lmaas_sdk.texts import TextSet
from lmaas_sdk.tuning.subspace import Subspace

if TYPE_CHECKING:
    from lmaas_backends.roberta.engine import Engine
    from lmaas_backends.roberta.training import Training

__all__ = ["InProcessBackend", "InProcessTraining"]

_T = TypeVar("_T")
_Weights = Mapping[str, NDArray[np.float32]]


class InProcessBackend:
    """Backend, text registry and array store around an engine. An async context manager; entering it loads the model.

    Calls are computed one after another on one thread. A call that is cancelled stops before its next chunk, a training
    before its next step, and closing stops what is going on likewise.

    Args:
        model: `roberta-tiny`, a folder, or a name on the hub.
        options: As `loading.load_engine` takes them: device, threads, linears, dtype, max_candidates, max_texts.
    """

    def __init__(self, model: str = "roberta-tiny", **options: Any) -> None:
        self._model, self._load = model, partial(_load, model, options)
        self._engine: Engine | None = None
        self._card: ModelCard | None = None
        self._tuned: weakref.WeakSet[InProcessBackend] = weakref.WeakSet()
        self._trainings: weakref.WeakSet[InProcessTraining] = weakref.WeakSet()
        self._training_threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"lmaas-{model}")
        self._closing = threading.Event()

    def __repr__(self) -> str:
        return f"InProcessBackend({self._model!r})"

    async def __aenter__(self) -> InProcessBackend:
        try:
            await self._run(lambda engine, dropped: engine.card)
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    @property
    def card(self) -> ModelCard:
        """What the model can do.

        Raises:
            BackendError: The model is not loaded yet.
        """
        if self._card is None:
            raise BackendError(f"model {self._model!r} is not loaded yet: enter the backend with 'async with' first")
        return self._card

    async def score(self, query: ScoreQuery, *, key: str) -> ScoreReply:
        """Scores candidates on texts, when the thread is free; `key` is not needed here, where no call is sent twice.

        Raises:
            BackendError: This backend was closed.
            InvalidQuery, UnknownDataset, Unsupported, VerbalizerError: As `Engine.score`.
        """
        return await self._run(lambda engine, dropped: engine.score(query, dropped))

    async def features(self, query: FeatureQuery, *, key: str) -> FeatureReply:
        """Computes hidden states of texts; `key` as in `score`.

        Raises:
            BackendError: This backend was closed.
            InvalidQuery, UnknownDataset: As `Engine.features`.
        """
        return await self._run(lambda engine, dropped: engine.features(query, dropped))

    async def register(self, texts: TextSet, subspace: Subspace | None = None) -> Registration:
        """Takes in a text set and counts its tokens under `subspace`'s prompt.

        Raises:
            BackendError: This backend was closed.
            InvalidQuery, Unsupported, VerbalizerError: As `Engine.register`.
        """
        return await self._run(lambda engine, dropped: engine.register(texts, subspace))

    async def upload(self, array: NDArray[np.float32]) -> str:
        """Keeps an array (a learned p0, a projection) and returns its digest.

        Raises:
            BackendError: This backend was closed.
            InvalidQuery: As `Engine.upload`.
        """
        return await self._run(lambda engine, dropped: engine.upload(array))

    async def soft_prompts(self, subspace: Subspace, Z: NDArray[np.float32]) -> NDArray[np.float32]:
        """What enters the model at a prompt's positions, for each candidate: (n_candidates, L, D) float32.

        Raises:
            BackendError: This backend was closed.
            InvalidQuery, UnknownDataset, Unsupported: As `Engine.soft_prompts`.
        """
        return await self._run(lambda engine, dropped: engine.soft_prompts(subspace, Z))

    async def training(
        self,
        texts: TextSet,
        labels: NDArray[np.int64],
        *,
        learning_rate: float,
        subspace: Subspace | None = None,
    ) -> InProcessTraining:
        """Begins to train a soft prompt, or all weights, by gradients; this backend itself answers as before.

        It takes its steps on a thread of its own, beside calls and other trainings.

        Raises:
            BackendError: This backend was closed.
            InvalidQuery, Unsupported, VerbalizerError, ModelLoadError: As `Engine.training`.
        """
        begun = await self._run(
            lambda engine, dropped: engine.training(texts, labels, learning_rate=learning_rate, subspace=subspace)
        )
        training = InProcessTraining(self, begun)
        self._trainings.add(training)
        self._training_threads.add(await training.thread())
        return training

    def with_weights(self, weights: _Weights) -> InProcessBackend:
        """The same model with other weights, on a thread of its own; made when it is first asked, closed with this one.

        Raises:
            BackendError: This backend was closed, or is not loaded yet.
            ValueError: They are none of this model's.
        """
        if self._engine is None:
            raise BackendError(f"model {self._model!r} is not loaded yet: enter the backend with 'async with' first")
        self._check_open()
        tuned = InProcessBackend(self._model)
        tuned._card, tuned._load = self._engine.tuned_card(weights), partial(self._engine.tuned, weights)
        self._tuned.add(tuned)
        give_memory_back()  # of the training that the weights come from, which is over by now
        return tuned

    async def aclose(self) -> None:
        """Stops what is going on before its next chunk or step and joins the threads; safe to call twice."""
        self._closing.set()
        for tuned in tuple(self._tuned):
            await tuned.aclose()
        for training in tuple(self._trainings):
            await asyncio.to_thread(training.end)
        for thread in tuple(self._training_threads):  # one that was dropped may still take its last step
            await asyncio.to_thread(thread.join)
        # Waiting calls are let run into `_closing` rather than cancelled: their callers were not, and are told why.
        await asyncio.to_thread(self._thread.shutdown)
        if self._engine is not None:
            await asyncio.to_thread(self._engine.close)

    async def _run(
        self, work: Callable[[Engine, Callable[[], bool]], _T], *, thread: ThreadPoolExecutor | None = None
    ) -> _T:
        """Runs `work` with the engine, and what tells it to stop, when its turn on a thread, or the engine's, comes."""
        self._check_open()
        caller_left = threading.Event()

        def turn() -> _T:
            self._check_open()
            if caller_left.is_set():
                raise BackendError("the caller left before this call's turn came")
            if self._engine is None:
                self._engine = self._load()
                self._card = self._card or self._engine.card
            try:
                return work(self._engine, lambda: caller_left.is_set() or self._closing.is_set())
            except CancelledError as error:
                # asyncio would take it for the cancellation of the waiting task, which closing is not.
                raise BackendError(f"this backend was closed during the call: {error}") from error

        try:
            return await asyncio.get_running_loop().run_in_executor(thread or self._thread, turn)
        finally:
            caller_left.set()

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise BackendError(f"the backend of model {self._model!r} is closed: open a new one")


class InProcessTraining:
    """A training in progress; its thread ends when it is dropped, or when its backend is closed."""

    def __init__(self, backend: InProcessBackend, training: Training) -> None:
        self._backend, self._training = backend, training
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lmaas-gradients")

    async def thread(self) -> threading.Thread:
        """The thread on which it computes."""
        return await self._run(lambda training: threading.current_thread())

    def end(self) -> None:
        """Ends the thread, after the step under way."""
        self._executor.shutdown()

    async def step(self, rows: Sequence[int]) -> float:
        """One step of Adam on the mean cross entropy of some texts; what that was before it."""
        return await self._run(lambda training: training.step(rows))

    async def logits(self, texts: TextSet) -> NDArray[np.float32]:
        """Label logits of texts under what is learned so far: (n_texts, n_labels) float32."""
        return await self._run(lambda training: training.logits(texts))

    async def learned(self) -> dict[str, NDArray[np.float32]]:
        """Copies of what is learned so far, by name."""
        return await self._run(lambda training: training.learned())

    async def _run(self, work: Callable[[Training], _T]) -> _T:
        training = self._training
        return await self._backend._run(lambda engine, dropped: work(training), thread=self._executor)


def _load(model: str, options: dict[str, Any]) -> Engine:
    from lmaas_backends.roberta.loading import load_engine  # noqa: PLC0415  (torch takes seconds to import)

    return load_engine(model, **options)
