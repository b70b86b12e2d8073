"""How long the event loop is kept from serving others while the SDK works.

    python -m benchmarks.loop_stall [--json FILE]

Two hundred calls at once go to a stub on loopback, with a ledger and a cache on files and quotas that never bind. Three
clocks run beside them: every callback of the loop is timed, by the wall and by the CPU of its thread; a coroutine that
asks to be woken every millisecond tells how late it is; and the garbage collector's pauses are noted. The bar: nothing
that the SDK does keeps the loop longer than 10 ms. A tick that comes late may have waited for many short callbacks, or
for another process; one callback's CPU time cannot.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.client_overhead import score_query, stub
from benchmarks.figures import tell
from benchmarks.stub_server import TEXTS, TOKENS
from lmaas_sdk import Budget, Limits, load_backend
from lmaas_sdk.accounting.ledger_file import open_ledger
from lmaas_sdk.client import Client
from lmaas_sdk.traffic.cache_file import open_cache

CONCURRENCY = 200

_MANY = 10**12
_TICK_S = 0.001
_COUNTS = (TOKENS // TEXTS,) * TEXTS


class Stalls:
    """What was measured, in seconds, while `watched` was on.

    Attributes:
        callbacks: The loop's callbacks, by the wall.
        callbacks_cpu: The same, by the CPU time of the loop's thread, pauses for garbage left out.
        ticks: How late a tick of a millisecond came.
        pauses: Of the garbage collector, in the loop's thread, by its CPU time.
    """

    def __init__(self) -> None:
        self.callbacks: list[float] = []
        self.callbacks_cpu: list[float] = []
        self.ticks: list[float] = []
        self.pauses: list[float] = []

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Measures callbacks and pauses."""
        plain, on_garbage = asyncio.Handle._run, self._on_garbage()
        asyncio.Handle._run = self._timed(plain)  # type: ignore[assignment, method-assign]
        gc.callbacks.append(on_garbage)
        try:
            yield
        finally:
            asyncio.Handle._run = plain  # type: ignore[method-assign]
            gc.callbacks.remove(on_garbage)

    async def tick(self) -> None:
        """Asks to be woken every millisecond, for ever."""
        while True:
            asked = time.perf_counter() + _TICK_S
            await asyncio.sleep(_TICK_S)
            self.ticks.append(max(0.0, time.perf_counter() - asked))

    def _timed(self, run: Callable[[asyncio.Handle], None]) -> Callable[[asyncio.Handle], None]:
        def timed(handle: asyncio.Handle) -> None:
            pauses, began, cpu = len(self.pauses), time.perf_counter(), time.thread_time()
            run(handle)
            self.callbacks_cpu.append(time.thread_time() - cpu - sum(self.pauses[pauses:]))
            self.callbacks.append(time.perf_counter() - began)

        return timed

    def _on_garbage(self) -> Callable[[str, dict[str, int]], None]:
        began, here = [0.0], threading.get_ident()

        def note(phase: str, _: dict[str, int]) -> None:
            if threading.get_ident() != here:  # the ledger's or the cache's, which keeps the loop too, by the GIL
                return
            if phase == "start":
                began[0] = time.thread_time()
            else:
                self.pauses.append(time.thread_time() - began[0])

        return note

    def summary(self) -> dict[str, object]:
        """The longest of each, and what all but one in a thousand stay below, in milliseconds."""
        return {
            "callback_cpu": _summary(self.callbacks_cpu),
            "callback": _summary(self.callbacks),
            "tick_late": _summary(self.ticks),
            "garbage_pause": _summary(self.pauses),
        }


def _summary(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds) or [0.0]
    late = ordered[min(len(ordered) - 1, int(0.999 * len(ordered)))]
    return {"count": len(seconds), "p99_9_ms": round(late * 1e3, 2), "max_ms": round(ordered[-1] * 1e3, 2)}


async def ask(client: Client, numbers: Iterator[int]) -> None:
    """Calls one after the other; every fourth was asked before, and is answered from the cache."""
    for number in numbers:
        query = score_query(number - CONCURRENCY if number % 4 == 0 and number > CONCURRENCY else number)
        await client.score(client.call(query, f"call-{number}", purpose="train", token_counts=_COUNTS))


async def measure(url: str, folder: Path, calls: int) -> dict[str, object]:
    """Stalls over so many calls, after as many that warm up."""
    stalls = Stalls()
    async with (
        load_backend(url, api_key="test-key-benchmark") as backend,
        open_ledger(folder / "stall.ledger") as ledger,
        open_cache(folder / "stall.cache") as cache,
    ):
        limits = Limits(requests_per_minute=_MANY, tokens_per_minute=_MANY, concurrency=CONCURRENCY)
        budget = Budget(calls=_MANY, tokens=_MANY, name="team", ledger=ledger).child("run", Budget(tokens=_MANY))
        client = Client(backend, budget, quotas=limits, cache=cache)
        await _all(client, range(calls))
        with stalls.watched():
            ticking = asyncio.create_task(stalls.tick())
            await _all(client, range(calls, 2 * calls))
            ticking.cancel()
            await asyncio.wait([ticking])
        await ledger.flush()
        assert calls < budget.posted.calls <= 2 * calls
    return stalls.summary()


async def _all(client: Client, numbers: range) -> None:
    shared = iter(numbers)
    async with asyncio.TaskGroup() as group:
        for _ in range(CONCURRENCY):
            group.create_task(ask(client, shared))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--json", type=Path, help="write the figures and the environment there")
    args = parser.parse_args()
    with stub() as url, tempfile.TemporaryDirectory() as folder:
        found: dict[str, Any] = asyncio.run(measure(url, Path(folder), args.calls))
    tell({**found, "calls": args.calls, "concurrency": CONCURRENCY}, "benchmarks.loop_stall", args.json)


if __name__ == "__main__":
    main()
