"""What the calls of one client to one endpoint have in common, worked out once and not at every call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from lmaas_sdk.accounting.ledger import Ledger
from lmaas_sdk.backend import Backend, Limits, ModelCard
from lmaas_sdk.traffic.lane import Lane, lane_of, limits_of, scope_of
from lmaas_sdk.traffic.quota_presets import Quotas

__all__ = ["Route", "Routes"]


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """The way to one endpoint, in one event loop.

    Args:
        scope: Names API key and endpoint: within it a key means one call.
        limits: The quotas that hold.
        lane: Gate and circuit breaker.
        card: Of the backend, which the limits are from.
        loop: Where the lane is good.
    """

    scope: str
    limits: Limits
    lane: Lane
    card: ModelCard
    loop: asyncio.AbstractEventLoop

    @property
    def is_free(self) -> bool:
        """Whether an attempt goes out now without waiting for anything."""
        return self.lane.gate.is_free(self.limits) and not self.lane.breaker.is_open


class Routes:
    """Routes by endpoint.

    Args:
        backend: Where calls go.
        ledger: Where quotas are counted, if it is a file.
        quotas: Limits beside those that the backend's card tells.
        wall: Seconds since 1970; None: the loop's clock.
    """

    def __init__(
        self, backend: Backend, ledger: Ledger, *, quotas: Quotas | None, wall: Callable[[], float] | None
    ) -> None:
        self._backend, self._ledger, self._quotas, self._wall = backend, ledger, quotas, wall
        self._known: dict[str, Route] = {}

    def to(self, endpoint: str) -> Route:
        """The route to "score" or "features" in the running loop."""
        route, card, loop = self._known.get(endpoint), self._backend.card, asyncio.get_running_loop()
        if route is None or route.card is not card or route.loop is not loop:
            lane = lane_of(self._backend, endpoint, ledger=self._ledger, wall=self._wall)
            limits = limits_of(card, endpoint, self._quotas)
            route = self._known[endpoint] = Route(scope_of(self._backend, endpoint), limits, lane, card, loop)
        return route
