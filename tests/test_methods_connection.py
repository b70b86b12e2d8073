"""What every method is given, and how the spend of a fit is framed."""

from __future__ import annotations

from pathlib import Path

import pytest
from tuning_cases import TASK, mock

from lmaas_sdk import Budget, BudgetExceeded, BudgetTooSmall, LedgerConflict, Predictor, open_ledger
from lmaas_sdk.methods.connection import Connection, spending


def ended() -> BudgetExceeded:
    return BudgetExceeded("b", "calls", limit=1, posted=1, pending=0, asked=1)


async def test_each_client_has_a_spend_of_its_own_and_the_one_budget() -> None:
    """Two fits of a method are told apart, and paid from the same limit."""
    budget = Budget(calls=5)
    connection = Connection(mock(), budget)
    clients = [connection.client() for _ in range(2)]
    for client in clients:
        await Predictor(client, TASK).predict(["a thing"])
    assert [client.spend.total.calls for client in clients] == [1, 1]
    assert budget.posted.calls == 2


async def test_a_refusal_before_the_first_call_is_a_budget_that_is_too_small() -> None:
    """And after it, the end of a budget that had begun; a refusal that says so itself stays as it is."""
    client = Connection(mock()).client()

    async def spent(*texts: str, end: BudgetExceeded) -> None:
        async with spending(client):
            await Predictor(client, TASK).predict(texts)
            raise end

    with pytest.raises(BudgetTooSmall, match="before the first call"):
        await spent(end=ended())
    with pytest.raises(BudgetExceeded) as refused:
        await spent("a thing", end=ended())
    assert not isinstance(refused.value, BudgetTooSmall)
    with pytest.raises(BudgetTooSmall, match=r"asked for \(so it is\)"):
        await spent(end=BudgetTooSmall.of(ended(), "so it is"))


async def test_wall_time_counts_inside_and_not_after() -> None:
    """However it ends."""
    budget = Budget(wall_s=1000)
    left: list[float | None] = []

    async def failing() -> None:
        async with spending(Connection(mock(), budget).client()):
            left.append(budget.remaining_s())
            raise KeyError

    with pytest.raises(KeyError):
        await failing()
    assert [seconds is not None for seconds in left] == [True]
    with pytest.raises(ValueError, match="no run of budget"):
        budget.stop()


async def test_a_budget_that_the_ledger_has_with_other_limits_is_refused(tmp_path: Path) -> None:
    """Before anything is sent."""
    async with open_ledger(tmp_path / "spend.db") as ledger:
        await Budget(calls=5, name="b", ledger=ledger).ready()
    async with open_ledger(tmp_path / "spend.db") as ledger:
        client = Connection(mock(), Budget(calls=6, name="b", ledger=ledger)).client()
        with pytest.raises(LedgerConflict):
            async with spending(client):
                pytest.fail("it was entered")
