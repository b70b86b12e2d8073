"""Whether a generation waits for the points that a step size is adapted by."""

from __future__ import annotations

import itertools
from collections.abc import Collection

import pytest

from lmaas_sdk import Budget, Scheduling, Tuner, TuningResult
from lmaas_sdk.testing import run_virtual
from tests.tuning_cases import SMALL, TRAIN, mock

GENERATIONS, SLOW_S = 6, 100.0


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
