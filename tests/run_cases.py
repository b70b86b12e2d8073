"""A run on the mock, and its file with what other runs have besides, which the tests of reports share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tuning_cases import DEV, SMALL, TEST, TRAIN, mock

from lmaas_sdk import Budget, Price, Tuner, TuningResult
from lmaas_sdk.tuning.run_file import save_record

WAITS = {"quota": 131.4, "rate_limit": 3.6, "outage": 0.0}
ESTIMATE = {
    "calls": {"low": 6, "expected": 7, "high": 8, "actual": 7, "is_within": True},
    "tokens": {"low": 100, "expected": 120, "high": 130, "actual": 140, "is_within": False},
    "cost_usd": {"low": 0.0512, "expected": 0.0512, "high": 0.0512, "actual": 0.0512, "is_within": True},
    "attempts": {"low": 6, "expected": 7, "high": 9, "actual": None, "is_within": None},
    "wall_s": None,
}


async def tuned(evaluations: int = 80, *, price: Price | None = None, journal: Path | None = None) -> TuningResult:
    """A run of generations of 8."""
    budget = Budget(evaluations=evaluations, usd="1.00")
    tuner = Tuner(mock(price=price), budget=budget, preset=SMALL, seed=7, journal=journal)
    return await tuner.fit(TRAIN, DEV, test=TEST, compare_manual=True)


def saved(result: TuningResult, path: Path, **more: Any) -> Path:
    """Its run file, with other values in some places."""
    return save_record(result.to_record() | more, path)
