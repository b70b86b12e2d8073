"""Many runs on one quota and one budget, in virtual time."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from tuning_cases import DEV, SMALL, TRAIN

from lmaas_sdk import (
    PRESETS,
    Budget,
    Conditions,
    Failures,
    JobsSimulation,
    Latency,
    Limits,
    Outage,
    Price,
    TuningJob,
    simulate_jobs,
)
from lmaas_sdk.errors import BudgetTooSmall

BEGAN = datetime(2026, 3, 28, 9, tzinfo=ZoneInfo("Europe/Berlin"))
LATENCY = Latency(median_s=1.0, spread=0.4)
WIDE = replace(PRESETS["sep-tpa"], name="wide", d=50, prompt_tokens=2, population=20)
MOST = 1.2


def jobs(count: int, *priorities: float, **more: object) -> list[TuningJob]:
    """So many, whose priorities take turns."""
    settings: dict[str, object] = {"preset": SMALL, **more}
    cycle = priorities or (1.0,)
    return [
        TuningJob(f"job-{n}", TRAIN, seed=n, priority=cycle[n % len(cycle)], **settings)  # type: ignore[arg-type]
        for n in range(count)
    ]


def at(quotas: Limits, **more: object) -> Conditions:
    """Conditions that repeat themselves."""
    return Conditions(quotas=quotas, began=BEGAN, **{"latency": LATENCY, **more})  # type: ignore[arg-type]


def kept_to(simulation: JobsSimulation) -> bool:
    """Whether nothing was exceeded, in the ledger's eyes and in the provider's."""
    billed, spent = simulation.billed, simulation.spent
    same = (billed["attempts"], billed["tokens"], billed["nanousd"]) == (spent.calls, spent.tokens, spent.nanousd)
    return same and not billed["limited"] and not any(bound.over for bound in simulation.bounds)


def is_fair(simulation: JobsSimulation) -> bool:
    """Whether nobody was above his share while others waited, by more than the generation that nobody can divide."""
    assert simulation.highest is not None
    return simulation.highest <= MOST + 1e-9 and simulation.ahead < 1.1


def test_a_hundred_jobs_share_a_quota_and_a_budget() -> None:
    """20 generations each at d = 50: all of it is used, nothing is exceeded, and nobody is above his share."""
    conditions = at(Limits(requests_per_minute=600), price=Price(400_000_000))
    found = simulate_jobs(jobs(100, preset=WIDE), budget=Budget(evaluations=100 * 20 * 20), conditions=conditions)
    assert {20} == {job.generations for job in found.jobs}
    assert {"budget"} == {job.stopped for job in found.jobs}
    assert kept_to(found)
    assert is_fair(found)
    assert [(40_000, 40_000), (600, 600)] == [(bound.most, bound.limit) for bound in found.bounds]
    assert found.elapsed_s < 1.1 * 100 * 20 / 10


@pytest.mark.parametrize(
    "limits",
    [
        Limits(requests_per_minute=60),
        Limits(tokens_per_minute=40_000),
        Limits(requests_per_day=100, day_time_zone="Europe/Berlin", concurrency=4),
        Limits(concurrency=3),
    ],
    ids=["requests", "tokens", "days", "places"],
)
def test_priorities_are_kept_to_at_every_moment(limits: Limits) -> None:
    """1:2:4 of whatever is scarce."""
    found = simulate_jobs(
        jobs(30, 1, 2, 4, dev=DEV), budget=Budget(evaluations=30 * 20 * 8), conditions=at(limits), seed=3
    )
    generations = [job.generations for job in found.jobs[:3]]
    assert [2, 4] == pytest.approx([generations[1] / generations[0], generations[2] / generations[0]], rel=0.2)
    assert kept_to(found)
    assert is_fair(found)
    assert not limits.requests_per_day or found.elapsed_s > 5 * 86_400


def test_one_who_pushes_in_would_be_seen() -> None:
    """Where everybody has a place at the backend nobody takes turns, and who is answered sooner has more."""
    found = simulate_jobs(
        jobs(12, 1, 1, 4), budget=Budget(evaluations=12 * 40 * 8), conditions=at(Limits(requests_per_day=100)), seed=3
    )
    assert found.highest is not None
    assert found.highest > MOST
    assert kept_to(found)


def test_what_one_leaves_is_used_by_the_others_and_fails_nobody() -> None:
    """A budget in money, attempts that fail, an outage: the ledger never has less than the provider billed."""
    failures = Failures(refused=0.02, server_fault=0.02, timeout=0.02, charged=True, outages=[Outage(60, 30)])
    conditions = at(Limits(requests_per_minute=300), failures=failures, price=Price(400_000_000))
    found = simulate_jobs(
        jobs(20, preset=replace(SMALL, plateau=5)), budget=Budget(usd="0.20"), conditions=conditions, seed=5
    )
    assert [] == [bound for bound in found.bounds if bound.over]
    assert found.billed["nanousd"] <= found.spent.nanousd <= 200_000_000
    assert {"plateau", "budget"} >= {job.stopped for job in found.jobs}
    assert found.waits["retry"] > 0


def test_the_same_seed_has_the_same_bytes(tmp_path: Path) -> None:
    """In this process and in another one, whatever its hashes; another seed has others."""
    program = tmp_path / "again.py"
    program.write_text(
        "import json, sys\nfrom test_simulate_jobs import varied\nsys.stdout.write(json.dumps(varied(1).to_dict()))\n"
    )
    here = str(Path(__file__).parent)
    paths = os.pathsep.join([here, *sys.path])
    done = subprocess.run(
        [sys.executable, str(program)],
        env={**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.dumps(varied(1).to_dict()) == done.stdout
    assert varied(2).elapsed_s != varied(1).elapsed_s


def varied(seed: int) -> JobsSimulation:
    """A simulation in which chance has a part in everything."""
    failures = Failures(refused=0.05, timeout=0.05)
    conditions = at(Limits(requests_per_minute=100, concurrency=5), failures=failures)
    return simulate_jobs(
        jobs(12, 1, 3, dev=DEV), budget=Budget(evaluations=12 * 6 * 8), conditions=conditions, seed=seed
    )


def test_nothing_opens_a_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the pair by which an event loop wakes itself."""

    def refuse(*_args: object) -> None:
        raise AssertionError("a socket was connected")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert 3 == len(simulate_jobs(jobs(3), budget=Budget(evaluations=72), conditions=at(Limits())).jobs)


async def test_within_a_running_loop_it_needs_a_thread() -> None:
    """As its documentation says."""
    few, budget = jobs(2), Budget(evaluations=32)
    with pytest.raises(RuntimeError, match="event loop runs"):
        simulate_jobs(few, budget=budget)
    found = await asyncio.to_thread(simulate_jobs, few, budget=budget)
    assert [2, 2] == [job.generations for job in found.jobs]


def test_what_cannot_be_is_refused_before_anything_starts() -> None:
    """No job, two of one name, a priority of nothing, a budget below a generation, a quota of nothing."""
    with pytest.raises(ValueError, match="no runs"):
        simulate_jobs([], budget=Budget(evaluations=80))
    with pytest.raises(ValueError, match="job-0"):
        simulate_jobs(jobs(1) * 2, budget=Budget(evaluations=80))
    with pytest.raises(ValueError, match="priority"):
        simulate_jobs(jobs(1, 0.0), budget=Budget(evaluations=80))
    with pytest.raises(BudgetTooSmall):
        simulate_jobs(jobs(3), budget=Budget(evaluations=21))
    with pytest.raises(ValueError, match="requests_per_minute is 0"):
        simulate_jobs(jobs(1), budget=Budget(evaluations=80), conditions=at(Limits(requests_per_minute=0)))


def test_one_whose_part_is_too_small_fails_by_itself() -> None:
    """It has no share to compare, and the others have all of it."""
    few = jobs(3, 0.01, 1, 1)
    found = simulate_jobs(few, budget=Budget(evaluations=160), conditions=at(Limits(requests_per_minute=60)))
    small, *others = found.jobs
    assert ("failed", 0, None, 0) == (small.stopped, small.generations, small.ended_s, small.spent.calls)
    assert small.failure is not None
    assert "one generation" in small.failure
    assert 20 == sum(job.generations for job in others)


def test_it_is_told_to_people_and_to_programs() -> None:
    """A row a job or, of many, a row a priority, and what was kept to; all of it is JSON."""
    few = simulate_jobs(jobs(3), budget=Budget(evaluations=72), conditions=at(Limits(requests_per_minute=60)))
    assert 4 == few.table().row_count
    assert "evaluations 72 of 72, requests_per_minute 9 of 60" in str(few)
    many = simulate_jobs(jobs(24, 1, 2), budget=Budget(evaluations=24 * 16), conditions=at(Limits()))
    assert 3 == many.table().row_count
    told = json.loads(json.dumps(many.to_dict()))
    assert [f"job-{n}" for n in range(24)] == [job["name"] for job in told["jobs"]]
    assert 0 == told["bounds"]["evaluations"]["over"]
    assert told["began"] == "2026-03-28T09:00:00+01:00"


@pytest.mark.long
def test_a_thousand_jobs_share_a_quota_and_a_budget() -> None:
    """As a hundred do; with priorities, too."""
    limits = Limits(requests_per_minute=600, requests_per_day=15_000, day_time_zone="Europe/Berlin")
    for priorities in ((1.0,), (1.0, 2.0, 4.0)):
        found = simulate_jobs(
            jobs(1000, *priorities, preset=WIDE), budget=Budget(evaluations=400_000), conditions=at(limits)
        )
        assert 1000 == len([job for job in found.jobs if job.highest is not None])
        assert 0.98 * 400_000 < found.spent.evaluations <= 400_000
        assert kept_to(found)
        assert is_fair(found)
