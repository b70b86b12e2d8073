"""The settings of a run's scheduling, and the record of how long calls took."""

from __future__ import annotations

import re
from typing import Any

import pytest

from lmaas_sdk import Scheduling
from lmaas_sdk.tuning.scheduling import LatencyRecord


@pytest.mark.parametrize(
    "wrong",
    [
        {"stragglers": "kill"},
        {"failed": "retry"},
        {"over_ask": -1},
        {"over_ask": 1.5},
        {"tries": -1},
        {"spares": True},
        {"quorum": 0.4},
        {"quorum": 1.1},
        {"quorum": "half"},
        {"slow_factor": 0.9},
        {"slow_factor": float("nan")},
        {"most_hedged": -0.1},
        {"most_hedged": True},
    ],
)
def test_a_setting_out_of_its_range_is_named(wrong: dict[str, Any]) -> None:
    """With what it may be, and what it was."""
    ((name, value),) = wrong.items()
    with pytest.raises((ValueError, TypeError), match=rf"{name}.*{re.escape(repr(value))}"):
        Scheduling(**wrong)


@pytest.mark.parametrize(
    ("settings", "extra"), [({}, 0), ({"over_ask": 3}, 3), ({"failed": "resample", "over_ask": 1}, 5)]
)
def test_the_optimiser_is_asked_for_so_many_more(settings: dict[str, Any], extra: int) -> None:
    """Those asked for beyond the population, and those held ready."""
    assert extra == Scheduling(**settings).extra


def test_what_is_usual_is_told_from_ten_calls_on() -> None:
    """Nine in ten took as long, at most; a straggler takes so many times as long."""
    record = LatencyRecord(2.0)
    for seconds in range(1, 10):
        record.add(float(seconds))
        assert record.slow_s is None
    record.add(1000.0)
    assert 18.0 == record.slow_s


def test_what_is_usual_changes_with_the_calls() -> None:
    """Only the last two hundred count."""
    record = LatencyRecord(1.0)
    for seconds in [10.0] * 200 + [1.0] * 200:
        record.add(seconds)
    assert 1.0 == record.slow_s


def test_calls_are_sent_again_in_proportion_to_all_of_the_run() -> None:
    """One in ten, and none among the first nine."""
    record, hedged = LatencyRecord(1.1), []
    for calls in range(1, 31):
        record.calls = calls
        if record.take_hedge(0.1):
            hedged.append(calls)
    assert ([10, 20, 30], 3) == (hedged, record.hedged)
