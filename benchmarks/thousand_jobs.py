"""CPU time that it takes to simulate many tuning jobs that share a quota and a budget, and how fairly they share.

    python -m benchmarks.thousand_jobs [--jobs 10,100,300,1000] [--json FILE]

Each job is one of 20 generations of 20 candidates at d = 50 (preset `sep-tpa`) on 32 texts, without a dev set. All of
them share a budget of evaluations and of money, and a quota of 600 requests a minute for a thousand jobs, of fewer for
fewer, so that it is always scarce. Once all have the same priority, and once 1, 2 and 4 take turns. `highest` is the
largest use / fair share from five turns on (docs/many-jobs.md), `over` by how much any limit was exceeded, `kilobytes`
the most memory of the process so far. The bar: a thousand jobs in less than three minutes on one core, `highest` at
most 1.2, `over` 0.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import lmaas_sdk.tuning.cmaes  # noqa: F401  (it imports pycma, which is no part of a simulation)
from benchmarks.figures import tell
from lmaas_sdk import (
    PRESETS,
    Budget,
    Conditions,
    Latency,
    Limits,
    Price,
    SyntheticTexts,
    TuningJob,
    simulate_jobs,
)

SEED, GENERATIONS = 42, 20
PRESET = replace(PRESETS["sep-tpa"], name="sep-tpa, d 50", d=50, population=20)
CONDITIONS = Conditions(
    price=Price(400_000_000), latency=Latency(median_s=1.0, spread=0.3), began=datetime(2026, 3, 1, tzinfo=UTC)
)
A_MINUTE = 0.6  # requests, for each of the jobs
PRIORITIES = {"alike": (1.0,), "1:2:4": (1.0, 2.0, 4.0)}


def measured(count: int, priorities: Sequence[float]) -> dict[str, object]:
    """One simulation, and what it took."""
    train = SyntheticTexts().dataset(SEED, "train")
    jobs = [
        TuningJob(f"job-{n}", train, preset=PRESET, seed=n, priority=priorities[n % len(priorities)])
        for n in range(count)
    ]
    budget = Budget(evaluations=count * GENERATIONS * PRESET.population, usd=str(count))
    conditions = replace(CONDITIONS, quotas=Limits(requests_per_minute=round(A_MINUTE * count)))
    began_s, cpu_began_s = time.perf_counter(), time.process_time()
    found = simulate_jobs(jobs, budget=budget, conditions=conditions, seed=SEED)
    return {
        "cpu_s": round(time.process_time() - cpu_began_s, 2),
        "wall_s": round(time.perf_counter() - began_s, 2),
        "simulated_s": round(found.elapsed_s),
        "generations": sum(job.generations for job in found.jobs),
        "highest": found.highest,
        "lowest": found.lowest,
        "turns_ahead": found.ahead,
        "turns_behind": found.behind,
        "over": sum(bound.over for bound in found.bounds),
        "refused_by_quota": found.billed["limited"],
        "kilobytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", default="10,100,300,1000", metavar="N,N,...")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    counts = [int(count) for count in args.jobs.split(",")]
    found = {
        str(count): {name: measured(count, priorities) for name, priorities in PRIORITIES.items()} for count in counts
    }
    tell({"seed": SEED, "jobs": found}, "benchmarks.thousand_jobs", args.json)


if __name__ == "__main__":
    main()
