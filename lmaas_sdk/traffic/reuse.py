"""Answers that need not be paid for again: those in the cache, and those that are on their way to somebody else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.backend import FeatureReply, ModelCard, ScoreReply
from lmaas_sdk.calls import Call
from lmaas_sdk.errors import BudgetExceeded, QuotaExceeded
from lmaas_sdk.traffic.cache import ReplyCache
from lmaas_sdk.traffic.coalesce import Coalescer
from lmaas_sdk.traffic.query_digest import query_digest

__all__ = ["Reuse"]

_Reply = ScoreReply | FeatureReply

# What the budget or the patience of one asker ends is no answer to the others.
_OWN_AFFAIRS = (BudgetExceeded, QuotaExceeded)


class Reuse:
    """Coalescing and cache, in front of everything that costs.

    Args:
        card: Of the backend. One that is not deterministic answers equal queries differently, so there only attempts
            at the very same call are put together, and nothing is kept.
        cache: Where answers are kept; None: neither kept nor put together.
    """

    def __init__(self, card: ModelCard, cache: ReplyCache | None) -> None:
        self._card, self._cache = card, cache
        self._keeps = card.capabilities.deterministic
        self._in_flight: Coalescer[_Reply] = Coalescer(_OWN_AFFAIRS)

    async def answer(self, call: Call, send: Callable[[], Awaitable[_Reply]]) -> tuple[_Reply, bool]:
        """The answer to a call, and whether it cost nothing.

        Args:
            call: What is asked.
            send: Asks the backend; used where nobody has the answer and nobody has asked.
        """
        cache = self._cache
        if cache is None:
            return await send(), False
        digest = query_digest(call.query, self._card)
        if not self._keeps:
            return await self._in_flight.run(f"{digest}/{call.key}", send)
        known = await cache.get(digest)
        if known is not None:
            return known, True

        async def send_and_keep() -> _Reply:
            reply = _read_only(await send())
            await cache.put(digest, reply)
            return reply

        return await self._in_flight.run(digest, send_and_keep)


def _read_only(reply: _Reply) -> _Reply:
    """The reply with arrays that none of those who share it can change."""
    if isinstance(reply, ScoreReply):
        return replace(reply, logits=_frozen(reply.logits))
    return replace(reply, features=_frozen(reply.features))


def _frozen(array: NDArray[np.float32]) -> NDArray[np.float32]:
    view = array.view()
    view.flags.writeable = False
    return view
