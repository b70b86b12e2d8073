"""CPU time of a run of 400 generations outside the backend: ask and tell, client, budget, scheduler.

    python -m benchmarks.overhead [--preset sep-tpa]

The bar for `sep-tpa` is 6 s. The mock's own time is measured inside its `score` and taken off.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from typing import Any

from lmaas_sdk import PRESETS, Budget, ScoreQuery, ScoreReply, Task, Tuner, load_backend

GENERATIONS = 400


class Timed:
    """A backend whose own CPU time is known."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.card, self.cpu_s = inner, inner.card, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def score(self, query: ScoreQuery, *, key: str) -> ScoreReply:
        started = time.process_time()
        try:
            reply: ScoreReply = await self.inner.score(query, key=key)
            return reply
        finally:
            self.cpu_s += time.process_time() - started


async def measure(preset: str) -> dict[str, float | str]:
    """CPU seconds of one run: in all, in the mock, and in the rest."""
    task = Task("things", template="{text} It was <mask> .", labels=["no", "yes"], words=["bad", "great"])
    rows = [(f"a {('dull', 'lovely')[n % 2]} thing, number {n}", n % 2) for n in range(64)]
    train, dev = task.examples(rows[:32]), task.examples(rows[32:])
    async with load_backend("mock") as mock:
        backend = Timed(mock)
        budget = Budget(evaluations=GENERATIONS * PRESETS[preset].population)
        started = time.process_time()
        await Tuner(backend, budget=budget, preset=preset).fit(train, dev)
        total = time.process_time() - started
    rest = total - backend.cpu_s
    return {
        "preset": preset,
        "cpu_s": round(total, 2),
        "mock_cpu_s": round(backend.cpu_s, 2),
        "outside_cpu_s": round(rest, 2),
        "outside_ms_a_generation": round(1000 * rest / GENERATIONS, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="sep-tpa", choices=sorted(PRESETS))
    print(json.dumps(asyncio.run(measure(parser.parse_args().preset)), indent=1))


if __name__ == "__main__":
    main()
