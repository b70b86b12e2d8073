"""Runs through faults of every kind, drawn at random: how a scenario is set up, run and looked at."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from tuning_cases import DEV, SMALL, TEST, TRAIN, mock

from lmaas_backends.mock import MockBackend
from lmaas_sdk import Budget, Limits, Price, RetryPolicy, Scheduling, Tuner, TuningResult
from lmaas_sdk.accounting.amounts import UNITS, Amounts
from lmaas_sdk.errors import LmaasError
from lmaas_sdk.testing import Attempt, Fault, Faults
from lmaas_sdk.tuning.events import Event, GenerationDone
from lmaas_sdk.tuning.journal_file import JournalFile

NOTHING = Amounts()
PRICE = Price(400_000_000)
KINDS = ("refused", "rate_limit", "server_fault", "timeout", "nan", "wrong_shape", "hang")
TRANSIENT = ("refused", "rate_limit", "server_fault", "timeout")
LONGEST_S = 40 * 86_400.0  # no run takes so long, whatever happens to it


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One run: what is asked for, and what goes wrong.

    Args:
        number: Of the scenario, from which everything else is drawn.
        rates: The chance of each kind of fault.
        faulty: Attempts that faults strike; those after are all answered.
        scripted: Faults of the first attempts.
    """

    number: int
    preset: dict[str, Any]
    scheduling: dict[str, Any]
    backend: dict[str, Any]
    capabilities: dict[str, bool]
    budget: dict[str, Any]
    retry: dict[str, Any]
    rates: dict[str, float] = field(default_factory=dict)
    scripted: tuple[Fault | None, ...] = ()
    faulty: int = 10**9
    charged: bool = False
    slow: float = 0.0
    has_dev: bool = False
    has_test: bool = False
    has_parent: bool = False
    cache: bool = True

    def faults(self) -> Faults:
        """What goes wrong, of an attempt's number and key alone."""
        drawn = Faults(seed=self.number, charged=self.charged, script=self.scripted, **self.rates)  # type: ignore[arg-type]
        plan: Callable[[Attempt], Fault | None] = lambda one: drawn.strikes(one) if one.number < self.faulty else None  # noqa: E731
        return Faults(plan=plan)

    def open_backend(self, *, is_calm: bool = False) -> MockBackend:
        """The model; calm: nothing goes wrong."""
        backend = mock(latency_s=self._latency_s, faults=Faults() if is_calm else self.faults(), **self.backend)
        backend.card = replace(backend.card, capabilities=replace(backend.card.capabilities, **self.capabilities))
        return backend

    def _latency_s(self, query: object, draw: np.random.Generator) -> float:
        return float(draw.uniform(0.5, 1.0) * (60 if draw.random() < self.slow else 1))

    def open_budget(self) -> Budget:
        """What it may spend; with a parent, the limits are the parent's."""
        budget = Budget(**self.budget, clock=asyncio.get_running_loop().time, warn_at=())
        return budget.child("run") if self.has_parent else budget

    def tuner(self, backend: MockBackend, budget: Budget, journal: Path | None = None) -> Tuner:
        """Sets up the run."""
        return Tuner(
            backend,
            budget=budget,
            preset=replace(SMALL, **self.preset),
            seed=self.number,
            scheduling=Scheduling(**self.scheduling),
            retry=self.policy,
            cache=self.cache,
            journal=journal,
        )

    @property
    def policy(self) -> RetryPolicy:
        return RetryPolicy(**self.retry)

    async def fit(self, tuner: Tuner, on_event: Callable[[Event], None] | None = None) -> TuningResult:
        """Runs it."""
        test = TEST if self.has_test else None
        dev = DEV if self.has_dev else None
        return await tuner.fit(TRAIN, dev, test=test, compare_manual=self.has_test, on_event=on_event)


def draw(number: int, *, kinds: tuple[str, ...] = KINDS, stragglers: str | None = None) -> Scenario:
    """The scenario of a number."""
    rng = random.Random(number)
    population = rng.choice((4, 8))
    settings: dict[str, Any] = {
        "population": population,
        "step_size": rng.choice(("csa", "tpa")),
        "covariance": rng.choice(("full", "diagonal")),
        "racing": rng.choice(("off", "off", "on")),
        "dev_every": rng.choice((1, 3)),
        "objective": rng.choice(("ce", "ce", "metric")),
        "plateau": rng.choice((None, None, 4)),
    }
    scheduling = {
        "stragglers": stragglers or rng.choice(("wait", "drop", "hedge")),
        "over_ask": 0 if stragglers else rng.choice((0, 0, 2)),
        "failed": rng.choice(("drop", "impute", "resample")),
        "tries": rng.choice((0, 2)),
        "most_hedged": rng.choice((0.0, 0.1, 1.0)),
        "quorum": rng.choice((0.5, 0.75)),
    }
    budget: dict[str, Any] = {
        "evaluations": population * rng.randint(1, 8) + rng.choice((0, 3)),
        "calls": rng.choice((None, None, rng.randint(2, 60))),
        "tokens": rng.choice((None, None, rng.randint(3_000, 30_000))),
        "usd": rng.choice((None, None, "0.0100")),
        "wall_s": rng.choice((None, None, None, 30.0, 400.0)),
    }
    return Scenario(
        number=number,
        preset=settings,
        scheduling=scheduling,
        backend={
            "price": rng.choice((None, PRICE)),
            "max_candidates": rng.choice((1, 3, 64)),
            "max_texts": rng.choice((5, 1024, 1024)),
            "noise": rng.choice((0.0, 0.0, 0.05)),
            "limits": rng.choice((Limits(), Limits(concurrency=2), Limits(requests_per_minute=20))),
        },
        capabilities={} if rng.random() < 0.6 else {"idempotent": False},
        budget=budget,
        retry={
            "attempt_timeout_s": 40.0,
            "patience_s": rng.choice((0.0, 20.0)),
            "outage_s": rng.choice((0.0, 600.0)),
            "max_wait_s": rng.choice((None, None, 30.0)),
            "attempts": rng.choice((1, 3, 5)),
        },
        rates=_rates(rng, kinds),
        scripted=tuple(_ordered(rng, kinds) for _ in range(rng.choice((0, 0, 6)))),
        faulty=rng.choice((10, 40, 10**9)),
        charged=rng.random() < 0.5,
        slow=rng.choice((0.0, 0.0, 0.1)),
        has_dev=rng.random() < 0.5,
        has_test=rng.random() < 0.5,
        has_parent=rng.random() < 0.3,
        cache=rng.random() < 0.7,
    )


def _rates(rng: random.Random, kinds: tuple[str, ...]) -> dict[str, float]:
    strength = rng.choice((0.0, 0.05, 0.2, 0.6))
    some = rng.sample(kinds, rng.randint(1, 3))
    return {kind: strength / len(some) for kind in some}


def _ordered(rng: random.Random, kinds: tuple[str, ...]) -> Fault | None:
    kind = rng.choice((None, *kinds))
    if kind is None:
        return None
    waits = kind in ("refused", "rate_limit", "server_fault")
    charged = kind in ("server_fault", "hang") and rng.random() < 0.5
    return Fault(kind, charged=charged, retry_after_s=rng.choice((None, 0.0, 2.0, 90.0)) if waits else None)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Outcome:
    """How a run ended, and what it left.

    Args:
        result: None: it raised `error`, or was cancelled.
        done: Generations that were done.
    """

    result: TuningResult | None
    error: BaseException | None
    done: int


async def run(scenario: Scenario, backend: MockBackend, budget: Budget, journal: Path | None = None) -> Outcome:
    """Runs a scenario to its end, and looks at what is left then.

    Raises:
        TimeoutError: It does not end.
    """
    events: list[Event] = []
    result, error = None, None
    try:
        async with asyncio.timeout(LONGEST_S):
            result = await scenario.fit(scenario.tuner(backend, budget, journal), events.append)
    except LmaasError as raised:
        error = raised
    check_nothing_is_left(backend, budget)
    return Outcome(result, error, sum(isinstance(event, GenerationDone) for event in events))


def check_nothing_is_left(backend: MockBackend, budget: Budget) -> None:
    """Nothing is pending or under way, no limit was passed, and the provider billed no more than was booked."""
    for each in budget.line():
        assert each.pending == NOTHING
        for unit in UNITS:
            limit = each.limits[unit]
            assert limit is None or getattr(each.posted, unit) <= limit
    assert backend.book.in_flight == 0
    assert backend.book.attempts <= budget.posted.calls
    assert backend.book.tokens <= budget.posted.tokens
    assert backend.book.nanousd <= budget.posted.nanousd
    assert len(asyncio.all_tasks()) == 1


def paid_of(path: Path) -> Amounts:
    """What a journal says was posted; blocking."""
    file = JournalFile(path, exists=True)
    try:
        rows = [row for record in file.records() for row in record.get("paid", {}).values()]
    finally:
        file.close()
    return sum(map(Amounts.from_exact, rows), NOTHING)
