"""What a provider does: latencies, failures, outages, quotas."""

import math
from datetime import datetime
from typing import Any

import numpy as np
import pytest

from lmaas_sdk.backend import Limits
from lmaas_sdk.planning.conditions import Conditions, Failures, Latency, Outage
from lmaas_sdk.planning.ranges import Range
from lmaas_sdk.seeding import bit_generator


def drawn(latency: Latency, *, pairs: int = 32, count: int = 20_000) -> np.ndarray[Any, np.dtype[np.float64]]:
    generator = np.random.Generator(bit_generator(0, "latency"))
    return np.array([latency.draw_s(pairs, generator) for _ in range(count)])


def test_a_latency_has_its_median_its_spread_and_its_stragglers() -> None:
    """The median is that of the attempts that are none; they are as many, and as slow, as is said."""
    seconds = drawn(Latency(median_s=2.0, spread=0.3, slow=0.05, slow_factor=100.0))
    slow = seconds > 20
    assert 0.05 == pytest.approx(slow.mean(), rel=0.1)
    assert 2.0 == pytest.approx(np.median(seconds[~slow]), rel=0.02)
    assert 0.3 == pytest.approx(np.log(seconds[~slow]).std(), rel=0.03)


def test_what_is_measured_is_drawn_as_it_was() -> None:
    """In the place of the log-normal."""
    assert {1.0, 5.0} == set(drawn(Latency(median_s=3.0, measured_s=(1.0, 5.0)), count=100))


def test_work_takes_time_by_the_text() -> None:
    """And what is constant is known to be."""
    latency = Latency(median_s=1.0, per_text_s=0.25)
    assert {9.0} == set(drawn(latency, pairs=32, count=10))
    assert latency.is_constant


def test_no_attempt_takes_longer_than_a_century() -> None:
    """However far it strays."""
    assert 3.2e9 == drawn(Latency(median_s=1e6, spread=10.0, slow=0.5, slow_factor=1e6), count=1000).max()


@pytest.mark.parametrize(
    "latency",
    [Latency(median_s=1, spread=0.1), Latency(median_s=1, slow=0.1), Latency(measured_s=(1.0, 2.0))],
)
def test_what_may_vary_is_not_constant(latency: Latency) -> None:
    """By spread, by stragglers, by measurement."""
    assert not latency.is_constant


def test_an_outage_is_on_from_its_beginning_to_before_its_end() -> None:
    """At its end it is over."""
    outage = Outage(after_s=10, lasts_s=5)
    assert [False, True, True, False] == [outage.covers(second) for second in (9.9, 10, 14.9, 15)]


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Latency(median_s=-1), "median_s"),
        (lambda: Latency(spread=math.nan), "spread"),
        (lambda: Latency(slow=1.5), "slow"),
        (lambda: Latency(slow_factor=0.5), "slow_factor"),
        (lambda: Latency(slow_factor=1e300), "slow_factor is at most"),
        (lambda: Latency(measured_s=(1.0, -2.0)), "measured_s"),
        (lambda: Failures(timeout=-0.1), "timeout"),
        (lambda: Failures(timeout=0.6, refused=0.5), "together"),
        (lambda: Outage(-1, 5), "after_s"),
        (lambda: Conditions(quotas=Limits(requests_per_day=0)), "requests_per_day"),
        (lambda: Conditions(quotas=Limits(requests_per_day=1, day_time_zone="Mars/Olympus")), "Mars/Olympus"),
        (lambda: Conditions(quotas="nobody-1999"), "nobody-1999"),
        (lambda: Conditions(quotas=Limits(day_time_zone="Asia/Shanghai")), "give both, or neither"),
        (lambda: Conditions(began=datetime(2026, 3, 1)), "time zone"),
        (lambda: Range(2, 1, 3), "low to high"),
        (lambda: Range(1, 2, 3).times(-1), "factor"),
    ],
)
def test_bad_values_are_named(make: Any, named: str) -> None:
    """Before anything starts."""
    with pytest.raises(ValueError, match=named):
        make()
