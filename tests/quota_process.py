"""A process that takes from a quota in a ledger file: `python quota_process.py FILE COUNT SECONDS LIMITS`."""

from __future__ import annotations

import asyncio
import json
import sys
import time

from lmaas_sdk import Limits
from lmaas_sdk.accounting.ledger_file import open_ledger
from lmaas_sdk.errors import QuotaExceeded
from lmaas_sdk.traffic.concurrency import AdaptiveConcurrency
from lmaas_sdk.traffic.gate import Gate
from lmaas_sdk.traffic.quota_file import FileQuota

AT_ONCE = 8


async def main(path: str, count: int, patience_s: float, limits: Limits) -> None:
    """Tells the time of every permission, one a line; keeps the last permit where it is told to hang."""
    async with open_ledger(path) as ledger:
        gate = Gate(FileQuota(ledger, "model/score@account"), AdaptiveConcurrency(64, asyncio.get_running_loop().time))
        numbers = iter(range(count))

        async def worker() -> None:
            for _ in numbers:
                try:
                    permit = await gate.enter(1, limits, patience_s=patience_s)
                except QuotaExceeded:
                    return
                print(time.time(), flush=True)
                await asyncio.sleep(0.001)
                permit.settle(1)

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(worker())


async def hold(path: str, limits: Limits) -> None:
    """Takes one permit and never gives it back."""
    async with open_ledger(path) as ledger:
        gate = Gate(FileQuota(ledger, "model/score@account"), AdaptiveConcurrency(64, asyncio.get_running_loop().time))
        await gate.enter(1, limits)
        print("held", flush=True)
        await asyncio.sleep(600)


if __name__ == "__main__":
    given = Limits(**json.loads(sys.argv[4]))
    if sys.argv[2] == "hold":
        asyncio.run(hold(sys.argv[1], given))
    else:
        asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), given))
