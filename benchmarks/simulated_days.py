"""How long it takes to simulate months of quota.

    python -m benchmarks.simulated_days [--rounds 3] [--json FILE]

8000 evaluations with preset `sep-tpa` at 100 calls a day in a time zone whose clocks change on the way, without a dev
set: with one candidate a call it takes 80 days, with 20 it takes 4. The bar: less than 60 s on one core for the 80
days. Wall and CPU time are told of the run itself, and of `simulate` with the unlimited run that it is compared with.
`cpu_ms_a_call` is by how much a call more makes it longer: scheduler, client, ledger and quota, the mock, and the
event loop.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from benchmarks.figures import tell
from lmaas_sdk import Budget, Limits
from lmaas_sdk.planning.conditions import Conditions
from lmaas_sdk.planning.scenario import Scenario, price_named
from lmaas_sdk.planning.simulate import simulate
from lmaas_sdk.planning.simulation import Simulation
from lmaas_sdk.planning.synthetic import SyntheticTexts

SEED, EVALUATIONS, A_DAY, ZONE = 42, 8000, 100, "Europe/Berlin"
DAYS = {1: 80, 20: 4}  # by candidates a call
RESULTS = Path(__file__).parent / "results"


def scenario(candidates_a_call: int, evaluations: int = EVALUATIONS) -> Scenario:
    """The run, from the first of March on: clocks go forward on the 29th."""
    return Scenario(
        train=SyntheticTexts(count=32, tokens=25),
        preset="sep-tpa",
        budget=Budget(evaluations=evaluations),
        candidates_a_call=candidates_a_call,
        conditions=Conditions(
            price=price_named("gpt3-2022/davinci"),
            quotas=Limits(requests_per_day=A_DAY, day_time_zone=ZONE),
            began=datetime(2026, 3, 1, tzinfo=ZoneInfo(ZONE)),
        ),
    )


def timed(work: Callable[[], Simulation]) -> tuple[Simulation, float, float]:
    """What it comes to, and the seconds of wall and CPU that it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    return found, time.perf_counter() - wall, time.process_time() - cpu


def measure(candidates_a_call: int, *, rounds: int, evaluations: int = EVALUATIONS) -> dict[str, Any]:
    """One setting: how it ended, and medians of the rounds."""
    played = scenario(candidates_a_call, evaluations)
    simulate(scenario(candidates_a_call, 20), compare=False)  # what is imported once is none of it
    alone = [timed(lambda: simulate(played, seeds=[SEED], compare=False)) for _ in range(rounds)]
    compared = timed(lambda: simulate(played, seeds=[SEED]))
    (run,) = compared[0].runs
    return {
        "ended": run.ended.isoformat(),
        "day": run.day,
        "elapsed_days": run.elapsed_s / 86_400,
        "calls": run.calls,
        "evaluations": run.evaluations,
        "waits_s": dict(run.waits),
        "cost_usd": run.to_dict()["cost_usd"],
        "run_wall_s": _median(wall for _, wall, _ in alone),
        "run_cpu_s": _median(cpu for _, _, cpu in alone),
        "rounds_cpu_s": [round(cpu, 2) for _, _, cpu in alone],
        "compared_wall_s": round(compared[1], 2),
        "compared_cpu_s": round(compared[2], 2),
    }


def _median(values: Iterable[float]) -> float:
    return round(statistics.median(values), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures and the environment there")
    args = parser.parse_args()
    found = {f"{candidates} a call": measure(candidates, rounds=args.rounds) for candidates in DAYS}
    many, few = found["1 a call"], found["20 a call"]
    for candidates, day in DAYS.items():
        if (ended := found[f"{candidates} a call"]["day"]) != day:
            raise SystemExit(f"with {candidates} candidates a call it ended on day {ended}, not {day}")
    a_call_ms = 1000 * (many["run_cpu_s"] - few["run_cpu_s"]) / (many["calls"] - few["calls"])
    told = {"preset": "sep-tpa", "seed": SEED, "evaluations": EVALUATIONS, "requests_per_day": A_DAY, "zone": ZONE}
    tell({**told, "settings": found, "cpu_ms_a_call": round(a_call_ms, 3)}, "benchmarks.simulated_days", args.json)


if __name__ == "__main__":
    main()
