"""`simulate_jobs(jobs, budget=...)`: many runs on one quota and one budget, in virtual time and with nothing sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, cast

from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.ledger import MemoryLedger
from lmaas_sdk.backend import Backend
from lmaas_sdk.outside import of_a_simulation, outside, within_outside
from lmaas_sdk.planning.conditions import Conditions
from lmaas_sdk.planning.jobs import JobsSimulation, TuningJob
from lmaas_sdk.planning.jobs_checked import check_any_affordable
from lmaas_sdk.planning.jobs_told import budget_bounds, jobs_told, quota_bounds
from lmaas_sdk.planning.playing import faults_of, new_budget
from lmaas_sdk.planning.scenario import Scenario
from lmaas_sdk.planning.synthetic import Landscape, SyntheticLandscape
from lmaas_sdk.registry import load_backend
from lmaas_sdk.testing.virtual_loop import run_virtual
from lmaas_sdk.tuning.events import Event
from lmaas_sdk.tuning.group import TunerGroup
from lmaas_sdk.tuning.presets import get_preset

__all__ = ["simulate_jobs"]

_ALL_ENTRIES = 10**9
_NOTHING_IN_THE_WAY = Conditions()
_SMOOTH = SyntheticLandscape()
OnEvent = Callable[[str, Event], None]
_BILLED = ("attempts", "limited", "tokens", "nanousd")


def simulate_jobs(
    jobs: Iterable[TuningJob],
    *,
    budget: Budget,
    conditions: Conditions = _NOTHING_IN_THE_WAY,
    landscape: Landscape = _SMOOTH,
    seed: int = 42,
    max_wait_s: float | None = None,
    on_event: OnEvent | None = None,
) -> JobsSimulation:
    """Plays many runs that share a provider's quota and a budget, as a `TunerGroup` runs them.

    Group, tuners, client, ledger and quota are those of real runs; provider and time are not. Nothing is sent, nothing
    waits, and the same jobs, first moment and seed have the same outcome. Within a running event loop:
    `await asyncio.to_thread(simulate_jobs, jobs, budget=budget)`.

    Args:
        jobs: At least one.
        budget: Its limits are what they share; nothing is taken from it.
        conditions: What the provider and the calendar decide.
        landscape: What is searched.
        seed: Of failures, latencies and all other chance of the world; searches have their own.
        max_wait_s: As of `TunerGroup.fit`.
        on_event: Called with the name of a job and each of its events, on the thread that simulates.

    Raises:
        ValueError: There is no job, a name is there twice, a priority is not above 0, or a preset is unknown.
        BudgetTooSmall: No job's part of the budget pays for a generation.
        QuotaExceeded: The quota lets no job's calls through, however long they wait.
        LmaasError: No job can be run; as `TunerGroup.fit`.
        RuntimeError: An event loop runs in this thread.
    """
    given = tuple(jobs)
    scenario = Scenario(budget=budget, conditions=conditions, landscape=landscape, max_wait_s=max_wait_s)
    return run_virtual(_played(given, scenario, seed, on_event), threads=False)


class _Books(Protocol):
    """What the mock counts."""

    attempts: int
    limited: int
    tokens: int
    nanousd: int


class _Bookkeeper(Protocol):
    """A backend that has books of its own."""

    book: _Books


async def _played(jobs: Sequence[TuningJob], scenario: Scenario, seed: int, on_event: OnEvent | None) -> JobsSimulation:
    """Plays them, on a loop in virtual time."""
    began, clock = scenario.began(), asyncio.get_running_loop().time
    with within_outside(of_a_simulation(began_s=began.timestamp(), clock=clock, seed=seed)):
        ledger = MemoryLedger(wall=outside().wall, keep=_ALL_ENTRIES)
        budget = new_budget(scenario, ledger=ledger, clock=clock)
        options = scenario.provider() | {
            "max_candidates": max((get_preset(job.preset).population for job in jobs), default=1),
            "faults": faults_of(scenario.conditions.failures, seed, clock),
            "opened": began,
        }
        async with load_backend("mock", **options) as backend:
            group = _group(jobs, backend, budget)
            await check_any_affordable(jobs, budget, scenario, seed)
            result = await group.fit(max_wait_s=scenario.max_wait_s, on_event=on_event)
    entries, book = ledger.entries(), cast("_Bookkeeper", backend).book
    return JobsSimulation(
        jobs=jobs_told(jobs, result, entries, limits=scenario.limits),
        began=began,
        elapsed_s=result.wall_s,
        bounds=(*budget_bounds(budget, entries), *quota_bounds(scenario.limits, entries)),
        billed={name: getattr(book, name) for name in _BILLED},
    )


def _group(jobs: Sequence[TuningJob], backend: Backend, budget: Budget) -> TunerGroup:
    group = TunerGroup(budget=budget)
    for job in jobs:
        group.add(job.name, backend, job.train, job.dev, preset=job.preset, seed=job.seed, priority=job.priority)
    return group
