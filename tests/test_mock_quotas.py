"""The mock's quotas: exact windows, exact waits, and a refusal that uses up nothing."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from lmaas_backends.mock import MockBackend
from lmaas_sdk.backend import Limits, ScoreQuery
from lmaas_sdk.errors import InvalidQuery, RateLimited
from lmaas_sdk.testing import run_virtual
from lmaas_sdk.texts import MASK, LabelWords, Piece, TextSet

TEXTS = TextSet(((Piece("field", "a fine film"), MASK),), LabelWords((" bad", " great")))
TOKENS = 6  # 2 special + 3 words + 1 mask
QUERY = ScoreQuery(TEXTS)
DAY_S = 86_400.0


async def outcome(backend: MockBackend, key: str) -> float | str | None:
    """What a call meets: "ok", or the wait it is told."""
    try:
        await backend.score(QUERY, key=key)
    except RateLimited as limit:
        return limit.retry_after_s
    return "ok"


def test_requests_per_minute_is_an_exact_sliding_window() -> None:
    """Two a minute: the third is told the wait to the microsecond, and is admitted exactly then."""

    async def main() -> list[object]:
        backend = MockBackend(limits=Limits(requests_per_minute=2))
        found: list[object] = [await outcome(backend, "a")]
        await asyncio.sleep(10)
        found += [await outcome(backend, "b"), await outcome(backend, "c")]
        await asyncio.sleep(49.5)
        found.append(await outcome(backend, "c"))
        await asyncio.sleep(0.5)
        found += [await outcome(backend, "c"), await outcome(backend, "d")]
        return [*found, backend.book.attempts, backend.book.limited]

    assert run_virtual(main()) == ["ok", "ok", 50.0, 0.5, "ok", 10.0, 3, 3]


def test_tokens_per_minute_waits_for_enough_to_leave() -> None:
    """The wait is until as many tokens have left the window as the call needs."""

    async def main() -> list[object]:
        backend = MockBackend(limits=Limits(tokens_per_minute=2 * TOKENS))
        found: list[object] = []
        for key in ("a", "b", "c"):
            found.append(await outcome(backend, key))
            await asyncio.sleep(5)
        await asyncio.sleep(45)
        return [*found, await outcome(backend, "c"), await outcome(backend, "d")]

    assert run_virtual(main()) == ["ok", "ok", 50.0, "ok", 5.0]


async def test_a_call_above_the_tokens_per_minute_never_fits() -> None:
    """Waiting would not help such a call, so it is refused as a wrong query."""
    with pytest.raises(InvalidQuery, match="send it in parts"):
        await MockBackend(limits=Limits(tokens_per_minute=TOKENS - 1)).score(QUERY, key="k")


def test_requests_per_day_slide_over_24_hours() -> None:
    """Without a time zone a day is the last 24 hours."""

    async def main() -> list[object]:
        backend = MockBackend(limits=Limits(requests_per_day=1))
        found = [await outcome(backend, "a")]
        await asyncio.sleep(DAY_S / 4)
        return [*found, await outcome(backend, "b")]

    assert run_virtual(main()) == ["ok", 0.75 * DAY_S]


def test_requests_per_day_start_anew_at_local_midnight() -> None:
    """With a time zone the day ends at its midnight: 22:30 UTC is 23:30 in Berlin in winter."""
    opened = datetime(2026, 1, 10, 22, 30, tzinfo=UTC)
    backend = MockBackend(limits=Limits(requests_per_day=1, day_time_zone="Europe/Berlin"), opened=opened)

    async def main() -> list[object]:
        found: list[object] = [await outcome(backend, "a"), await outcome(backend, "b")]
        await asyncio.sleep(1800)
        return [*found, await outcome(backend, "b"), await outcome(backend, "c")]

    assert run_virtual(main()) == ["ok", 1800.0, "ok", DAY_S]


def test_concurrency_is_enforced_and_booked() -> None:
    """Of four calls at once two are taken up and two refused; afterwards there is room again."""

    async def main() -> tuple[list[object], int]:
        backend = MockBackend(limits=Limits(concurrency=2), latency_s=10.0)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(outcome(backend, key)) for key in "abcd"]
        found: list[object] = [task.result() for task in tasks]
        return [*found, await outcome(backend, "e")], backend.book.max_in_flight

    assert run_virtual(main()) == (["ok", "ok", None, None, "ok"], 2)


async def test_the_quotas_read_the_injected_clock() -> None:
    """A clock of one's own rules the windows."""
    clock = [0.0]
    backend = MockBackend(limits=Limits(requests_per_minute=1), clock_s=lambda: clock[0])
    found = [await outcome(backend, "a"), await outcome(backend, "b")]
    clock[0] = 60.0
    assert [*found, await outcome(backend, "b")] == ["ok", 60.0, "ok"]


async def test_a_replay_takes_no_tokens_of_the_quota() -> None:
    """Answering a known key again counts as a request and uses up no tokens."""
    limits = Limits(tokens_per_minute=TOKENS, requests_per_minute=3)
    backend = MockBackend(limits=limits, clock_s=lambda: 0.0)
    found = [await outcome(backend, key) for key in ("a", "a", "b", "a", "a")]
    assert found == ["ok", "ok", 60.0, "ok", 60.0]
