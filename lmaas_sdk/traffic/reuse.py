"""Answers that need not be paid for again: those in the cache, and those that are on their way to somebody else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from lmaas_sdk.backend import FeatureReply, ModelCard, ScoreReply
from lmaas_sdk.calls import Call
from lmaas_sdk.errors import BudgetExceeded, QuotaExceeded
from lmaas_sdk.traffic.cache import MemoryCache, ReplyCache, kept_reply
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
        cache: Where answers are kept; None: neither kept nor put together. A card that does not name its engine is
            trusted for as long as it is open, so its answers are kept in memory alone.

    Attributes:
        cache: As given.
        keeps: Whether answers of this backend are kept there.
    """

    def __init__(self, card: ModelCard, cache: ReplyCache | None) -> None:
        self._card, self.cache = card, cache
        is_trusted = bool(card.fingerprint) or isinstance(cache, MemoryCache)
        self.keeps = cache is not None and card.capabilities.deterministic and is_trusted
        self._in_flight: Coalescer[Any] = Coalescer(_OWN_AFFAIRS)

    def of(self, card: ModelCard) -> Reuse:
        """The same for another backend; answers in the cache are told apart by what the card names."""
        return Reuse(card, self.cache)

    async def answer(self, call: Call, send: Callable[[], Awaitable[_Reply]]) -> tuple[_Reply, bool]:
        """The answer to a call, and whether it cost nothing.

        Args:
            call: What is asked.
            send: Asks the backend; used where nobody has the answer and nobody has asked.
        """
        cache = self.cache
        if cache is None:
            return await send(), False
        digest = query_digest(call.query, self._card)
        if not self.keeps:
            reply, joined = await self._in_flight.run(f"{digest}/{call.key}", send)
            return (kept_reply(reply), True) if joined else (reply, False)
        (reply, was_kept), joined = await self._in_flight.run(digest, partial(_found_or_sent, send, cache, digest))
        return (kept_reply(reply), True) if joined else (reply, was_kept)


async def _found_or_sent(send: Callable[[], Awaitable[_Reply]], cache: ReplyCache, digest: str) -> tuple[_Reply, bool]:
    """The answer, and whether it was in the cache: looked up within the shared call, so that nobody looks too early."""
    known = await cache.get(digest)
    if known is not None:
        return known, True
    reply = await send()
    await cache.put(digest, reply)
    return reply, False
