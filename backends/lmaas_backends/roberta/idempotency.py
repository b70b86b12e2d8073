"""Idempotency keys: the same key and body get the same bytes, computed and billed once, for 24 hours.

Requests with one key share one computation, whether it is finished or still going on. What failed is not kept: the next
request with its key tries again.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from lmaas_backends.roberta.wire_errors import RefusalError

__all__ = ["Answer", "CallDroppedError", "IdempotentCalls"]

_KEPT_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The body of a 200 answer and its media type."""

    body: bytes
    media_type: str


class CallDroppedError(Exception):
    """Everyone who asked went away before the call was computed; it was not billed."""


class _Call:
    """One computation and those who wait for it."""

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self.outcome: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.dropped = threading.Event()
        self.expires_at = float("inf")
        self._askers = 0

    async def wait(self) -> Answer:
        """The outcome. When the last asker is cancelled, the computation is told that nobody waits for it."""
        self._askers += 1
        try:
            return await asyncio.shield(self.outcome)
        finally:
            self._askers -= 1
            if not self._askers and not self.outcome.done():
                self.dropped.set()


Compute = Callable[[Callable[[], bool]], Awaitable[Answer]]


class IdempotentCalls:
    """The calls in flight, and the answers of finished ones by key.

    Args:
        tasks: Where computations run; they outlive the request that started them.
        now: A monotonic clock in seconds.
        most_answers, most_bytes: The oldest answers are forgotten beyond these.
    """

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        now: Callable[[], float],
        *,
        most_answers: int = 10_000,
        most_bytes: int = 256 << 20,
    ) -> None:
        self._tasks, self._now = tasks, now
        self._most_answers, self._most_bytes = most_answers, most_bytes
        self._open: set[_Call] = set()
        self._in_flight: dict[str, _Call] = {}
        self._kept: OrderedDict[str, _Call] = OrderedDict()
        self._kept_bytes = 0

    @property
    def awaited(self) -> int:
        """Computations that are not finished and that somebody waits for."""
        return sum(not call.dropped.is_set() for call in self._open)

    async def answer(self, key: str | None, fingerprint: str, compute: Compute) -> Answer:
        """The answer to a request.

        Args:
            key: The idempotency key with its scope; None: nothing is shared or kept.
            fingerprint: Of the whole request: equal fingerprints, equal requests.
            compute: Makes the answer; it is given a callable that says whether everyone has gone away.

        Raises:
            RefusalError: key_reused: the key came with another request before.
            Exception: Whatever `compute` raised.
        """
        while True:
            call = self._found(key, fingerprint) or self._started(key, fingerprint, compute)
            try:
                return await call.wait()
            except CallDroppedError:
                # Those before us left while it was queued, and we came before it noticed: it starts anew for us.
                continue

    def _found(self, key: str | None, fingerprint: str) -> _Call | None:
        if key is None:
            return None
        self._forget_old()
        call = self._in_flight.get(key) or self._kept.get(key)
        if call is not None and call.fingerprint != fingerprint:
            raise RefusalError("key_reused", "this Idempotency-Key came with another request before")
        return call

    def _started(self, key: str | None, fingerprint: str, compute: Compute) -> _Call:
        call = _Call(fingerprint)
        self._open.add(call)
        if key is not None:
            self._in_flight[key] = call
        self._tasks.create_task(self._settle(key, call, compute))
        return call

    async def _settle(self, key: str | None, call: _Call, compute: Compute) -> None:
        try:
            answer = await compute(call.dropped.is_set)
        except Exception as error:  # every asker gets it raised from `wait`
            call.outcome.set_exception(error)
            call.outcome.exception()  # read once here: there may be no asker left
        else:
            call.outcome.set_result(answer)
            self._keep(key, call, answer)
        finally:
            call.outcome.cancel()  # does nothing but when this task itself was cancelled
            self._open.discard(call)
            if key is not None:
                self._in_flight.pop(key, None)

    def _keep(self, key: str | None, call: _Call, answer: Answer) -> None:
        if key is None:
            return
        call.expires_at = self._now() + _KEPT_S
        self._kept[key] = call
        self._kept_bytes += len(answer.body)
        self._forget_old()

    def _forget_old(self) -> None:
        """Calls are kept in the order they finished in, so the first is always the oldest."""
        while self._kept and (
            next(iter(self._kept.values())).expires_at <= self._now()
            or len(self._kept) > self._most_answers
            or self._kept_bytes > self._most_bytes
        ):
            _, call = self._kept.popitem(last=False)
            self._kept_bytes -= len(call.outcome.result().body)
