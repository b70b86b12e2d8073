"""What happens to a request once it is decoded: counted, admitted, computed, billed, encoded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable
from dataclasses import replace
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lmaas_backends.roberta.accounts import Account, Accounts, Terms
from lmaas_backends.roberta.batcher import Batcher
from lmaas_backends.roberta.engine_thread import EngineThread
from lmaas_backends.roberta.idempotency import Answer, Compute, SharedCalls
from lmaas_backends.roberta.metrics import ServerMetrics
from lmaas_backends.roberta.protocol import Message, encode_message
from lmaas_backends.roberta.query_limits import check_features, check_score, check_subspace
from lmaas_backends.roberta.rate_limits import Clocks
from lmaas_backends.roberta.stores import BoundedStore
from lmaas_backends.roberta.usage_store import Charge, Metered, UsageStore
from lmaas_backends.roberta.waiting_room import Ticket
from lmaas_backends.roberta.wire_errors import RefusalError
from lmaas_backends.roberta.wire_queries import feature_reply_message, score_reply_message
from lmaas_backends.roberta.work import SynchronousEngine, Work
from lmaas_sdk.backend import FeatureQuery, FeatureReply, ModelCard, Registration, ScoreQuery, ScoreReply, Usage
from lmaas_sdk.texts import MASK, Piece, TextSet
from lmaas_sdk.tuning.subspace import Subspace

__all__ = ["ModelCalls"]

_log = logging.getLogger("lmaas_backends.server")
_Query = TypeVar("_Query", ScoreQuery, FeatureQuery)
_Reply = TypeVar("_Reply", ScoreReply, FeatureReply)

# Hidden states are asked for: they need no label words, and not the whole table of words that `top_k` would bring in.
_PROBE = TextSet(((Piece("field", "ready?"), MASK),))
_WARM_UP = tuple(TextSet(((Piece("field", "ready? " * words), MASK),) * 4) for words in (1, 40, 1, 40))
_PROBE_NAME = ""  # no API key's
_PROBE_LIMIT_S = 5.0
_ANSWERED_LATELY_S = 10.0
_MOST_COUNTS = 4096
_ENCODED_ON_LOOP_NUMBERS = 16_384


class ModelCalls:
    """The calls to one model.

    Use it as an async context manager: leaving it waits for the calls in flight.

    Args:
        engine: Computes, on its lanes; used on `thread` only.
        thread: The engine's thread.
        accounts: Who may call.
        store: Their books; entered and left by the caller.
        clocks: Durations are measured by the monotonic one.
        most_queued_tokens: Of the calls that wait or compute; see `Batcher`.

    Attributes:
        metrics: What a monitoring system is told.
    """

    def __init__(
        self,
        engine: SynchronousEngine,
        thread: EngineThread,
        *,
        accounts: Accounts,
        store: UsageStore,
        clocks: Clocks,
        most_queued_tokens: int | None = None,
    ) -> None:
        self.accounts = accounts
        self.card = engine.card
        self.draining = False
        self._drain_timeout_s: float | None = None
        self._engine, self._thread, self._store, self._clocks = engine, thread, store, clocks
        self.metrics = ServerMetrics(engine.lanes.count, self._queue)
        self._batcher = Batcher(
            engine.lanes, thread, observer=self.metrics, clock=clocks.monotonic, most_tokens=most_queued_tokens
        )
        room = self._batcher.room
        self.metrics.watch("lmaas_queue_most_tokens", "Bound of lmaas_queue_tokens", lambda: room.most_tokens)
        self.metrics.watch("lmaas_queue_promises", "Refused calls that room is kept for", lambda: room.promises)
        self._tasks = asyncio.TaskGroup()
        self._shared = SharedCalls(self._tasks)
        self._counts: BoundedStore[tuple[Hashable, ...], int] = BoundedStore(max_bytes=_MOST_COUNTS)
        self._answered_at = -float("inf")
        self._probe: asyncio.Task[bool] | None = None

    async def __aenter__(self) -> ModelCalls:
        await self._batcher.__aenter__()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.draining = True
        try:
            async with asyncio.timeout(self._drain_timeout_s):
                await self._tasks.__aexit__(None, None, None)  # an error outside is no reason to drop calls
        except TimeoutError:
            _log.warning("calls were still in flight after %g s and have been dropped", self._drain_timeout_s)
        finally:
            await self._batcher.__aexit__(None, None, None)

    def drain(self, timeout_s: float) -> None:
        """Takes no more calls from now on; leaving then waits so long for those in flight, and drops the rest."""
        self.draining = True
        self._drain_timeout_s = timeout_s

    @property
    def in_flight(self) -> int:
        """Calls that wait or compute, and whose asker is still there."""
        return self._shared.awaited

    def card_for(self, account: Account) -> ModelCard:
        """The model's card with the price and the limits that hold for an account."""
        return _advertised(self.card, account.terms)

    async def report(self, account: Account) -> dict[str, object]:
        """The account as GET /v1/usage shows it."""
        return await self._store.report(account)

    async def ready(self) -> bool:
        """Whether the engine answers: a query of its own within 5 s, or any in the last 10 s."""
        if self.draining:
            return False
        if self._clocks.monotonic() - self._answered_at < _ANSWERED_LATELY_S:
            return True
        if self._probe is None or self._probe.done():  # one for all who ask
            self._probe = self._tasks.create_task(self._answers())
        try:
            async with asyncio.timeout(_PROBE_LIMIT_S):
                return await asyncio.shield(self._probe)
        except TimeoutError:
            return False

    async def _answers(self) -> bool:
        """Whether the engine answers a small query of ours."""
        try:
            await self._computed(_PROBE_NAME, FeatureQuery(_PROBE))
        except Exception as error:
            _log.warning("the engine did not answer the probe: %s: %s", type(error).__name__, error)
            return False
        self._answered_at = self._clocks.monotonic()
        return True

    async def warm_up(self) -> None:
        """Computes texts of two lengths before the first call, so that the speed is known when it comes."""
        for texts in _WARM_UP:
            await self._computed(_PROBE_NAME, FeatureQuery(texts))

    async def metrics_page(self) -> bytes:
        """The metrics, with the usage of every key by its name."""
        return self.metrics.page(await self._store.usage_by_name())

    def _queue(self) -> tuple[int, int]:
        return self._batcher.room.calls, self._batcher.room.tokens

    async def register(self, texts: TextSet, subspace: Subspace | None) -> Registration:
        """Takes texts in; free.

        Raises:
            RefusalError: The subspace does not fit the model.
            LmaasError: What the engine refuses.
        """
        check_subspace(subspace, self.card)
        return await self._thread.run(lambda: self._engine.register(texts, subspace))

    async def upload(self, array: NDArray[np.float32]) -> str:
        """Takes an array in and names it by its digest; free."""
        return await self._thread.run(lambda: self._engine.upload(array))

    async def score(self, metered: Metered, query: ScoreQuery, *, media_type: str) -> Answer:
        """Scores candidates, once a key.

        Args:
            metered: Who asks, and under which key.
            query: What to score.
            media_type: The form of the answer.

        Raises:
            RefusalError: The query is too large, a limit or the balance is used up, or the key came with another query.
            LmaasError: What the engine refuses; nothing was billed.
        """
        check_score(query, self.card)

        async def compute(dropped: Callable[[], bool]) -> Answer:
            return await self._billed(
                metered,
                query,
                encode=lambda reply: _encoded(score_reply_message(reply), media_type),
                dropped=dropped,
            )

        return await self._answered(metered, compute)

    async def features(self, metered: Metered, query: FeatureQuery, *, media_type: str) -> Answer:
        """Computes hidden states, once a key; arguments and errors are those of `score`."""
        check_features(query, self.card)

        async def compute(dropped: Callable[[], bool]) -> Answer:
            return await self._billed(
                metered,
                query,
                encode=lambda reply: _encoded(feature_reply_message(reply), media_type),
                dropped=dropped,
            )

        return await self._answered(metered, compute)

    async def _answered(self, metered: Metered, compute: Compute) -> Answer:
        answer = await self._shared.answer(metered.key, metered.fingerprint, compute)
        if answer.replayed:
            self._store.count_replay(metered)
        return answer

    async def _billed(
        self,
        metered: Metered,
        query: _Query,
        *,
        encode: Callable[[Any], Answer],
        dropped: Callable[[], bool],
    ) -> Answer:
        """Admits a call by its exact count of tokens, computes it and settles its charge; a call not computed is free.

        The answer is out of our hands only after it is billed and kept: whoever is killed before has done nothing.
        """
        tokens, work = self._known_count(query), None
        if tokens is None:
            if (kept := await self._store.look(metered)) is not None:  # spares the counting, as does a 429
                return kept
            work = await self._work(query, dropped)
            tokens = self._remembered(query, sum(work.units))
        ticket = Ticket(metered.account.name, metered.key or metered.fingerprint)
        try:
            place = self._batcher.enter(ticket, tokens)
        except RefusalError:
            if (kept := await self._store.look(metered)) is not None:  # what need not be computed needs no room
                return kept
            raise
        try:
            cost_nanousd = metered.account.terms.cost_nanousd(Usage(input_tokens=tokens))
            charge = await self._store.admit(metered, tokens, cost_nanousd)
            if isinstance(charge, Answer):
                return charge
            return await self._settled(charge, query, work, encode=encode, dropped=dropped)
        finally:
            self._batcher.leave(place)

    async def _settled(
        self,
        charge: Charge,
        query: ScoreQuery | FeatureQuery,
        work: Work[Any] | None,
        *,
        encode: Callable[[Any], Answer],
        dropped: Callable[[], bool],
    ) -> Answer:
        """Computes a call that was admitted, and bills it or frees what was set aside for it.

        `work` is the query's, where it was needed for counting.
        """
        try:
            work = work or await self._work(query, dropped)
            reply = await self._batcher.run(charge.metered.account.name, work, dropped)
            answer = await asyncio.to_thread(encode, reply) if _is_large(reply) else encode(reply)
            answer = await self._store.settle(charge, reply.usage, answer)
        except BaseException:
            self._store.void(charge)
            raise
        self._answered_at = self._clocks.monotonic()
        return answer

    async def _work(self, query: ScoreQuery | FeatureQuery, dropped: Callable[[], bool]) -> Work[Any]:
        """A query as work; raises what computing it would refuse."""
        return await self._thread.run(lambda: self._engine.job(query), dropped=dropped)

    async def _computed(self, client: str, query: FeatureQuery) -> object:
        """The engine's reply to a query of ours, once its turn has come."""
        return await self._batcher.run(client, await self._work(query, lambda: False))

    def _known_count(self, query: ScoreQuery | FeatureQuery) -> int | None:
        """Tokens the query will be billed, where it names a registered set that was counted before."""
        return self._counts.get(_counted_alike(query)) if isinstance(query.texts, str) else None

    def _remembered(self, query: ScoreQuery | FeatureQuery, tokens: int) -> int:
        """The tokens of a query; those of a registered set are kept for the next one like it."""
        return self._counts.put(_counted_alike(query), tokens, 1) if isinstance(query.texts, str) else tokens


def _advertised(card: ModelCard, terms: Terms) -> ModelCard:
    able = replace(card.capabilities, idempotent=True)
    return replace(
        card, capabilities=able, price=terms.price, limits=terms.limits, endpoint_limits=terms.endpoint_limits
    )


def _counted_alike(query: ScoreQuery | FeatureQuery) -> tuple[Hashable, ...]:
    """Queries of which this is equal have equal counts, and are refused alike."""
    if isinstance(query, FeatureQuery):
        return ("features", str(query.texts), query.rows, query.pool)
    prompts = tuple(subspace.digest for subspace in query.subspaces)
    return ("score", str(query.texts), query.rows, prompts, query.n_candidates, query.top_k)


def _encoded(message: Message, media_type: str) -> Answer:
    return Answer(encode_message(message, media_type), media_type)


def _is_large(reply: ScoreReply | FeatureReply) -> bool:
    """Whether encoding it would hold up the event loop."""
    numbers = reply.logits if isinstance(reply, ScoreReply) else reply.features
    return numbers.size > _ENCODED_ON_LOOP_NUMBERS
