"""How long the event loop is kept from other work while the SDK is busy.

    python -m benchmarks.loop_stall [--calls 4000] [--json FILE]

Calls over loopback HTTP at concurrency 200, booked in a ledger file, with quotas in that file and a cache on disk. What
is measured is every single callback of the event loop: how long it took, collections of garbage
included. Bar: none above 10 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import asyncio.events
import gc
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.client_overhead import score_query, stub
from benchmarks.stub_server import TEXTS, TOKENS
from lmaas_sdk import Budget, Client, Limits, load_backend, open_cache, open_ledger

CONCURRENCY = 200
MANY = 10**9


@contextmanager
def timed_callbacks() -> Iterator[list[float]]:
    """Seconds of CPU of this thread that each callback of the event loop takes, while inside."""
    taken_s: list[float] = []
    handles: Any = asyncio.events.Handle
    run = handles._run

    def timed(handle: asyncio.events.Handle) -> Any:
        started = time.thread_time()
        try:
            return run(handle)
        finally:
            taken_s.append(time.thread_time() - started)

    handles._run = timed
    try:
        yield taken_s
    finally:
        handles._run = run


@contextmanager
def timed_collections() -> Iterator[list[float]]:
    """Seconds that each collection of garbage takes, while inside."""
    taken_s, began = [], [0.0]

    def note(phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            began[0] = time.thread_time()
        else:
            taken_s.append(time.thread_time() - began[0])

    gc.callbacks.append(note)
    try:
        yield taken_s
    finally:
        gc.callbacks.remove(note)


async def work(url: str, folder: Path, calls: int) -> None:
    """The calls, through everything."""
    limits = Limits(requests_per_minute=MANY, tokens_per_minute=MANY * 1000, concurrency=CONCURRENCY)
    async with (
        open_ledger(folder / "spend.ledger") as ledger,
        open_cache(folder / "answers.cache") as cache,
        load_backend(url, api_key="test-key-benchmark") as backend,
    ):
        budget = Budget(calls=MANY, tokens=MANY * 1000, name="run", ledger=ledger)
        client = Client(backend, budget, quotas=limits, cache=cache)
        numbers = iter(range(calls))

        async def worker() -> None:
            for number in numbers:
                counts = (TOKENS // TEXTS,) * TEXTS
                call = client.call(score_query(number), f"call {number}", purpose="train", token_counts=counts)
                await client.score(call)

        with timed_callbacks() as callbacks_s, timed_collections() as collections_s:
            async with asyncio.TaskGroup() as group:
                for _ in range(CONCURRENCY):
                    group.create_task(worker())
        assert budget.posted.calls == calls
    _told.update(summary(callbacks_s, collections_s))


_told: dict[str, object] = {}


def summary(callbacks_s: list[float], collections_s: list[float]) -> dict[str, object]:
    """The longest, and how long 99.9 % take at most, in milliseconds."""
    callbacks = sorted(callbacks_s)
    return {
        "callbacks": len(callbacks),
        "longest_ms": round(callbacks[-1] * 1e3, 2),
        "p999_ms": round(callbacks[int(len(callbacks) * 0.999)] * 1e3, 2),
        "median_ms": round(callbacks[len(callbacks) // 2] * 1e3, 3),
        "longest_collection_ms": round(max(collections_s, default=0.0) * 1e3, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=4000)
    parser.add_argument("--json", type=Path, help="write the figures and the environment there")
    args = parser.parse_args()
    with stub() as url, tempfile.TemporaryDirectory() as folder:
        asyncio.run(work(url, Path(folder), args.calls))
    machine = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}
    found = _told | {"calls": args.calls, "concurrency": CONCURRENCY, "environment": machine}
    print(json.dumps(found, indent=2))
    if args.json is not None:
        args.json.write_text(json.dumps(found, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
