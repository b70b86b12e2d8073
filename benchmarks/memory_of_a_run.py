"""One process of `benchmarks.tuner_memory`: what is resident before and after a run, or pycma alone.

    python -I benchmarks/memory_of_a_run.py run --url URL [--folder FOLDER] [--generations 400]
    python -I benchmarks/memory_of_a_run.py pycma [--generations 400]

It imports nothing but the SDK, so that it runs where nothing else is installed. `run` is preset `paper` on 32 texts,
with as many as dev set, on a server in another process; with a folder, its ledger and journal are files there. `pycma`
asks and tells as often, on a thread as the tuner does. Both have imported pycma before. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import lmaas_sdk.tuning.cmaes  # noqa: F401  (pycma: before the first measurement, not within what is measured)
from lmaas_sdk import PRESETS, Backend, Budget, Dataset, Task, Tuner, load_backend, open_ledger
from lmaas_sdk.side_thread import SideThread
from lmaas_sdk.tuning.searches import make_optimizer

SEED, TEXTS, D = 42, 32, 500
PRESET = PRESETS["paper"]
TASK = Task("things", template="{text} It was <mask> .", labels=["no", "yes"], words=["bad", "great"])


class Resident:
    """What is resident from now on; in units of 10^6 bytes."""

    def __init__(self) -> None:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5", "ascii")  # the kernel begins anew with the most that ever was
        self.before_mb = _status_mb("VmRSS")

    def grown(self) -> dict[str, object]:
        """What is resident now, and the most that was, beyond what was before."""
        peak_mb = _status_mb("VmHWM")
        gc.collect()
        return {
            "before_mb": round(self.before_mb, 2),
            "peak_grown_mb": round(peak_mb - self.before_mb, 2),
            "grown_mb": round(_status_mb("VmRSS") - self.before_mb, 2),
            "loaded": sorted({"torch", "scipy", "matplotlib", "transformers"} & sys.modules.keys()),
        }


def _status_mb(name: str) -> float:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text("utf-8").splitlines())
    return int(lines[name].split()[0]) * 1024 / 1e6


async def of_a_run(url: str, generations: int, folder: Path | None) -> dict[str, object]:
    """What `Tuner.fit` adds to a process that has a client open."""
    async with load_backend(url, api_key="test-key-benchmark") as backend, _budget(generations, folder) as budget:
        resident = await asyncio.to_thread(Resident)
        result = await _tuner(backend, budget, folder).fit(_texts(0), _texts(TEXTS))
        found = await asyncio.to_thread(resident.grown)
    return found | {"generations": len(result.generations), "calls": result.spend.total.calls}


def _tuner(backend: Backend, budget: Budget, folder: Path | None) -> Tuner:
    journal = None if folder is None else folder / "run.journal"
    return Tuner(backend, budget=budget, preset=PRESET, seed=SEED, journal=journal)


@asynccontextmanager
async def _budget(generations: int, folder: Path | None) -> AsyncIterator[Budget]:
    evaluations = generations * PRESET.population
    if folder is None:
        yield Budget(evaluations=evaluations)
        return
    async with open_ledger(folder / "spend.ledger") as ledger:
        yield Budget(evaluations=evaluations, ledger=ledger)


async def of_pycma(generations: int) -> dict[str, object]:
    """What the search adds by itself; it is gone when what is left is measured, as it is after a run."""
    resident = await asyncio.to_thread(Resident)
    with SideThread("lmaas-optimizer") as thread:
        await _search(thread, generations)
    return await asyncio.to_thread(resident.grown) | {"generations": generations}


async def _search(thread: SideThread, generations: int) -> None:
    optimizer = await thread.run(lambda: make_optimizer(PRESET, D, SEED))
    for generation in range(generations):
        batch = await thread.run(optimizer.ask)
        losses = {index: float(x @ x) for index, x in enumerate(batch.X)}
        await thread.run(partial(optimizer.tell, generation, losses))


def _texts(start: int) -> Dataset:
    rows = [(f"a {('dull', 'lovely')[n % 2]} thing, number {n}", n % 2) for n in range(start, start + TEXTS)]
    return TASK.examples(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "pycma"])
    parser.add_argument("--url", help="of a server in another process")
    parser.add_argument("--folder", type=Path, help="for ledger and journal (default: none are kept)")
    parser.add_argument("--generations", type=int, default=400)
    args = parser.parse_args()
    if args.what == "run" and args.url is None:
        parser.error("run needs --url")
    ran = of_a_run(args.url, args.generations, args.folder) if args.what == "run" else of_pycma(args.generations)
    sys.stdout.write(json.dumps(asyncio.run(ran)) + "\n")


if __name__ == "__main__":
    main()
