"""Quotas of a key at an endpoint: what counts, what is refused and what is told, on clocks that the test sets."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from lmaas_backends.roberta.rate_limits import Clocks, EndpointQuota
from lmaas_backends.roberta.wire_errors import RefusalError
from lmaas_sdk.backend import Limits


class SetClock:
    """A clock that stands still until it is set."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def wait_of(quota: EndpointQuota, tokens: int = 0) -> float | None:
    """Admits a call, or tells the seconds to wait."""
    try:
        quota.check(tokens)
    except RefusalError as refusal:
        return refusal.retry_after_s
    quota.take(tokens)
    return None


def test_a_minute_slides() -> None:
    """What was admitted at t counts until, and not at, t + 60."""
    clock = SetClock()
    quota = EndpointQuota(Limits(requests_per_minute=2), Clocks(monotonic=clock))
    waits = []
    for clock.now in (0.0, 10.0, 59.75, 60.0, 60.0, 70.0):
        waits.append(wait_of(quota))

    assert waits == [None, None, 0.25, None, 10.0, None]


def test_tokens_wait_for_enough_of_them() -> None:
    """A call of many tokens waits until all it needs is free, and a refused one is not counted."""
    clock = SetClock()
    quota = EndpointQuota(Limits(tokens_per_minute=100), Clocks(monotonic=clock))
    waits = []
    for clock.now, tokens in ((0.0, 60), (5.0, 40), (10.0, 1), (10.0, 90), (60.0, 60), (61.0, 1)):
        waits.append(wait_of(quota, tokens))

    assert waits == [None, None, 50.0, 55.0, None, 4.0]


def test_a_call_that_can_never_fit_is_not_told_to_wait() -> None:
    """More tokens than a whole minute has is an invalid query, not a 429."""
    quota = EndpointQuota(Limits(tokens_per_minute=100), Clocks(monotonic=SetClock()))
    with pytest.raises(RefusalError, match="one call takes 101 tokens and the limit is 100") as caught:
        quota.check(101)

    assert caught.value.kind.name == "invalid_query"


def test_a_request_that_one_window_refuses_counts_in_none() -> None:
    """A call refused for its tokens leaves the count of requests alone."""
    quota = EndpointQuota(Limits(requests_per_minute=5, tokens_per_minute=10), Clocks(monotonic=SetClock()))
    waits = [wait_of(quota, 10), wait_of(quota, 1), wait_of(quota, 1)]

    assert waits == [None, 60.0, 60.0]
    assert quota.headers()["x-ratelimit-remaining-requests"] == "4"


def test_a_day_ends_at_midnight_of_its_zone() -> None:
    """The day's count begins again at local midnight, 23 hours after the last one when clocks go forward."""
    midnight = datetime(2026, 3, 29, tzinfo=ZoneInfo("Europe/Rome")).timestamp()
    clock = SetClock(midnight)
    limits = Limits(requests_per_day=1, day_time_zone="Europe/Rome")
    quota = EndpointQuota(limits, Clocks(monotonic=SetClock(), wall=clock))
    waits = [wait_of(quota), wait_of(quota)]
    clock.now = midnight + 23 * 3600 - 1
    waits.append(wait_of(quota))
    clock.now = midnight + 23 * 3600
    waits.append(wait_of(quota))

    assert waits == [None, 23 * 3600.0, 1.0, None]


def test_a_day_without_a_zone_is_any_24_hours() -> None:
    """Without a time zone what was admitted counts for 24 hours, whatever midnight it passes."""
    clock = SetClock(80_000.0)
    quota = EndpointQuota(Limits(requests_per_day=1), Clocks(monotonic=clock, wall=clock))
    waits = [wait_of(quota)]
    for clock.now in (90_000.0, 166_399.0, 166_400.0):
        waits.append(wait_of(quota))

    assert waits == [None, 76_400.0, 1.0, None]


def test_setting_the_wall_clock_back_gives_no_second_day() -> None:
    """A wall clock that goes back a day leaves the quota used up."""
    clock = SetClock(10 * 86400.0)
    limits = Limits(requests_per_day=1, day_time_zone="UTC")
    quota = EndpointQuota(limits, Clocks(monotonic=SetClock(), wall=clock))
    first = wait_of(quota)
    clock.now -= 86400.0

    assert (first, wait_of(quota)) == (None, 2 * 86400.0)


def test_calls_under_way_are_limited_without_a_time_to_wait() -> None:
    """As many calls as may be at once are admitted, and one more is 429: nobody knows when one of them ends."""
    quota = EndpointQuota(Limits(concurrency=2), Clocks())
    quota.check(in_flight=1)
    with pytest.raises(RefusalError, match="2 calls are under way and 2 may be at once") as caught:
        quota.check(in_flight=2)

    assert (caught.value.kind.status, caught.value.retry_after_s) == (429, None)


def test_headers_tell_limit_remaining_and_reset() -> None:
    """Each window has its three headers; resets are whole seconds, rounded up."""
    clock = SetClock()
    quota = EndpointQuota(Limits(requests_per_minute=3, tokens_per_minute=9), Clocks(monotonic=clock))
    quota.take(4)
    clock.now = 0.5

    assert quota.headers() == {
        "x-ratelimit-limit-requests": "3",
        "x-ratelimit-remaining-requests": "2",
        "x-ratelimit-reset-requests": "60",
        "x-ratelimit-limit-tokens": "9",
        "x-ratelimit-remaining-tokens": "5",
        "x-ratelimit-reset-tokens": "60",
    }


def test_the_report_tells_what_is_left_of_each_quota() -> None:
    """Windows have limit, remaining and reset; of the calls at once there is no reset."""
    clock = SetClock()
    limits = Limits(requests_per_minute=3, requests_per_day=5, concurrency=4)
    quota = EndpointQuota(limits, Clocks(monotonic=clock, wall=clock))
    quota.take(0)

    assert quota.report(in_flight=1) == {
        "requests": {"limit": 3, "remaining": 2, "reset_s": 60},
        "requests-day": {"limit": 5, "remaining": 4, "reset_s": 86_400},
        "concurrency": {"limit": 4, "remaining": 3},
    }
