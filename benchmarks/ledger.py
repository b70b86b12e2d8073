"""What booking costs: reserve and post in memory, on a ledger file, by four processes, and on a file of a million rows.

    python -m benchmarks.ledger [--json FILE]

A pair is a reservation and what resolves it, in a budget below another. The bars: at most 40 us of CPU a pair in
memory, and at least 4,000 pairs a second on a file at synchronous=NORMAL with 50 tasks at once.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.figures import tell
from lmaas_sdk import Amounts, Budget
from lmaas_sdk.accounting.ledger import Ledger
from lmaas_sdk.accounting.ledger_file import Synchronous, open_ledger
from lmaas_sdk.accounting.transfers import Label
from lmaas_sdk.accounting.verification import verify_ledger

TASKS = 50
PROCESSES = 4
MODES: tuple[Synchronous, ...] = ("NORMAL", "FULL")

_MANY = 10**12
_WORST, _ACTUAL = Amounts(1, 1, 1024, 2048), Amounts(1, 1, 1000, 2000)
_BATCH = 500
_START_S = 3.0  # in which every process has started and imported what it needs


def below(ledger: Ledger | None = None) -> Budget:
    """A budget below another, both with every limit."""
    parent = Budget(calls=_MANY, evaluations=_MANY, tokens=_MANY, usd=_MANY, name="team", ledger=ledger)
    return parent.child("run", Budget(calls=_MANY, evaluations=_MANY, tokens=_MANY, usd=_MANY))


def in_memory_us(pairs: int) -> float:
    """CPU microseconds of a reservation and its posting, in memory."""
    budget = below()
    gc.collect()
    started = time.process_time()
    for _ in range(pairs):
        budget.reserve(_WORST).post(_ACTUAL)
    return (time.process_time() - started) / pairs * 1e6


async def book(budget: Budget, numbers: range, *, mark_sent: bool) -> None:
    """Pairs one after the other, as one task of a run would."""
    for number in numbers:
        (hold,) = await budget.hold_all([_WORST], [Label("train", "model/score", f"call {number}")])
        if mark_sent:
            await hold.mark_sent()
        hold.post(_ACTUAL)


async def on_file_s(path: Path, pairs: int, *, synchronous: Synchronous = "NORMAL", mark_sent: bool = True) -> float:
    """Seconds of so many pairs on a file with 50 tasks at once, until the last one is booked."""
    async with open_ledger(path, synchronous=synchronous) as ledger:
        budget = below(ledger)
        await ledger.flush()
        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for task in range(TASKS):
                group.create_task(book(budget, range(task, pairs, TASKS), mark_sent=mark_sent))
        await ledger.flush()
        return time.perf_counter() - started


def rate_on_file(folder: Path, pairs: int, synchronous: Synchronous, *, mark_sent: bool) -> float:
    """Pairs a second in a file of its own."""
    path = folder / f"{synchronous}-{mark_sent}-{time.time_ns()}.ledger"
    return pairs / asyncio.run(on_file_s(path, pairs, synchronous=synchronous, mark_sent=mark_sent))


def _share(path: Path, pairs: int, begin_at: float) -> float:
    """What one of several processes on one file does; seconds from the common beginning to its end."""
    time.sleep(max(0.0, begin_at - time.time()))
    asyncio.run(on_file_s(path, pairs))
    return time.time() - begin_at


def rate_of_processes(folder: Path, pairs: int) -> float:
    """Pairs a second of four processes with 50 tasks each, on one file and one cap, each pair marked as sent."""
    path = folder / f"shared-{time.time_ns()}.ledger"
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        share = partial(_share, path, pairs // PROCESSES, time.time() + _START_S)
        took_s = [done.result() for done in [pool.submit(share) for _ in range(PROCESSES)]]
    return pairs / max(took_s)


def fill(path: Path, entries: int) -> None:
    """A file with so many entries of pairs, booked in large batches."""
    with open_ledger(path) as ledger:
        budget = below(ledger)
        for start in range(0, entries // 2, _BATCH):
            count = min(_BATCH, entries // 2 - start)
            labels = [Label("train", "model/score", f"call {start + number}") for number in range(count)]
            for hold in budget.reserve_all([_WORST] * count, labels):
                hold.post(_ACTUAL)


def on_large_file(folder: Path, entries: int) -> dict[str, float]:
    """Seconds to open a file of so many entries and its budgets, and to verify it."""
    path = folder / "large.ledger"
    fill(path, entries)
    started = time.perf_counter()
    with open_ledger(path) as ledger:
        below(ledger)
        opened_s = time.perf_counter() - started
    started = time.perf_counter()
    assert verify_ledger(path).is_right
    verified_s = time.perf_counter() - started
    size_mb = path.stat().st_size / 1e6
    return {
        "entries": entries,
        "size_mb": round(size_mb, 1),
        "open_s": round(opened_s, 3),
        "verify_s": round(verified_s, 1),
    }


def several(measure: Callable[[], float], rounds: int) -> dict[str, Any]:
    """The median of several rounds, and each of them."""
    found = [round(measure(), 1) for _ in range(rounds)]
    return {"median": round(statistics.median(found), 1), "rounds": found}


def measure(folder: Path, *, pairs: int, rounds: int, entries: int) -> dict[str, Any]:
    """All figures."""
    rates = {
        f"{mode}{', marked as sent' if mark else ''}": several(
            partial(rate_on_file, folder, pairs, mode, mark_sent=mark), rounds
        )
        for mode in MODES
        for mark in (False, True)
    }
    return {
        "in_memory_us_a_pair": several(partial(in_memory_us, pairs), rounds),
        "pairs_a_second_on_a_file": rates,
        "pairs_a_second_of_4_processes": several(partial(rate_of_processes, folder, pairs), rounds),
        "large_file": on_large_file(folder, entries),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20_000, help="a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--entries", type=int, default=1_000_000, help="of the large file")
    parser.add_argument("--json", type=Path, help="write the figures and the environment there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), pairs=args.pairs, rounds=args.rounds, entries=args.entries)
    tell({**found, "pairs": args.pairs, "tasks": TASKS}, "benchmarks.ledger", args.json)


if __name__ == "__main__":
    main()
