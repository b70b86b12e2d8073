"""The quota of one scope, counted in this process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from lmaas_sdk.backend import Limits
from lmaas_sdk.traffic.quota import Quota

__all__ = ["MemoryQuota"]


class MemoryQuota:
    """Requests of this process alone. A gate in front of it sees to the order.

    Args:
        wall: Seconds since 1970.
    """

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._quota = Quota()

    async def take(self, ticket: str, tokens: int, limits: Limits) -> float:
        now_s = self._wall()
        wait_s = self._quota.wait_s(tokens, limits, now_s)
        if wait_s > 0:
            return wait_s
        if limits.concurrency is not None and self._quota.under_way >= limits.concurrency:
            return math.inf
        self._quota.take(ticket, tokens, now_s)
        return 0.0

    def pause_s(self, wait_s: float) -> float:
        return wait_s

    def settle(self, ticket: str, tokens: int) -> None:
        self._quota.settle(ticket, tokens)

    def refund(self, ticket: str) -> None:
        self._quota.refund(ticket)
