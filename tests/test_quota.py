"""The count of one scope: what is taken counts for all, and whoever asks brings the limits."""

from __future__ import annotations

import math
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from lmaas_sdk.backend import Limits
from lmaas_sdk.errors import QuotaExceeded
from lmaas_sdk.traffic.quota import MARGIN_S, Quota, TwoDays, check_ever_fits
from lmaas_sdk.traffic.quota_memory import MemoryQuota
from lmaas_sdk.traffic.windows import DAY_S, SlidingWindow

MINUTE = 60 + MARGIN_S
ZONE = ZoneInfo("Asia/Shanghai")


def test_those_with_other_limits_see_the_same_count() -> None:
    """One asks with five a minute, the other with two, in turns: both see what was taken by either."""
    quota, five, two = Quota(), Limits(requests_per_minute=5), Limits(requests_per_minute=2)
    waits = []
    for number, limits in enumerate((five, two, five, two, five, five, five)):
        waits.append(quota.wait_s(1, limits, 1000.0))
        if waits[-1] == 0:
            quota.take(f"{number}", 1, 1000.0)
    assert waits == [0, 0, 0, MINUTE, 0, 0, MINUTE]


def test_all_limits_hold_at_once_and_the_longest_wait_counts() -> None:
    """Requests, tokens and days; a settled request frees tokens, a refunded one everything."""
    quota, now_s = Quota(), datetime(2026, 5, 1, 12, tzinfo=ZONE).timestamp()
    limits = Limits(requests_per_minute=2, tokens_per_minute=100, requests_per_day=3, day_time_zone="Asia/Shanghai")
    assert quota.wait_s(80, limits, now_s) == 0
    quota.take("a", 80, now_s)
    assert quota.taken_tokens("a") == 80
    assert quota.wait_s(30, limits, now_s + 10) == pytest.approx(MINUTE - 10)
    quota.settle("a", 70)
    assert quota.wait_s(30, limits, now_s + 10) == 0
    quota.take("b", 30, now_s + 10)
    assert quota.wait_s(0, limits, now_s + 20) == pytest.approx(MINUTE - 20)
    quota.refund("b")
    assert quota.wait_s(30, limits, now_s + 20) == 0
    for ticket in "cd":
        quota.take(ticket, 0, now_s + 20)
    assert quota.wait_s(0, limits, now_s + 200) == pytest.approx(12 * 3600 - 200 + MARGIN_S)


def test_days_of_two_time_zones_are_both_kept() -> None:
    """Three a day in Shanghai, and two in Honolulu, whose day is another one."""
    quota = Quota()
    limits = TwoDays(
        requests_per_day=2, day_time_zone="Pacific/Honolulu", other_per_day=3, other_time_zone="Asia/Shanghai"
    )
    taken: list[datetime] = []
    now_s = datetime(2026, 5, 1, tzinfo=ZONE).timestamp() + 1
    for number in range(300):
        if quota.wait_s(1, limits, now_s) == 0:
            quota.take(f"{number}", 1, now_s)
            taken.append(datetime.fromtimestamp(now_s, ZONE))
        now_s += 1200
    most = {
        zone: max(sum(one.astimezone(ZoneInfo(zone)).date() == day for one in taken) for day in _days(taken, zone))
        for zone in ("Pacific/Honolulu", "Asia/Shanghai")
    }
    assert most == {"Pacific/Honolulu": 2, "Asia/Shanghai": 3}


def _days(times: list[datetime], zone: str) -> set[object]:
    return {one.astimezone(ZoneInfo(zone)).date() for one in times}


@pytest.mark.parametrize(("one", "other"), [(2, 3), (3, 2), (2, None), (None, 2)])
def test_two_limits_of_one_time_zone_are_both_kept(one: int | None, other: int | None) -> None:
    """The smaller one holds, whichever it is, and none is no limit."""
    quota, zone = Quota(), "Asia/Shanghai"
    limits = TwoDays(requests_per_day=one, day_time_zone=zone, other_per_day=other, other_time_zone=zone)
    noon_s = datetime(2026, 5, 1, 12, tzinfo=ZONE).timestamp()
    taken = 0
    while taken < 5 and quota.wait_s(1, limits, noon_s) == 0:
        quota.take(f"{taken}", 1, noon_s)
        taken += 1
    assert taken == 2


def test_no_request_in_the_day_of_either_time_zone_is_refused_at_once() -> None:
    """No wait would help."""
    limits = TwoDays(requests_per_day=3, day_time_zone="UTC", other_per_day=0, other_time_zone="Asia/Shanghai")
    with pytest.raises(QuotaExceeded, match="allows no request at all"):
        check_ever_fits(1, limits)


def test_what_was_given_back_costs_nothing_later() -> None:
    """It is dropped, from the middle of a day too, and what counts on stays exact."""
    window, kept = SlidingWindow(10_000, DAY_S), 0
    for number in range(10_000):
        taken = window.take(1, float(number))
        if number % 1000:
            window.correct(taken, 0)
        else:
            kept += 1
    assert len(window._taken) <= 2 * kept + 1
    assert window.remaining(10_000.0) == 10_000 - kept
    assert (window.wait_s(9_991, 10_000.0), window.wait_s(9_992, 10_000.0)) == (DAY_S - 10_000, DAY_S - 9_000)


def test_what_was_given_back_in_any_order_is_counted_once() -> None:
    """Also when it has left the window, or is given back again."""
    window = SlidingWindow(100)
    taken = [window.take(2, float(number)) for number in range(40)]
    for one in (*taken[::-3], *taken[::5], *taken[:4]):
        window.correct(one, 0)
    counts = {number for number in range(40) if taken[number].amount}
    assert [window.remaining(now_s) for now_s in (59.0, 75.0, 99.0, 100.0)] == [
        100 - 2 * sum(number + 60 > now_s for number in counts) for now_s in (59.0, 75.0, 99.0, 100.0)
    ]


def test_nothing_is_sent_around_midnight() -> None:
    """What is on its way at midnight could count on either day."""
    quota, limits = Quota(), Limits(requests_per_day=100, day_time_zone="Asia/Shanghai")
    midnight_s = datetime(2026, 5, 2, tzinfo=ZONE).timestamp()
    moments = (-1.0, -MARGIN_S / 2, 0.0, MARGIN_S / 2, MARGIN_S)
    waits = [quota.wait_s(1, limits, midnight_s + moment) for moment in moments]
    assert waits == pytest.approx([0, 1.5 * MARGIN_S, MARGIN_S, MARGIN_S / 2, 0])


def test_what_never_fits_says_what_to_do() -> None:
    """Send less a call."""
    with pytest.raises(QuotaExceeded, match="51 tokens and 50 a minute are allowed: send less a call") as refused:
        check_ever_fits(51, Limits(tokens_per_minute=50))
    assert math.isinf(refused.value.wait_s)
    check_ever_fits(50, Limits(tokens_per_minute=50))


async def test_in_memory_a_full_quota_is_told_before_a_lack_of_places() -> None:
    """Its end is known, so that a call without the patience for it can give up."""
    quota, limits = MemoryQuota(lambda: 1000.0), Limits(requests_per_minute=2, concurrency=1)
    waits = [await quota.take("a", 1, limits), await quota.take("b", 1, limits)]
    quota.settle("a", 1)
    waits += [await quota.take("b", 1, limits), await quota.take("c", 1, limits)]
    assert waits == [0, math.inf, 0, MINUTE]
