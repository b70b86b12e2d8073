"""Requests in flight: those with one idempotency key share one computation.

What is finished is kept by the `UsageStore`. What failed is not kept: the next request with its key tries again.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace

from lmaas_backends.roberta.kept_answers import Answer
from lmaas_backends.roberta.wire_errors import RefusalError

__all__ = ["Answer", "CallDroppedError", "Compute", "SharedCalls"]


class CallDroppedError(Exception):
    """Everyone who asked went away before the call was computed; it was not billed."""


class _Call:
    """One computation and those who wait for it."""

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self.outcome: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.dropped = threading.Event()
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


class SharedCalls:
    """The calls in flight.

    Args:
        tasks: Where computations run; they outlive the request that started them.
    """

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._open: set[_Call] = set()
        self._by_key: dict[str, _Call] = {}

    @property
    def awaited(self) -> int:
        """Computations that are not finished and that somebody waits for."""
        return sum(not call.dropped.is_set() for call in self._open)

    async def answer(self, key: str | None, fingerprint: str, compute: Compute) -> Answer:
        """The answer to a request; `replayed` where it was made for another one.

        Args:
            key: The idempotency key with its scope; None: nothing is shared.
            fingerprint: Of the whole request: equal fingerprints, equal requests.
            compute: Makes the answer; it is given a callable that says whether everyone has gone away.

        Raises:
            RefusalError: key_reused: the key came with another request before.
            Exception: Whatever `compute` raised.
        """
        while True:
            call = self._found(key, fingerprint)
            try:
                if call is None:
                    return await self._started(key, fingerprint, compute).wait()
                return replace(await call.wait(), replayed=True)
            except CallDroppedError:
                # Those before us left while it was queued, and we came before it noticed: it starts anew for us.
                continue

    def _found(self, key: str | None, fingerprint: str) -> _Call | None:
        call = None if key is None else self._by_key.get(key)
        if call is not None and call.fingerprint != fingerprint:
            raise RefusalError("key_reused", "this Idempotency-Key came with another request before")
        return call

    def _started(self, key: str | None, fingerprint: str, compute: Compute) -> _Call:
        call = _Call(fingerprint)
        self._open.add(call)
        if key is not None:
            self._by_key[key] = call
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
        finally:
            call.outcome.cancel()  # does nothing but when this task itself was cancelled
            self._open.discard(call)
            if key is not None:
                del self._by_key[key]
