"""What calls to one endpoint share is worked out once, and anew where it would no longer be right."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from lmaas_backends.mock import MockBackend
from lmaas_sdk import Limits
from lmaas_sdk.accounting.ledger import MemoryLedger
from lmaas_sdk.traffic.lane import lane_of, limits_of, scope_of
from lmaas_sdk.traffic.routes import Routes

QUOTAS = Limits(requests_per_minute=7)


def routes_to(backend: MockBackend) -> Routes:
    return Routes(backend, MemoryLedger(), quotas=QUOTAS, wall=None)


async def test_a_route_is_what_its_parts_say() -> None:
    """Scope, limits and lane are those of the endpoint, and the next call gets the same route."""
    backend = MockBackend()
    routes = routes_to(backend)
    for endpoint in ("score", "features"):
        route = routes.to(endpoint)
        assert (scope_of(backend, endpoint), limits_of(backend.card, endpoint, QUOTAS)) == (route.scope, route.limits)
        assert lane_of(backend, endpoint, ledger=MemoryLedger(), wall=None) is route.lane
        assert route is routes.to(endpoint)


async def test_another_card_has_other_limits() -> None:
    """A backend that tells new limits is believed at the next call."""
    backend = MockBackend()
    routes = routes_to(backend)
    assert routes.to("score").limits.requests_per_minute == 7
    backend.card = replace(backend.card, limits=Limits(requests_per_minute=3))
    assert routes.to("score").limits.requests_per_minute == 3


def test_another_event_loop_has_another_lane() -> None:
    """Gates and breakers belong to the loop that made them."""
    routes = routes_to(MockBackend())

    async def lane() -> object:
        return routes.to("score").lane

    assert asyncio.run(lane()) is not asyncio.run(lane())
