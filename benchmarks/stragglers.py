"""What slow calls cost a run, by what it does about them: one call in twenty takes 20 times as long as the median.

    python -m benchmarks.stragglers [--seeds 5] [--generations 100] [--json FILE]

Preset `paper` and the same with two-point step sizes, 20 calls a generation, all of them under way at once, on the mock
in virtual time: waiting is all that takes time there. A call takes a second, or a lognormal time whose median that is
(sigma 0.25). Each run is compared with the one of the same seed that has no stragglers and waits for every call: wall
time, and tokens, those of abandoned calls and of calls sent twice included, over as many generations. `lowest` is the
lowest train loss, as candidates that are dropped teach nothing. Bars, for `drop`, in the median over the seeds: at most
1.15 times the wall time, and at most 1.02 times the tokens. Above that are runs with a generation of which six calls or
more are slow: three quarters of it (`Scheduling.quorum`) are waited for. `hedge` sends a call again when it takes 1.5
times as long as nine in ten did (`Scheduling.hedge_factor`), so that it pays twice for hardly any but the slow ones.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import tell
from lmaas_backends.mock import MockBackend
from lmaas_sdk import PRESETS, Budget, Dataset, Event, GenerationDone, Limits, Preset, Scheduling, Task, Tuner
from lmaas_sdk.testing import run_virtual

TASK = Task("things", template="{text} It was <mask> .", labels=["no", "yes"], words=["bad", "great"])
TEXTS, MEDIAN_S, SIGMA = 32, 1.0, 0.25
PART_SLOW, TIMES_SLOW = 0.05, 20.0
BAR_WALL, BAR_TOKENS = 1.15, 1.02
WAYS = {
    "wait": Scheduling(),
    "drop": Scheduling(stragglers="drop"),
    "hedge": Scheduling(stragglers="hedge"),
    "over_ask=4": Scheduling(over_ask=4),
}
SEARCHES = {"csa": PRESETS["paper"], "tpa": replace(PRESETS["paper"], name="paper, tpa", step_size="tpa")}
Draw = Callable[[np.random.Generator], float]
BASES: dict[str, Draw] = {
    "constant": lambda _: MEDIAN_S,
    "lognormal": lambda random: float(MEDIAN_S * np.exp(SIGMA * random.standard_normal())),
}


@dataclass(frozen=True, slots=True)
class Case:
    """What is run.

    Args:
        search: Its preset.
        base: Latencies of calls that are not slow.
        seed: Of search and latencies.
        generations: How many.
        at_once: Calls that may be under way; None: all of a generation.
    """

    search: Preset
    base: Draw
    seed: int
    generations: int
    at_once: int | None = None


def run(case: Case, scheduling: Scheduling, *, slow: float) -> dict[str, float]:
    """One run in virtual time, to the end of its last generation.

    Args:
        case: What.
        scheduling: What it does about slow calls.
        slow: The part of the calls that are.
    """
    random = np.random.Generator(np.random.Philox(case.seed))
    calls = case.search.population + scheduling.over_ask

    def latency_s(*_: object) -> float:
        usual_s, is_slow = case.base(random), random.random() < slow
        return TIMES_SLOW * MEDIAN_S if is_slow else usual_s

    backend = MockBackend(
        max_candidates=1, latency_s=latency_s, seed=case.seed, limits=Limits(concurrency=case.at_once or calls)
    )
    budget = Budget(evaluations=2 * calls * case.generations)  # more than it takes: the last generation ends it
    tuner = Tuner(backend, budget=budget, preset=case.search, seed=case.seed, scheduling=scheduling)
    found: list[GenerationDone] = []

    def listen(event: Event) -> None:
        if isinstance(event, GenerationDone):
            found.append(event)
            if event.generation + 1 == case.generations:
                tuner.stop()

    run_virtual(tuner.fit(_texts(), on_event=listen))
    last = found[case.generations - 1]
    missing = sum(event.missing for event in found)
    return {"wall_s": last.elapsed_s, "tokens": last.spent.tokens, "lowest": last.lowest_loss, "missing": missing}


def _texts() -> Dataset:
    return TASK.examples([(f"a {('dull', 'lovely')[n % 2]} thing, number {n}", n % 2) for n in range(TEXTS)])


def compare(case: Case, ways: Mapping[str, Scheduling]) -> dict[str, Any]:
    """Every way with stragglers, beside the run without any."""
    without = run(case, WAYS["wait"], slow=0.0)
    found: dict[str, Any] = {"seed": case.seed, "without stragglers": _rounded(without)}
    for name, scheduling in ways.items():
        taken = run(case, scheduling, slow=PART_SLOW)
        ratios = {f"{what}_ratio": taken[what] / without[what] for what in ("wall_s", "tokens")}
        found[name] = _rounded(taken | ratios)
    return found


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in figures.items()}


def summary(rows: Sequence[dict[str, Any]], ways: Iterable[str]) -> dict[str, dict[str, float]]:
    """Of every way: medians over the seeds, and the longest wall time."""
    found = {}
    for way in ways:
        walls = [row[way]["wall_s_ratio"] for row in rows]
        found[way] = {
            "wall_ratio": round(statistics.median(walls), 3),
            "worst_wall_ratio": round(max(walls), 3),
            "tokens_ratio": round(statistics.median(row[way]["tokens_ratio"] for row in rows), 4),
            "lowest": round(statistics.median(row[way]["lowest"] for row in rows), 4),
            "lowest_without": round(statistics.median(row["without stragglers"]["lowest"] for row in rows), 4),
        }
    return found


def measure(
    *, searches: Iterable[str], bases: Iterable[str], seeds: int, generations: int, at_once: int | None
) -> dict[str, Any]:
    """Every search under every kind of latency."""
    found: dict[str, Any] = {}
    for search, base in itertools.product(searches, bases):
        cases = [Case(SEARCHES[search], BASES[base], seed, generations, at_once) for seed in range(seeds)]
        rows = [compare(case, WAYS) for case in cases]
        found[f"{search}, {base}"] = {"summary": summary(rows, WAYS), "rows": rows}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", nargs="*", default=list(SEARCHES), choices=list(SEARCHES))
    parser.add_argument("--bases", nargs="*", default=list(BASES), choices=list(BASES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--generations", type=int, default=100)
    parser.add_argument("--at-once", type=int, help="calls under way (default: all of a generation)")
    parser.add_argument("--json", type=Path, help="write the figures and the environment there")
    args = parser.parse_args()
    found = measure(
        searches=args.searches,
        bases=args.bases,
        seeds=args.seeds,
        generations=args.generations,
        at_once=args.at_once,
    )
    drops = [of_kind["summary"]["drop"] for of_kind in found.values()]
    within = all(drop["wall_ratio"] <= BAR_WALL and drop["tokens_ratio"] <= BAR_TOKENS for drop in drops)
    tell({"within_bar": within, "kinds": found}, "benchmarks.stragglers", args.json)


if __name__ == "__main__":
    main()
