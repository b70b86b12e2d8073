"""Restarts with a growing population."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from lmaas_sdk import Optimizer, Preset
from lmaas_sdk.tuning.generations import Generations
from lmaas_sdk.tuning.restarts import Restarts
from lmaas_sdk.tuning.searches import make_optimizer


class Scripted(Generations):
    """A search in one dimension that warns from a generation on; its mean counts the generations told."""

    def __init__(self, population: int, seed: int, *, reason: str, warns_from: int) -> None:
        super().__init__()
        self.made = population, seed
        self._reason, self._warns_from, self._told = reason, warns_from, 0

    @property
    def population_size(self) -> int:
        return self.made[0]

    @property
    def min_tell(self) -> int:
        return 1

    @property
    def must_have(self) -> frozenset[int]:
        return frozenset({0}) if self._told else frozenset()

    @property
    def mean(self) -> NDArray[np.float64]:
        return np.array([float(self._told)])

    @property
    def sigma(self) -> float:
        return 1.0 + self._told

    def warnings(self) -> tuple[str, ...]:
        return (self._reason,) if self._told >= self._warns_from else ()

    def _draw(self, count: int) -> NDArray[np.float64]:
        return np.full((count, 1), float(self.made[0]))

    def _learn(self, X: NDArray[np.float64], values: dict[int, float]) -> None:
        self._told += 1


def scripted(made: list[Scripted], *, reason: str = "tolx", warns_from: int = 1, patience: int = 1000) -> Restarts:
    def make(population: int, seed: int) -> Scripted:
        made.append(Scripted(population, seed, reason=reason, warns_from=warns_from))
        return made[-1]

    return Restarts(make, population=5, restarts=2, seed=9, patience=patience)


def tell(search: Optimizer, generations: int, *, falling: bool = True) -> list[int]:
    """The sizes of some generations, each with a lower value than the one before, or all with the same."""
    sizes = []
    for _ in range(generations):
        batch = search.ask()
        sizes.append(len(batch))
        search.tell(batch.generation, dict.fromkeys(range(len(batch)), -float(batch.generation) if falling else 1.0))
    return sizes


def test_a_real_reason_restarts_with_twice_the_population() -> None:
    """Reasons are looked at every tenth generation of a search, and after the last restart no more."""
    made: list[Scripted] = []
    sizes = tell(scripted(made), 40)
    assert sizes == [5] * 10 + [10] * 10 + [20] * 20
    assert [search.made[0] for search in made] == [5, 10, 20]


def test_every_search_has_a_seed_of_its_own() -> None:
    """The first has the one given; those of the restarts follow from it."""
    made: list[Scripted] = []
    tell(scripted(made), 25)
    again: list[Scripted] = []
    tell(scripted(again), 25)
    seeds = [search.made[1] for search in made]
    assert seeds[0] == 9
    assert len(set(seeds)) == 3
    assert seeds == [search.made[1] for search in again]


@pytest.mark.parametrize("reason", ["tolfun", "tolfunhist", "tolflatfitness", "maxiter", "anything"])
def test_equal_values_are_no_reason(reason: str) -> None:
    """An accuracy is flat in the first generations: that alone restarts nothing."""
    made: list[Scripted] = []
    assert tell(scripted(made, reason=reason), 30) == [5] * 30


@pytest.mark.parametrize("reason", ["tolx", "conditioncov", "noeffectaxis", "should_stop"])
def test_a_useless_distribution_is_a_reason(reason: str) -> None:
    """Whichever of its names the package gives it."""
    made: list[Scripted] = []
    assert tell(scripted(made, reason=reason), 11) == [5] * 10 + [10]


def test_stagnation_restarts_where_nothing_is_warned_of() -> None:
    """The best value of a search has not fallen for `patience` generations; a new search has a best of its own."""
    made: list[Scripted] = []
    search = scripted(made, warns_from=1000, patience=4)
    assert tell(search, 14, falling=False) == [5] * 5 + [10] * 5 + [20] * 4
    assert tell(scripted(made, warns_from=1000, patience=4), 14) == [5] * 14
    assert [line for line in search.warnings() if line.startswith("restarted")] == [
        "restarted after generation 4 with a population of 10: no better value in 4 generations",
        "restarted after generation 9 with a population of 20: no better value in 4 generations",
    ]


def test_mean_and_sigma_are_of_the_search_told_last() -> None:
    """After the generation that ends a search they are still its own, while the sizes are the next search's."""
    search = scripted([])
    tell(search, 10)
    assert (search.mean.tolist(), search.sigma) == ([10.0], 11.0)
    assert (search.population_size, search.must_have) == (10, frozenset())
    search.ask()
    assert search.mean.tolist() == [10.0]
    tell(search, 1)
    assert (search.mean.tolist(), search.must_have) == ([1.0], frozenset({0}))


def test_up_to_the_first_restart_nothing_differs() -> None:
    """A search with restarts asks the bits of one without, from the same seed, and starts again from the origin."""
    preset = Preset("mine", population=8, sigma0=1e-3)
    plain, search = (
        make_optimizer(preset, 6, 4),
        make_optimizer(Preset("mine", population=8, restarts=1, sigma0=1e-3), 6, 4),
    )
    for generation in range(60):
        assert search.ask().X.tobytes() == plain.ask().X.tobytes()
        values = {
            index: 1.0 + float((x - 1.0) @ (x - 1.0)) * (generation == 0) for index, x in enumerate(plain.ask().X)
        }
        for one in (plain, search):
            one.tell(generation, values)
        if search.population_size > 8:
            break
    assert search.population_size == 16
    assert np.abs(search.ask().X).max() < 0.01


def test_one_lucky_value_ends_nothing() -> None:
    """A search that comes down goes on, though its first value of all was lower; once it stands, it ends."""
    search = scripted([], warns_from=1000, patience=6)
    for generation in range(60):
        best = -1000.0 if generation == 0 else -float(min(generation, 30))
        search.tell(generation, dict.fromkeys(range(len(search.ask())), best))
        if search.population_size > 5:
            break
    assert generation == 34  # of the last six, the second three are no lower than the first: all are -30 or -29


def test_a_multimodal_function_is_solved_by_restarts() -> None:
    """Rastrigin in 2 dimensions, where a population of 6 gets stuck: with restarts six seeds of six end at 0."""

    def value(x: NDArray[np.float64]) -> float:
        y = x - 1.2
        return float((y * y + 10.0 * (1.0 - np.cos(2.0 * np.pi * y))).sum())

    def lowest(restarts: int, seed: int) -> float:
        preset = Preset("mine", population=6, sigma0=2.0, restarts=restarts)
        search, best, evaluations = make_optimizer(preset, 2, seed), np.inf, 0
        while evaluations < 8_000 and best > 1e-6:
            batch = search.ask()
            values = {index: value(x) for index, x in enumerate(batch.X)}
            search.tell(batch.generation, values)
            best, evaluations = min(best, *values.values()), evaluations + len(batch)
        return best

    solved = [sum(lowest(restarts, seed) <= 1e-6 for seed in range(6)) for restarts in (0, 6)]
    assert solved[0] <= 3
    assert solved[1] == 6
