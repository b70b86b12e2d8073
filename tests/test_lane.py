"""Lanes: what the clients of a backend share on their way to an endpoint."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from lmaas_backends.mock import MockBackend
from lmaas_sdk.accounting.ledger import MemoryLedger
from lmaas_sdk.accounting.ledger_file import open_ledger
from lmaas_sdk.backend import Limits
from lmaas_sdk.errors import QuotaExceeded
from lmaas_sdk.testing import run_virtual
from lmaas_sdk.traffic.lane import lane_of, limits_of, loop_wall, scope_of

ONE = Limits(requests_per_minute=1)


def with_account(account: str) -> MockBackend:
    """A backend behind an API key of that name."""
    backend = MockBackend()
    backend.account = account  # type: ignore[attr-defined]
    return backend


async def passes(backend: MockBackend, endpoint: str = "score") -> bool:
    """Whether one more request goes out within a second."""
    lane = lane_of(backend, endpoint, ledger=MemoryLedger(), wall=None)
    try:
        permit = await lane.gate.enter(1, ONE, patience_s=1)
    except QuotaExceeded:
        return False
    permit.settle(1)
    return True


async def test_clients_of_one_backend_share_a_lane_and_endpoints_do_not() -> None:
    """Each endpoint has a quota of its own; the circuit is the backend's."""
    backend, ledger = MockBackend(), MemoryLedger()
    score = lane_of(backend, "score", ledger=ledger, wall=None)
    assert lane_of(backend, "score", ledger=MemoryLedger(), wall=None) is score
    features = lane_of(backend, "features", ledger=ledger, wall=None)
    assert features.gate is not score.gate
    assert features.breaker is score.breaker
    assert [await passes(backend), await passes(backend), await passes(backend, "features")] == [True, False, True]


async def test_connections_with_one_api_key_share_its_quota() -> None:
    """Another key has its own, and so have backends that tell of none."""
    ann, again, bob = with_account("ann"), with_account("ann"), with_account("bob")
    assert [await passes(backend) for backend in (ann, again, bob, MockBackend(), MockBackend())] == [
        True,
        False,
        True,
        True,
        True,
    ]


async def test_connections_with_one_api_key_wait_in_one_line() -> None:
    """What one gives back lets the other's request out."""
    one, other = (lane_of(with_account("ann"), "score", ledger=MemoryLedger(), wall=None) for _ in range(2))
    limits = Limits(concurrency=1)
    permit = await one.gate.enter(1, limits)
    waiting = asyncio.create_task(other.gate.enter(1, limits))
    await asyncio.sleep(0)
    permit.settle(1)
    async with asyncio.timeout(10):
        (await waiting).settle(1)


async def test_what_a_closed_connection_sent_counts_for_the_next() -> None:
    """With the same key."""
    first = with_account("ann")
    assert await passes(first)
    await first.aclose()
    del first
    gc.collect()
    assert not await passes(with_account("ann"))


def test_loops_that_are_closed_are_forgotten() -> None:
    """Though what waits in a loop refers to it."""
    backend, gone = with_account("ann"), list[weakref.ref[asyncio.AbstractEventLoop]]()

    async def use() -> None:
        await passes(backend)
        gone.append(weakref.ref(asyncio.get_running_loop()))

    asyncio.run(use())
    asyncio.run(use())
    gc.collect()
    assert gone[0]() is None


async def test_a_ledger_file_has_lanes_of_its_own(tmp_path: Path) -> None:
    """They count in the file."""
    backend = MockBackend()
    memory = lane_of(backend, "score", ledger=MemoryLedger(), wall=None)
    async with open_ledger(tmp_path / "l.ledger") as ledger:
        shared = lane_of(backend, "score", ledger=ledger, wall=None)
        assert shared is not memory
        assert shared is lane_of(backend, "score", ledger=ledger, wall=None)
        (await shared.gate.enter(1, ONE)).settle(1)
        await ledger.flush()
        rows = await ledger.execute(lambda rows: rows.execute("SELECT scope, kind FROM quota_events").fetchall())
    assert rows == [("mock/score", "take"), ("mock/score", "settle")]


def test_every_event_loop_has_lanes_of_its_own() -> None:
    """What waits in one loop cannot be woken by another."""
    backend = MockBackend()

    async def lane() -> object:
        return lane_of(backend, "score", ledger=MemoryLedger(), wall=None)

    assert asyncio.run(lane()) is not asyncio.run(lane())


def test_a_scope_names_key_and_endpoint() -> None:
    """A key means one call only within it."""
    assert scope_of(MockBackend(name="m"), "score") == "m/score"
    assert scope_of(with_account("3fa1"), "features") == "mock/features@3fa1"


def test_the_smaller_limit_of_card_and_user_holds() -> None:
    """Field by field, and by endpoint."""
    card = MockBackend(limits=Limits(requests_per_minute=10, tokens_per_minute=100)).card
    given = {"score": Limits(requests_per_minute=20, tokens_per_minute=50, concurrency=3)}
    assert limits_of(card, "score", given) == Limits(requests_per_minute=10, tokens_per_minute=50, concurrency=3)
    assert limits_of(card, "features", given) == card.limits
    assert limits_of(MockBackend().card, "score", "wudao-2021") == Limits(
        requests_per_day=100, day_time_zone="Asia/Shanghai"
    )


def test_the_days_of_card_and_user_are_both_kept() -> None:
    """In their own time zones: over ten days no day of either has more than its limit, and one of each is used up."""
    card = MockBackend(limits=Limits(requests_per_day=4, day_time_zone="Pacific/Honolulu")).card
    limits = limits_of(card, "score", Limits(requests_per_day=3, day_time_zone="Asia/Shanghai"))

    async def main() -> list[datetime]:
        wall, times = loop_wall(lambda: datetime(2026, 5, 1, 9, tzinfo=UTC).timestamp()), list[datetime]()
        gate = lane_of(MockBackend(), "score", ledger=MemoryLedger(), wall=wall).gate
        for _ in range(30):
            (await gate.enter(1, limits)).settle(1)
            times.append(datetime.fromtimestamp(wall(), UTC))
            await asyncio.sleep(3600 * 5)
        return times

    times = run_virtual(main())
    zones = [ZoneInfo(name) for name in ("Pacific/Honolulu", "Asia/Shanghai")]
    most = [max(Counter(one.astimezone(zone).date() for one in times).values()) for zone in zones]
    assert most == [4, 3]


@pytest.mark.parametrize(("given", "error"), [("wudao", ValueError), (7, TypeError), ({"score": 7}, TypeError)])
def test_senseless_quotas_are_refused(given: object, error: type[Exception]) -> None:
    """The message names what there is."""
    with pytest.raises(error, match=r"wudao-2021|Limits"):
        limits_of(MockBackend().card, "score", given)  # type: ignore[arg-type]


async def test_the_wall_goes_with_the_loop() -> None:
    """It begins at the time given, and nobody sets it back."""
    wall = loop_wall(lambda: 5000.0)
    assert 0 <= wall() - 5000.0 < 60
