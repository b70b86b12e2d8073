"""What a run does about slow calls: whom it waits for, and whom it asks twice."""

from __future__ import annotations

import itertools
from collections.abc import Collection

import numpy as np
import pytest

from lmaas_sdk import Budget, Scheduling, ScoreQuery, Tuner, TuningResult
from lmaas_sdk.testing import run_virtual
from tests.tuning_cases import SMALL, TRAIN, mock

GENERATIONS, SLOW_S = 6, 100.0
HEDGE = Scheduling(stragglers="hedge")


def run(slow: Collection[tuple[int, int]], scheduling: Scheduling) -> TuningResult:
    """A search with TPA, a second a call but for the slow ones: (generation, candidate)."""
    numbers = itertools.count()

    def latency_s(*_: object) -> float:
        return SLOW_S if divmod(next(numbers), SMALL.population) in slow else 1.0

    backend = mock(max_candidates=1, latency_s=latency_s)
    budget = Budget(evaluations=GENERATIONS * SMALL.population)
    return run_virtual(Tuner(backend, budget=budget, preset=SMALL, scheduling=scheduling).fit(TRAIN))


@pytest.mark.parametrize("points", [{0}, {1}, {0, 1}])
def test_a_point_that_the_step_size_is_adapted_by_is_not_waited_for(points: set[int]) -> None:
    """It is given up as any other, and the generation goes on with the rest."""
    result = run({(4, point) for point in points}, Scheduling(stragglers="drop"))
    before, after = result.generations[3:5]
    assert (GENERATIONS, len(points)) == (len(result.generations), after.missing)
    assert after.elapsed_s - before.elapsed_s < SLOW_S / 10
    assert GENERATIONS * SMALL.population - len(points) == result.evaluations


def test_whoever_waits_waits_for_every_call() -> None:
    """Without a decision to drop anybody, one slow call is the time of its generation."""
    result = run({(4, 0)}, Scheduling())
    before, after = result.generations[3:5]
    assert (SLOW_S, 0) == (after.elapsed_s - before.elapsed_s, after.missing)


class Latencies:
    """About a second a call; some of the calls that are the first at their candidate are slow.

    Args:
        spread: Of the others: the deviation of their logarithm.
        part_slow: How many are slow.
        seed: Of the draws.

    Attributes:
        first, slow, second: Calls of each kind so far.
    """

    def __init__(self, spread: float, part_slow: float, seed: int) -> None:
        self.first = self.slow = self.second = 0
        self._spread, self._part_slow = spread, part_slow
        self._draws = np.random.Generator(np.random.Philox(seed))
        self._seen: set[bytes] = set()

    def __call__(self, query: ScoreQuery, _: object) -> float:
        assert query.Z is not None
        candidate, usual_s = query.Z.tobytes(), self._draws.lognormal(0.0, self._spread)
        if candidate in self._seen:
            self.second += 1
            return usual_s
        self._seen.add(candidate)
        self.first += 1
        is_slow = self._draws.random() < self._part_slow
        self.slow += is_slow
        return 20.0 if is_slow else usual_s


def hedged_run(spread: float, part_slow: float, seed: int, *, generations: int = 30) -> Latencies:
    """A search of eight calls a generation that sends slow ones again; how its calls were answered."""
    latencies = Latencies(spread, part_slow, seed)
    backend = mock(max_candidates=1, latency_s=latencies)
    tuner = Tuner(backend, budget=Budget(calls=10 * generations), preset=SMALL, scheduling=HEDGE)
    result = run_virtual(tuner.fit(TRAIN))
    assert latencies.first + latencies.second == result.spent.calls == backend.book.computed
    return latencies


@pytest.mark.parametrize("seed", range(5))
def test_calls_that_take_about_the_same_time_are_not_sent_again(seed: int) -> None:
    """Give or take 10 %: not one of some 300, though the slowest of them take far longer than nine in ten do."""
    assert 0 == hedged_run(0.1, 0.0, seed).second


def test_few_calls_are_sent_again_where_all_take_different_times() -> None:
    """Give or take a quarter, which gives them a tail of their own: at most one in a hundred."""
    runs = [hedged_run(0.25, 0.0, seed) for seed in range(5)]
    assert sum(run.second for run in runs) <= sum(run.first for run in runs) / 100


def test_calls_that_take_twenty_times_as_long_are_sent_again_and_hardly_any_other() -> None:
    """One call in twenty is slow: nearly all of these are, but for more than a tenth of the calls at a time."""
    runs = [hedged_run(0.1, 0.05, seed) for seed in range(5)]
    slow, hedged = sum(run.slow for run in runs), sum(run.second for run in runs)
    assert 50 < slow
    assert 0.95 * slow <= hedged <= slow
