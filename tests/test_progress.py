"""What a run looks like while it goes on."""

from __future__ import annotations

import io

import numpy as np
from rich.console import Console

from lmaas_sdk import Amounts, Budget, Evaluation
from lmaas_sdk.reporting.progress import RunProgress
from lmaas_sdk.tuning.events import DevScored, GenerationDone, RunPlanned
from lmaas_sdk.tuning.selection import Choice


def shown(*, terminal: bool, generations: int, planned: int | None, budget: Budget | None = None) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120)
    with RunProgress(budget, console) as progress:
        progress.show(RunPlanned(planned, 20))
        for g in range(generations):
            spent = Amounts(g + 1, 20 * (g + 1), 1000 * (g + 1), 5_000_000 * (g + 1))
            progress.show(GenerationDone(g, 20 * (g + 1), 0.5, 0.6, 0.4, 1.0, 0, spent, float(g)))
            if g == 1:
                choice = Choice(g, "mean", np.zeros(1, np.float32), None, Evaluation("accuracy", 0.75, 0.5, 8))
                progress.show(DevScored(choice, spent, float(g)))
    return out.getvalue()


def test_plain_lines_where_there_is_no_terminal() -> None:
    """Some twenty lines a run, the last one for the last generation, with spend against the budget."""
    lines = shown(terminal=False, generations=400, planned=400, budget=Budget(usd="3.00")).splitlines()
    assert 19 <= len(lines) <= 22
    assert lines[-1] == "8000/8000 evaluations  loss 0.4000  dev 0.750  spent $2.00 of $3.00"


def test_run_that_only_time_limits_has_no_total() -> None:
    """The total is a question mark, and free models count tokens."""
    assert "20/? evaluations" in shown(terminal=False, generations=1, planned=None)


def test_bar_on_a_terminal() -> None:
    """The bar counts evaluations and shows loss, dev metric and spend."""
    text = shown(terminal=True, generations=5, planned=5)
    assert "100/100" in text
    assert "dev 0.750" in text
