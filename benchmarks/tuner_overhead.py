"""CPU time that a tuning run takes beside pycma and the backend: scheduler, client, ledger file and journal.

    python -m benchmarks.tuner_overhead [--generations 400] [--rounds 3] [--json FILE]

Preset `paper` on the mock, 32 texts to train on and 32 as dev set. Taken off is what pycma's ask and tell take on their
thread (`pycma`), and the steps of the mock's `score` (`mock`), both in the same run; what is left, of all threads, is
divided by the generations. It has the looks at dev in it, and all that a run does once. The bar: at most 3 ms a
generation whose 20 candidates go out in one call, with a ledger file and a journal ("as it is").
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Generator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import lmaas_sdk.tuning.cmaes  # noqa: F401  (it imports pycma, which is no part of a run)
from benchmarks.figures import tell
from lmaas_backends.mock import MockBackend
from lmaas_sdk import PRESETS, Budget, Dataset, Preset, ScoreQuery, ScoreReply, Task, Tuner, open_ledger
from lmaas_sdk.tuning.journal import Durability
from lmaas_sdk.tuning.optimizer import Batch, Optimizer
from lmaas_sdk.tuning.searches import make_optimizer

SEED, TEXTS = 42, 32
TASK = Task("things", template="{text} It was <mask> .", labels=["no", "yes"], words=["bad", "great"])


@dataclass(frozen=True, slots=True)
class Way:
    """How a run is kept and sent.

    Args:
        calls: A generation's.
        ledger: Whether its budget is in a file.
        journal: When its journal waits for the disk; None: there is none.
    """

    calls: int = 1
    ledger: bool = True
    journal: Durability | None = "generation"


WAYS = {
    "as it is": Way(),
    "durability always": Way(journal="always"),
    "durability never": Way(journal="never"),
    "no journal": Way(journal=None),
    "no ledger file": Way(ledger=False),
    "neither": Way(ledger=False, journal=None),
    "20 calls": Way(calls=20),
    "20 calls, neither": Way(calls=20, ledger=False, journal=None),
}


class TimedOptimizer:
    """pycma whose time on its thread is known."""

    def __init__(self, inner: Optimizer) -> None:
        self._inner, self.cpu_s = inner, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def ask(self, extra: int = 0) -> Batch:
        began = time.thread_time()
        batch = self._inner.ask(extra)
        self.cpu_s += time.thread_time() - began
        return batch

    def tell(self, generation: int, values: Mapping[int, float]) -> None:
        began = time.thread_time()
        self._inner.tell(generation, values)
        self.cpu_s += time.thread_time() - began


class TimedBackend:
    """A mock whose own time is known, also while other tasks run between its steps."""

    def __init__(self, inner: MockBackend) -> None:
        self._inner, self.card, self.cpu_s = inner, inner.card, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def score(self, query: ScoreQuery, *, key: str) -> ScoreReply:
        return await _Timed(self, self._inner.score(query, key=key))


class _Timed:
    """A coroutine whose steps are timed; for calls that nobody cancels."""

    def __init__(self, of: TimedBackend, inner: Coroutine[Any, Any, ScoreReply]) -> None:
        self._of, self._inner = of, inner

    def __await__(self) -> Generator[Any, Any, ScoreReply]:
        while True:
            began = time.thread_time()
            try:
                waits_for = self._inner.send(None)
            except StopIteration as end:
                return cast("ScoreReply", end.value)
            finally:
                self._of.cpu_s += time.thread_time() - began
            yield waits_for


async def run(way: Way, preset: Preset, generations: int, folder: Path) -> dict[str, float]:
    """One run: CPU seconds of all threads, of pycma and of the mock."""
    timed: list[TimedOptimizer] = []

    def make(d: int, seed: int) -> Any:
        timed.append(TimedOptimizer(make_optimizer(preset, d, seed)))
        return timed[-1]

    backend = TimedBackend(MockBackend(max_candidates=-(-preset.population // way.calls)))
    settings: dict[str, Any] = {"preset": preset, "seed": SEED, "optimizer": make}
    if way.journal is not None:
        settings |= {"journal": folder / "run.journal", "durability": way.journal}
    async with _budget(way, generations * preset.population, folder) as budget:
        tuner = Tuner(backend, budget=budget, **settings)
        gc.collect()
        began = time.process_time()
        result = await tuner.fit(_texts(0), _texts(TEXTS))
        taken = time.process_time() - began
    if len(result.generations) != generations:
        raise RuntimeError(f"there were {len(result.generations)} generations, not {generations}: {result.stopped}")
    return {"all": taken, "pycma": timed[0].cpu_s, "mock": backend.cpu_s}


@asynccontextmanager
async def _budget(way: Way, evaluations: int, folder: Path) -> AsyncIterator[Budget]:
    if not way.ledger:
        yield Budget(evaluations=evaluations)
        return
    async with open_ledger(folder / "spend.ledger") as ledger:
        yield Budget(evaluations=evaluations, ledger=ledger)


def _texts(start: int) -> Dataset:
    rows = [(f"a {('dull', 'lovely')[n % 2]} thing, number {n}", n % 2) for n in range(start, start + TEXTS)]
    return TASK.examples(rows)


def measure(preset: Preset, *, ways: Sequence[str], generations: int, rounds: int) -> dict[str, dict[str, Any]]:
    """Milliseconds a generation of every way, in turns: medians, and those of each round."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name in ways:
            with tempfile.TemporaryDirectory() as folder:
                taken = asyncio.run(run(WAYS[name], preset, generations, Path(folder)))
            beside = taken["all"] - taken["pycma"] - taken["mock"]
            ms = {part: 1000 * seconds / generations for part, seconds in {**taken, "beside": beside}.items()}
            found[name].append(ms)
    return {name: _medians(taken) for name, taken in found.items()}


def _medians(rounds: list[dict[str, float]]) -> dict[str, Any]:
    medians: dict[str, Any] = {
        f"{part}_ms": round(statistics.median(taken[part] for taken in rounds), 3) for part in rounds[0]
    }
    return medians | {"rounds_beside_ms": [round(taken["beside"], 3) for taken in rounds]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generations", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--json", type=Path, help="write the figures and the environment there")
    args = parser.parse_args()
    ways = measure(PRESETS["paper"], ways=args.ways, generations=args.generations, rounds=args.rounds)
    found = {"preset": "paper", "seed": SEED, "generations": args.generations, "rounds": args.rounds}
    tell({**found, "ms_a_generation": ways}, "benchmarks.tuner_overhead", args.json)


if __name__ == "__main__":
    main()
