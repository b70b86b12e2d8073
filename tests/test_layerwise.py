"""Searches that take turns: each moves its own block of z, beside the best of the others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk import Preset
from lmaas_sdk.testing import check_optimizer
from lmaas_sdk.tuning.layerwise import LayerwiseSearch
from lmaas_sdk.tuning.searches import make_optimizer

SIZES = (3, 5, 2)
SMALL = Preset("mine", population=6)


def search(seed: int = 0, preset: Preset = SMALL) -> LayerwiseSearch:
    return LayerwiseSearch([make_optimizer(preset, d, seed + number) for number, d in enumerate(SIZES)], SIZES)


def square(X: NDArray[np.float64]) -> dict[int, float]:
    return dict(enumerate(((X - 1.0) ** 2).sum(axis=1).tolist()))


def test_it_keeps_every_rule_of_a_search() -> None:
    """With each algorithm underneath, and one whose population grows."""
    for preset in (SMALL, Preset("mine", step_size="tpa", population=7), Preset("mine", population=8, restarts=2)):
        check_optimizer(lambda seed, preset=preset: search(seed, preset), generations=9)  # type: ignore[misc]


def test_a_generation_moves_one_block_in_turn() -> None:
    """The candidates of a generation are equal in all others."""
    made, moved = search(), []
    for generation in range(7):
        X = made.ask().X
        moved.append([number for number, block in enumerate(made._blocks) if np.ptp(X[:, block], axis=0).any()])
        made.tell(generation, square(X))
    assert [[0], [1], [2], [0], [1], [2], [0]] == moved


def test_the_others_stand_at_the_best_of_their_own_search() -> None:
    """At 0 before they had a turn, then at the candidate of the lowest value that they were ever told."""
    made, best, lowest = search(), [np.zeros(d) for d in SIZES], [np.inf] * 3
    for generation in range(12):
        X, now = made.ask().X, generation % 3
        for number, block in enumerate(made._blocks):
            assert number == now or np.array_equal(np.tile(best[number], (len(X), 1)), X[:, block])
        values = square(X)
        first = min(values, key=values.__getitem__)
        if values[first] < lowest[now]:
            lowest[now], best[now] = values[first], X[first, made._blocks[now]]
        made.tell(generation, values)
    assert all(one.any() for one in best)


def test_each_search_goes_its_own_way() -> None:
    """The first block is moved as a search of it alone moves, when it is told the same."""
    made, alone = search(), make_optimizer(SMALL, 3, 0)
    for generation in range(9):
        X = made.ask().X
        values = square(X[:, :3])
        if generation % 3 == 0:
            assert alone.ask().X.tobytes() == np.ascontiguousarray(X[:, :3]).tobytes()
            alone.tell(generation // 3, values)
        made.tell(generation, values)
    assert (alone.sigma, alone.mean.tolist()) == (made._searches[0].sigma, made.mean[:3].tolist())


def test_it_finds_a_minimum() -> None:
    """Of a sum over the blocks."""
    made = search()
    for generation in range(240):
        made.tell(generation, square(made.ask().X))
    assert np.allclose(made.mean, 1.0, atol=0.05)
