"""The benchmark of simulated days, on a few evaluations: it tells its figures; what the figures are is not tested."""

from __future__ import annotations

import json

import pytest

from benchmarks import simulated_days


def test_what_a_simulation_takes_is_told_beside_how_it_ended() -> None:
    """The calendar is exact; times are told of the run alone and with what it is compared with."""
    found = simulated_days.measure(1, rounds=1, evaluations=240)
    assert (3, 240, 240) == (found["day"], found["calls"], found["evaluations"])
    assert min(found[name] for name in ("run_wall_s", "run_cpu_s", "compared_wall_s", "compared_cpu_s")) > 0


def test_what_is_kept_ended_on_the_days_that_it_says() -> None:
    """The committed figures are of the whole run, within the bar."""
    kept = json.loads((simulated_days.RESULTS / "simulated_days.json").read_text("utf-8"))
    assert [80, 4] == [kept["settings"][f"{candidates} a call"]["day"] for candidates in (1, 20)]
    assert kept["settings"]["1 a call"]["run_wall_s"] < 60


@pytest.mark.long
@pytest.mark.parametrize("candidates", simulated_days.DAYS)
def test_the_whole_run_ends_on_its_day(candidates: int) -> None:
    """Eight thousand evaluations, over a change of clocks."""
    assert simulated_days.DAYS[candidates] == simulated_days.measure(candidates, rounds=1)["day"]
