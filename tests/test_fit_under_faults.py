"""Whatever goes wrong with its calls, a run ends, within its budget, with a result or an error that it documents."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import numpy as np
import pytest
from fault_scenarios import Outcome, draw, paid_of, run

from lmaas_sdk import TuningResult
from lmaas_sdk.errors import BackendError, BudgetExceeded, QuotaExceeded
from lmaas_sdk.testing import run_virtual

DOCUMENTED = (BudgetExceeded, QuotaExceeded, BackendError)
SOME = range(250)
MANY = range(1000, 3500)


def check_result(result: TuningResult) -> None:
    """It can be used, and its numbers fit each other."""
    assert np.isfinite(result.prompt.z).all()
    assert result.choice.train_loss is None or np.isfinite(result.choice.train_loss)
    assert len(result.core.losses) == len(result.generations)
    assert result.generations[-1].evaluations <= result.evaluations
    assert result.evaluations <= result.spend.total.evaluations
    for row in result.core.losses:
        assert any(loss is not None for loss in row)


def check_outcome(outcome: Outcome) -> None:
    """A result, or a documented error where there was no generation to return."""
    if outcome.result is None:
        assert isinstance(outcome.error, DOCUMENTED)
        assert outcome.done == 0
    else:
        assert outcome.done == len(outcome.result.generations)
        check_result(outcome.result)


@pytest.mark.parametrize("numbers", [SOME, pytest.param(MANY, marks=pytest.mark.long)], ids=["some", "many"])
def test_a_run_ends_well_whatever_goes_wrong(numbers: range, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Faults, settings and budgets at random: see `check_nothing_is_left`, and `check_outcome`."""
    caplog.set_level(logging.CRITICAL, "lmaas_sdk")

    async def main(number: int) -> None:
        scenario, path = draw(number), tmp_path / f"{number}.journal" if number % 3 == 0 else None
        backend, budget = scenario.open_backend(), scenario.open_budget()
        outcome = await run(scenario, backend, budget, path)
        check_outcome(outcome)
        if outcome.result is not None:
            assert outcome.result.spend.total == budget.posted
            if not outcome.result.spend.unknown_outcomes:
                billed = backend.book.attempts, backend.book.tokens, backend.book.nanousd
                assert billed == (budget.posted.calls, budget.posted.tokens, budget.posted.nanousd)
        if path is not None and await asyncio.to_thread(path.exists):
            assert await asyncio.to_thread(paid_of, path) == budget.posted

    for number in numbers:
        run_virtual(main(number))
