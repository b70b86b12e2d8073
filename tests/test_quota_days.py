"""A hundred calls a day, for a month with a change of clocks in it: exactly that, and none early."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from client_cases import COUNTS, SUBSPACE, TEXTS

from lmaas_backends.mock import MockBackend
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.backend import Limits, ScoreQuery
from lmaas_sdk.client import Client
from lmaas_sdk.testing import run_virtual
from lmaas_sdk.traffic.lane import loop_wall

DAYS = 30
ZONE = "Europe/Berlin"


async def a_month(opened: datetime, limits: Limits) -> tuple[list[datetime], MockBackend]:
    """When each call of more than a month's worth reached the provider, which keeps the quota too."""
    started_s = opened.timestamp()
    wall = loop_wall(lambda: started_s)
    backend = MockBackend(limits=limits, opened=opened, latency_s=0.1)
    client = Client(backend, Budget(), wall=wall)
    ends_s = (opened + timedelta(days=DAYS)).timestamp()
    times: list[datetime] = []
    numbers = iter(range(100 * DAYS + 500))

    async def caller() -> None:
        for number in numbers:
            z = np.full((1, SUBSPACE.d), number, np.float32)
            call = client.call(
                ScoreQuery(TEXTS, subspace=SUBSPACE, Z=z), f"{number}", purpose="train", token_counts=COUNTS
            )
            await client.score(call)
            if wall() >= ends_s:
                return
            times.append(datetime.fromtimestamp(wall() - 0.1, UTC))

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(caller())
    return times, backend


@pytest.mark.parametrize("begins", [(2026, 3, 14), (2026, 10, 10)], ids=["to summer time", "to winter time"])
def test_a_hundred_a_day_for_thirty_days_over_a_change_of_clocks(begins: tuple[int, int, int]) -> None:
    """Three thousand in all, a hundred on each local day, and the provider never has to refuse one."""
    zone = ZoneInfo(ZONE)
    opened = datetime(*begins, tzinfo=zone)
    times, backend = run_virtual(a_month(opened, Limits(requests_per_day=100, day_time_zone=ZONE)))
    a_day = Counter(time.astimezone(zone).date() for time in times)
    assert len({(time.astimezone(zone).utcoffset()) for time in times}) == 2  # the clocks did change
    assert len(times) == 100 * DAYS
    assert a_day == {(opened + timedelta(days=day)).date(): 100 for day in range(DAYS)}
    assert backend.book.limited == 0


def test_a_rolling_day_knows_no_midnight() -> None:
    """Without a time zone any 24 hours hold a hundred at most."""
    opened = datetime(2026, 3, 14, 20, tzinfo=UTC)
    times, backend = run_virtual(a_month(opened, Limits(requests_per_day=100)))
    day = timedelta(days=1)
    assert all(later - earlier >= day for earlier, later in zip(times, times[100:], strict=False))
    assert len(times) == 100 * DAYS
    assert backend.book.limited == 0
