"""One run, played through: the real tuner, client, ledger and quota in front of the mock, in virtual time."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from lmaas_sdk.accounting.accounts import Entry
from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.ledger import Ledger, MemoryLedger
from lmaas_sdk.accounting.money import usd
from lmaas_sdk.backend import Backend
from lmaas_sdk.client import Client
from lmaas_sdk.errors import BackendError, BudgetExceeded, BudgetTooSmall, LmaasError, QuotaExceeded
from lmaas_sdk.outside import of_a_simulation, outside, within_outside
from lmaas_sdk.planning.conditions import Failures
from lmaas_sdk.planning.scenario import Scenario
from lmaas_sdk.registry import load_backend
from lmaas_sdk.testing.faults import Attempt, FaultKind, Faults
from lmaas_sdk.traffic.quota import check_ever_fits
from lmaas_sdk.tuning.events import Event, Waiting
from lmaas_sdk.tuning.plan import DEFAULT_EVALUATIONS, plan_run
from lmaas_sdk.tuning.preparation import prepare, run_costs
from lmaas_sdk.tuning.racing import Racing
from lmaas_sdk.tuning.result import Stopped, TuningResult
from lmaas_sdk.tuning.scheduler import Scheduler
from lmaas_sdk.tuning.tuner import Tuner

__all__ = ["Played", "check_affordable", "faults_of", "new_budget", "new_tuner", "play"]

_ENTRIES_KEPT = 100_000_000
_ENDS = (BackendError, BudgetExceeded, QuotaExceeded)


@dataclass(frozen=True, slots=True, eq=False)
class Played:
    """What came of a run.

    Args:
        result: None: it ended before its first generation was done.
        failure: The error that ended it, if one did.
        spent: All that was posted.
        elapsed_s: Virtual seconds.
        waits: Seconds by cause; see `TuningResult.waits`. Of a run without a result: those that its waits announced.
        entries: Of its ledger, oldest first.
    """

    result: TuningResult | None
    failure: LmaasError | None
    spent: Amounts
    elapsed_s: float
    waits: Mapping[str, float]
    entries: tuple[Entry, ...]

    @property
    def stopped(self) -> Stopped:
        """Why it ended."""
        if self.result is not None:
            return self.result.stopped
        if isinstance(self.failure, QuotaExceeded):
            return "quota"
        return "budget" if isinstance(self.failure, BudgetExceeded) else "interrupted"


async def play(scenario: Scenario, seed: int, *, began: datetime, on_event: Callable[[Event], None]) -> Played:
    """Plays a run; for a loop in virtual time.

    Args:
        scenario: What is played.
        seed: Of the search, the made-up data, and all chance of the world.
        began: The first moment.
        on_event: Called with every event of the run.

    Raises:
        BudgetTooSmall: The budget cannot pay for one generation.
        QuotaExceeded: The quota lets no call through, however long it waits.
        LmaasError: The scenario cannot be run.
    """
    clock = asyncio.get_running_loop().time
    waits: Counter[str] = Counter()

    def listen(event: Event) -> None:
        if isinstance(event, Waiting):
            waits[event.cause] += event.seconds  # type: ignore[assignment]  # a Counter adds up any numbers
        on_event(event)

    with within_outside(of_a_simulation(began_s=began.timestamp(), clock=clock, seed=seed)):
        ledger = MemoryLedger(wall=outside().wall, keep=_ENTRIES_KEPT)
        budget = new_budget(scenario, ledger=ledger, clock=clock)
        faults = faults_of(scenario.conditions.failures, seed, clock)
        failure: LmaasError | None = None
        result: TuningResult | None = None
        train, dev = scenario.data(seed)
        async with load_backend("mock", **scenario.provider(train, dev), faults=faults, opened=began) as backend:
            try:
                tuner = new_tuner(scenario, backend, seed=seed, budget=budget)
                result = await tuner.fit(train, dev, max_wait_s=scenario.max_wait_s, on_event=listen)
                failure = result.failure
            except _ENDS as end:
                if _is_no_outcome(end):
                    raise
                failure = end
    told: Mapping[str, float] = waits if result is None else result.waits  # type: ignore[assignment]  # as above
    waited = {cause: seconds for cause, seconds in told.items() if seconds}
    return Played(result, failure, budget.posted, clock(), waited, ledger.entries())


def new_tuner(scenario: Scenario, backend: Backend, *, seed: int, budget: Budget) -> Tuner:
    """The tuner of a scenario's run, on whatever backend."""
    searching: dict[str, Any] = dict(scenario.landscape.tuner_options(scenario.search, seed))
    return Tuner(
        backend,
        **searching,
        budget=budget,
        preset=scenario.search,
        scheduling=scenario.scheduling,
        retry=scenario.retry,
    )


def new_budget(scenario: Scenario, *, ledger: Ledger, clock: Callable[[], float]) -> Budget:
    """A budget of the scenario's limits, of which nothing is spent."""
    given = scenario.budget or Budget(evaluations=DEFAULT_EVALUATIONS, warn_at=())
    limits = given.limits
    whole = {unit: None if limit is None else int(limit) for unit, limit in limits.items()}
    money, wall_s = whole["nanousd"], limits["wall_s"]
    return Budget(
        calls=whole["calls"],
        evaluations=whole["evaluations"],
        tokens=whole["tokens"],
        usd=None if money is None else usd(money),
        wall_s=None if wall_s is None else float(wall_s),
        name=given.name,
        ledger=ledger,
        clock=clock,
        warn_at=(),
    )


async def check_affordable(scenario: Scenario, seed: int) -> None:
    """Refuses a scenario whose budget or quota is below a generation.

    Raises:
        BudgetTooSmall: The budget.
        QuotaExceeded: The quota lets a call of a generation never through.
        LmaasError: The data or the preset cannot be used.
    """
    search, budget = scenario.search, scenario.budget or Budget(evaluations=DEFAULT_EVALUATIONS, warn_at=())
    async with load_backend("mock", **scenario.provider()) as backend:
        search = search.sized(backend.card)
        train, dev = scenario.data(seed)
        scheduler = Scheduler(Client(backend, Budget()), "checking")
        searching: dict[str, Any] = dict(scenario.landscape.tuner_options(search, seed))
        subspace = search.subspace(backend.card, searching["seed"])
        data = await prepare(scheduler.client, subspace, datasets={"train": train, "dev": dev})
        candidates = search.population + scenario.scheduling.over_ask
        racing = Racing() if search.racing == "on" else None
        plan_run(budget, run_costs(backend, search, data, candidates=candidates, racing=racing))
        Z = np.zeros((candidates, subspace.d), np.float32)
        for part in scheduler.parts(data["train"].scorable, Z, "train", label="checking"):
            check_ever_fits(part.call.worst.tokens, scenario.limits)


def faults_of(failures: Failures, seed: int, clock: Callable[[], float]) -> Faults:
    """The failures of a run: by chance, and all attempts while the provider is away."""
    outages = failures.outages

    def plan(_attempt: Attempt) -> FaultKind | None:
        elapsed_s = clock()
        return "refused" if any(outage.covers(elapsed_s) for outage in outages) else None

    chances: dict[str, Any] = failures.chances
    return Faults(seed=seed, **chances, charged=failures.charged, plan=plan if outages else None)


def _is_no_outcome(error: LmaasError) -> bool:
    """Whether it says that a scenario makes no sense, rather than how it ends."""
    never = isinstance(error, QuotaExceeded) and math.isinf(error.wait_s)
    return never or isinstance(error, BudgetTooSmall | ValueError)
