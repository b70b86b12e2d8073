"""What booking costs: reservations in memory, and in a file that survives a kill.

    python -m benchmarks.ledger [--seconds 2] [--json FILE]

A pair is a reservation and its post, on a budget with every limit and one parent. In memory: CPU of this process. In a
file: 50 tasks at once, wall time, with and without the durable mark "sent" between the two. Bars: at most 40
microseconds in memory, at least 4000 pairs a second in the file with synchronous=NORMAL.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lmaas_sdk import Amounts, Budget, open_ledger
from lmaas_sdk.accounting.ledger import Ledger
from lmaas_sdk.accounting.ledger_file import Synchronous

MANY = 10**12
AMOUNTS = Amounts(1, 20, 1000, 400_000)
TASKS = 50
ROUNDS = 5


def new_budget(ledger: Ledger | None = None) -> Budget:
    """Every limit, and one parent."""
    parent = Budget(calls=MANY, evaluations=MANY, tokens=MANY, usd=MANY, name="parent", ledger=ledger)
    return parent.child("run", Budget(calls=MANY, evaluations=MANY, tokens=MANY, usd=MANY))


def memory_us(pairs: int = 20_000) -> float:
    """CPU microseconds of a pair in memory: the median of several rounds."""
    taken = []
    for _ in range(ROUNDS):
        budget = new_budget()
        gc.collect()
        started = time.process_time()
        for _ in range(pairs):
            budget.reserve(AMOUNTS).post(AMOUNTS)
        taken.append((time.process_time() - started) / pairs * 1e6)
    return round(statistics.median(taken), 1)


async def pairs_a_second(path: Path, seconds: float, *, synchronous: Synchronous, sent: bool) -> float:
    """Pairs a second in a file, of 50 tasks."""
    async with open_ledger(path, synchronous=synchronous) as ledger:
        budget, pairs = new_budget(ledger), 0
        started = time.perf_counter()

        async def worker() -> None:
            nonlocal pairs
            while time.perf_counter() - started < seconds:
                (hold,) = await budget.hold_all([AMOUNTS])
                if sent:
                    await hold.mark_sent()
                hold.post(AMOUNTS)
                pairs += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(TASKS):
                group.create_task(worker())
        await ledger.flush()
        return round(pairs / (time.perf_counter() - started))


async def four_processes(path: Path, seconds: float) -> int:
    """Pairs a second of four processes on one file, together."""
    command = [sys.executable, "-m", "benchmarks.ledger", "--worker", str(path), "--seconds", str(seconds)]
    programs = [await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE) for _ in range(4)]
    told = [await program.communicate() for program in programs]
    return round(sum(float(out) for out, _ in told))


def measure(seconds: float) -> dict[str, object]:
    """All figures."""
    found: dict[str, object] = {"memory_us_a_pair": memory_us()}
    kinds: tuple[tuple[Synchronous, bool], ...] = (("NORMAL", False), ("NORMAL", True), ("FULL", False), ("FULL", True))
    with tempfile.TemporaryDirectory() as folder:
        for synchronous, sent in kinds:
            name = f"{synchronous.lower()}{'_with_sent' if sent else ''}_pairs_a_second"
            path = Path(folder) / name
            found[name] = asyncio.run(pairs_a_second(path, seconds, synchronous=synchronous, sent=sent))
        found["four_processes_pairs_a_second"] = asyncio.run(four_processes(Path(folder) / "shared", seconds))
    versions = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    return found | {"environment": versions | {"machine": platform.machine(), "cores": os.cpu_count()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement in a file")
    parser.add_argument("--json", type=Path, help="write the figures and the environment there")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker is not None:
        print(asyncio.run(pairs_a_second(args.worker, args.seconds, synchronous="NORMAL", sent=True)))
        return
    found = measure(args.seconds)
    print(json.dumps(found, indent=2))
    if args.json is not None:
        args.json.write_text(json.dumps(found, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
