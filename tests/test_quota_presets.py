"""Quotas by name, and what holds where a provider and a user both give some."""

from __future__ import annotations

from collections import Counter

import pytest

from lmaas_sdk.backend import Limits
from lmaas_sdk.traffic.quota import TwoDays
from lmaas_sdk.traffic.quota_presets import QUOTA_PRESETS, quotas_of, stricter

A_DAY = Limits(requests_per_day=100, day_time_zone="Asia/Shanghai")


def test_wudao_in_2021() -> None:
    """Nine endpoints with a hundred a day, but for two: a thousand for features."""
    preset = QUOTA_PRESETS["wudao-2021"]
    a_day = {name: limits.requests_per_day for name, limits in preset.items()}
    assert Counter(a_day.values()) == {100: 7, 1000: 2}
    assert {name for name, count in a_day.items() if count == 1000} == {"features", "image-features"}
    assert {limits.day_time_zone for limits in preset.values()} == {"Asia/Shanghai"}
    assert (quotas_of("wudao-2021", "score"), quotas_of("wudao-2021", "another")) == (A_DAY, None)


def test_quotas_are_given_for_all_endpoints_or_for_some() -> None:
    """Limits alone hold for each endpoint by itself."""
    given = {"features": Limits(concurrency=2)}
    assert [quotas_of(None, "score"), quotas_of(A_DAY, "score"), quotas_of(A_DAY, "features")] == [None, A_DAY, A_DAY]
    assert [quotas_of(given, "score"), quotas_of(given, "features")] == [None, Limits(concurrency=2)]


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../secret", "Asia"])
def test_a_time_zone_that_does_not_exist_is_refused(zone: str) -> None:
    """By its name, before anything is sent."""
    with pytest.raises(ValueError, match="day_time_zone is a zone like 'Asia/Shanghai', not "):
        quotas_of(Limits(requests_per_day=1, day_time_zone=zone), "score")


def test_of_two_limits_the_smaller_one_holds() -> None:
    """Whichever side it is on, and none is no limit."""
    one = Limits(requests_per_minute=10, concurrency=4, requests_per_day=100, day_time_zone="UTC")
    other = Limits(requests_per_minute=20, tokens_per_minute=5, requests_per_day=99, day_time_zone="UTC")
    smaller = Limits(10, 5, 99, "UTC", 4)
    assert [stricter(one, other), stricter(other, one), stricter(one, None)] == [smaller, smaller, one]
    assert stricter(Limits(), A_DAY) == stricter(A_DAY, Limits()) == A_DAY


def test_days_of_different_time_zones_both_hold() -> None:
    """Two hundred fit into a day of Shanghai that are a hundred in each of two days of the provider."""
    of_provider = Limits(requests_per_day=100, day_time_zone="UTC")
    of_user = Limits(requests_per_day=120, day_time_zone="Asia/Shanghai")
    both = TwoDays(requests_per_day=100, day_time_zone="UTC", other_per_day=120, other_time_zone="Asia/Shanghai")
    assert stricter(of_provider, of_user) == stricter(of_user, of_provider) == both
    rolling = stricter(of_provider, Limits(requests_per_day=50))
    assert rolling == TwoDays(requests_per_day=50, other_per_day=100, other_time_zone="UTC")
