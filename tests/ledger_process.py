"""What the tests of ledgers run in processes of their own: `python ledger_process.py WHAT FILE`."""

from __future__ import annotations

import asyncio
import sys

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.ledger_file import open_ledger
from lmaas_sdk.accounting.transfers import Label
from lmaas_sdk.errors import BudgetExceeded

CAP = 400
WORST = Amounts(1, 1, 30, 400)


async def spend(path: str) -> None:
    """Eight tasks take what is left of the cap, a call at a time; prints how many calls that were."""
    async with open_ledger(path) as ledger:
        run = Budget(calls=CAP, name="team", ledger=ledger).child("run")
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_spend(run)) for _ in range(8)]
    say(str(sum(task.result() for task in tasks)))


async def _spend(budget: Budget) -> int:
    calls = 0
    while True:
        try:
            (hold,) = await budget.hold_all([WORST])
        except BudgetExceeded:
            return calls
        await hold.mark_sent()
        hold.post(WORST)
        calls += 1


async def go_on(path: str) -> None:
    """Three tasks call for ever, and say of every step when it is booked; one has set something aside."""
    async with open_ledger(path) as ledger:
        budget = Budget(calls=10**9, name="team", ledger=ledger)
        await budget.hold_aside("dev", WORST)
        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(_go_on(budget, number))


async def _go_on(budget: Budget, number: int) -> None:
    while True:
        (hold,) = await budget.hold_all([WORST], [Label("train", "mock/score", f"k{number}")])
        say(f"reserved {hold.id}")
        await hold.mark_sent()
        say(f"sent {hold.id}")
        if number == 0:
            hold.refused()
            await hold.mark_sent()
        hold.post(Amounts(1, 1, 10, 100))
        await budget.ledger.flush()
        say(f"posted {hold.id}")


async def hold_and_wait(path: str) -> None:
    """Takes the whole cap, says so, and waits to be killed."""
    async with open_ledger(path) as ledger:
        await Budget(calls=CAP, name="team", ledger=ledger).hold_all([Amounts(1)] * CAP)
        say(ledger.owner)
        await asyncio.sleep(3600)


def say(line: str) -> None:
    """In one write, so that a kill leaves no half of a line."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run({"spend": spend, "go_on": go_on, "hold_and_wait": hold_and_wait}[sys.argv[1]](sys.argv[2]))
