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
        {"slow_factor": float("inf")},
        {"hedge_factor": 0.9},
        {"hedge_factor": "2"},
        {"hedge_floor_s": -0.1},
        {"hedge_floor_s": None},
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


@pytest.mark.parametrize(
    ("settings", "usual_s", "late_s"),
    [
        ({"stragglers": "drop"}, 10.0, 11.0),
        ({"stragglers": "drop", "slow_factor": 2}, 10.0, 20.0),
        ({"stragglers": "hedge"}, 10.0, 15.0),
        ({"stragglers": "hedge", "hedge_factor": 3}, 10.0, 30.0),
        ({"stragglers": "hedge"}, 0.01, 0.1),
        ({"stragglers": "hedge", "hedge_floor_s": 0}, 0.01, 0.015),
    ],
)
def test_a_call_is_late_so_many_times_after_what_is_usual(
    settings: dict[str, Any], usual_s: float, late_s: float
) -> None:
    """To be sent again it has to be later than to be dropped, and by some part of a second in any case."""
    assert late_s == pytest.approx(Scheduling(**settings).late_s(usual_s))


def test_what_is_usual_is_told_from_ten_calls_on() -> None:
    """Nine in ten took as long, at most."""
    record = LatencyRecord()
    for seconds in range(1, 10):
        record.add(float(seconds))
        assert record.usual_s is None
    record.add(1000.0)
    assert 9.0 == record.usual_s


def test_what_is_usual_changes_with_the_calls() -> None:
    """Only the last two hundred count."""
    record = LatencyRecord()
    for seconds in [10.0] * 200 + [1.0] * 200:
        record.add(seconds)
    assert 1.0 == record.usual_s


def test_calls_are_sent_again_in_proportion_to_all_of_the_run() -> None:
    """One in ten, and none among the first nine."""
    record, hedged = LatencyRecord(), []
    for calls in range(1, 31):
        record.calls = calls
        if record.take_hedge(0.1):
            hedged.append(calls)
    assert ([10, 20, 30], 3) == (hedged, record.hedged)
