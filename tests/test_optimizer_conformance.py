"""The conformance suite of searches: all of ours keep every rule, and each broken one is told by the rule it breaks."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import cmaes
import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_info

from lmaas_sdk import AskTell, Batch, Optimizer, Preset
from lmaas_sdk.testing import ConformanceError, check_optimizer
from lmaas_sdk.testing.optimizers import RULES
from lmaas_sdk.tuning.generations import Generations
from lmaas_sdk.tuning.restarts import Restarts
from lmaas_sdk.tuning.searches import make_optimizer

D = 10
SEARCHES = {
    f"{covariance}-{step_size}": Preset("mine", covariance=covariance, step_size=step_size, population=8)
    for covariance in ("full", "diagonal")
    for step_size in ("csa", "tpa")
} | {
    "sep-cma-es": Preset("mine", algorithm="sep-cma-es", covariance="diagonal", population=8),
    "smallest": Preset("mine", algorithm="sep-cma-es", covariance="diagonal", population=4),
    "odd": Preset("mine", step_size="tpa", population=7),
    "random": Preset("mine", algorithm="random", population=8),
    "ipop": Preset("mine", population=8, restarts=3),
}


@pytest.mark.parametrize("preset", SEARCHES.values(), ids=SEARCHES)
def test_every_search_keeps_every_rule(preset: Preset) -> None:
    """Each algorithm that a preset can name conforms."""
    check_optimizer(lambda seed: make_optimizer(preset, D, seed))


@pytest.mark.parametrize("name", ["full-csa", "full-tpa", "diagonal-tpa", "sep-cma-es", "random"])
def test_restarts_keep_every_rule(name: str) -> None:
    """A search that restarts every few generations conforms, whatever is restarted; the population grows on the way."""

    def make(seed: int) -> Restarts:
        one = replace(SEARCHES[name], population=4)
        return Restarts(
            lambda population, own: make_optimizer(replace(one, population=population), D, own),
            population=4,
            restarts=4,
            seed=seed,
            patience=3,
        )

    search = make(1)
    for generation in range(30):
        search.tell(generation, dict.fromkeys(range(len(search.ask())), 1.0))
    assert search.population_size == 4 * 2**4
    check_optimizer(make, generations=30)


def test_a_wrapped_search_keeps_every_rule() -> None:
    """`cmaes.CMA`, which asks for one vector at a time, conforms behind the adapter."""
    check_optimizer(lambda seed: AskTell(cmaes.CMA(np.zeros(D), 1.0, seed=seed, population_size=8), d=D, population=8))


class Plain(Generations):
    """A small search without a defect: a normal distribution that follows its best candidate."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.normal = np.random.default_rng([7, seed])
        self.centre = np.zeros(D)

    @property
    def population_size(self) -> int:
        return 6

    @property
    def min_tell(self) -> int:
        return 3

    @property
    def must_have(self) -> frozenset[int]:
        return frozenset({1})

    @property
    def mean(self) -> NDArray[np.float64]:
        return self.centre.copy()

    @property
    def sigma(self) -> float:
        return 1.0

    def _draw(self, count: int) -> NDArray[np.float64]:
        return self.centre + self.normal.standard_normal((count, D))

    def _learn(self, X: NDArray[np.float64], values: dict[int, float]) -> None:
        self.centre = X[min(values, key=values.__getitem__)].copy()


class DrawsAnew(Plain):
    """Asked again, it has other candidates."""

    def ask(self, extra: int = 0) -> Batch:
        self._asked = None
        return super().ask(extra)


class TooFew(Plain):
    def _draw(self, count: int) -> NDArray[np.float64]:
        return super()._draw(count - 1)


class InfiniteSigma(Plain):
    @property
    def sigma(self) -> float:
        return float("inf")


class NeedsAll(Plain):
    """Half are not enough, whatever `min_tell` says."""

    def _learn(self, X: NDArray[np.float64], values: dict[int, float]) -> None:
        self.centre = X[np.argsort([values[index] for index in range(len(X))])[0]].copy()


class LosesItsMean(Plain):
    """A mean over all candidates, those without a value included."""

    def _learn(self, X: NDArray[np.float64], values: dict[int, float]) -> None:
        self.centre = X.T @ np.array([values.get(index, np.nan) for index in range(len(X))])


class Seedless(Plain):
    def __init__(self, seed: int) -> None:
        super().__init__(0)


class ZeroIsNoSeed(Plain):
    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.normal = np.random.default_rng([7, seed] if seed else None)


class WritableCandidates(Plain):
    def ask(self, extra: int = 0) -> Batch:
        batch = super().ask(extra)
        batch.X.flags.writeable = True
        return batch


class EmptiesTheValues(Plain):
    def tell(self, generation: int, values: Mapping[int, float]) -> None:
        super().tell(generation, values)
        values.clear()  # type: ignore[attr-defined]


class LiveMean(Plain):
    @property
    def mean(self) -> NDArray[np.float64]:
        return self.centre


class LiveBest(Plain):
    """What it hands out moves no candidate, and yet is its own."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.best = np.zeros(D)

    @property
    def mean(self) -> NDArray[np.float64]:
        return self.best


class CountsAsks(Plain):
    """The next generation depends on how often this one was asked."""

    def ask(self, extra: int = 0) -> Batch:
        self.normal.random()
        return super().ask(extra)


class DrawsWhenLookedAt(Plain):
    def warnings(self) -> tuple[str, ...]:
        self.normal.random()
        return ()


class SeedsNumpy(Plain):
    """Repeatable, at the expense of everybody else."""

    def _draw(self, count: int) -> NDArray[np.float64]:
        np.random.seed(self.seed + self._generation)  # noqa: NPY002
        return self.centre + np.random.standard_normal((count, D))  # noqa: NPY002


class SeedsRandom(Plain):
    def _draw(self, count: int) -> NDArray[np.float64]:
        random.seed(self.seed)
        return super()._draw(count)


class SharedGenerator(Plain):
    """One generator for all searches, seeded by the last that was made."""

    shared: ClassVar[np.random.Generator]

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        SharedGenerator.shared = self.normal

    def _draw(self, count: int) -> NDArray[np.float64]:
        return self.centre + self.shared.standard_normal((count, D))


class CountsThreads(Plain):
    def _draw(self, count: int) -> NDArray[np.float64]:
        return super()._draw(count) + 1e-9 * sum(pool["num_threads"] for pool in threadpool_info())


class FollowsTheFirst(Plain):
    """It takes the values as they come."""

    def tell(self, generation: int, values: Mapping[int, float]) -> None:
        is_new = generation == self._generation
        super().tell(generation, values)
        if is_new:
            self.centre = self.centre + 1e-3 * next(iter(values))


class TakesAnything(Plain):
    """It leaves out what is not finite, in silence."""

    def tell(self, generation: int, values: Mapping[int, float]) -> None:
        super().tell(generation, {index: value for index, value in values.items() if np.isfinite(value)})


class IgnoresOldOnes(Plain):
    """Whatever is not the current generation is taken for the last."""

    def tell(self, generation: int, values: Mapping[int, float]) -> None:
        if generation == self._generation:
            super().tell(generation, values)


class ForgetsWhenRefusing(Plain):
    """What was refused costs the generation its candidates."""

    def tell(self, generation: int, values: Mapping[int, float]) -> None:
        try:
            super().tell(generation, values)
        except ValueError:
            self.normal.random()
            self._asked = None
            self.ask()
            raise


class LearnsTwice(Plain):
    def tell(self, generation: int, values: Mapping[int, float]) -> None:
        if generation == self._generation - 1:
            self.centre = self.centre + 1.0
        super().tell(generation, values)


class KnowsNoExtra(Plain):
    def ask(self) -> Batch:  # type: ignore[override]
        return super().ask()


class WastesExtra(Plain):
    def _draw(self, count: int) -> NDArray[np.float64]:
        return super()._draw(count if count == self.population_size else 2 * count)


class OneCallTooMany(Plain):
    """It has room for a population of values."""

    def _learn(self, X: NDArray[np.float64], values: dict[int, float]) -> None:
        if len(values) > self.population_size:
            raise IndexError("no room")
        super()._learn(X, values)


class Collapses(Plain):
    """Equal values make it ever narrower, until it stands still."""

    width = 1.0

    def _draw(self, count: int) -> NDArray[np.float64]:
        return self.centre + self.width * self.normal.standard_normal((count, D))

    def _learn(self, X: NDArray[np.float64], values: dict[int, float]) -> None:
        super()._learn(X, values)
        self.width *= 1e-12 if len(set(values.values())) == 1 else 1.0


BROKEN: list[tuple[str, Callable[[int], Optimizer], str]] = [
    ("batch", DrawsAnew, "other candidates when it is asked again"),
    ("batch", TooFew, "the population is 6, and 5 were asked"),
    ("batch", InfiniteSigma, "sigma is a finite number"),
    ("partial", NeedsAll, "The optimiser raised KeyError"),
    ("partial", LosesItsMean, "NaN or infinity"),
    ("seeds", Seedless, "different seeds asked the same"),
    ("seeds", ZeroIsNoSeed, "one seed asked different"),
    ("arguments", WritableCandidates, "can be written to"),
    ("arguments", EmptiesTheValues, "AttributeError"),
    ("arguments", LiveMean, "`mean` gave was written to"),
    ("arguments", LiveBest, "`mean` gave was written to"),
    ("replay", CountsAsks, "the first 0 generations were told again"),
    ("reading", DrawsWhenLookedAt, "were looked at in every generation"),
    ("global-generators", SeedsNumpy, "drew from a global generator, or seeded it"),
    ("global-generators", SeedsRandom, "drew from a global generator, or seeded it"),
    ("interleaving", SharedGenerator, "another search ran in turn"),
    ("threads", CountsThreads, "BLAS had two threads"),
    ("order", FollowsTheFirst, "told in reverse order"),
    ("refusals", TakesAnything, "a value of nan must raise ValueError, and was taken"),
    ("refusals", IgnoresOldOnes, "must raise ValueError, and was taken"),
    ("refusals", ForgetsWhenRefusing, "values were refused, and the search differs"),
    ("telling-twice", LearnsTwice, "told a second time"),
    ("over-asking", KnowsNoExtra, "TypeError"),
    ("over-asking", WastesExtra, "6 + 3 were asked for, and there are 18"),
    ("over-asking", OneCallTooMany, "IndexError: no room"),
    ("flat-values", Collapses, "two candidates are the same"),
]


@pytest.mark.parametrize(("rule", "factory", "found"), BROKEN, ids=[made.__name__ for _, made, _ in BROKEN])
def test_a_broken_search_is_told_by_its_rule(rule: str, factory: Callable[[int], Optimizer], found: str) -> None:
    """A search that breaks a rule fails the check; the error names that rule and says what was found."""
    with pytest.raises(ConformanceError) as caught:
        check_optimizer(factory)
    assert caught.value.rule == rule
    assert str(caught.value).startswith(f"{rule}: ")
    assert found in str(caught.value)


def test_every_rule_can_fail() -> None:
    """The table above has a broken search for each rule there is."""
    assert {rule for rule, _, _ in BROKEN} == set(RULES)


def test_an_unbroken_search_passes() -> None:
    """The search without a defect keeps every rule, so each failure above is the defect's."""
    check_optimizer(Plain)


def test_the_check_leaves_the_global_generators_as_they_were() -> None:
    """Whoever checks in the middle of a program finds its random numbers where they were."""
    usual, numbers = random.getstate(), np.random.get_state()  # noqa: NPY002
    check_optimizer(Plain)
    assert random.getstate() == usual
    np.testing.assert_equal(np.random.get_state(), numbers)  # noqa: NPY002


@pytest.mark.parametrize("generations", [2, 0, -1, 2.5, None], ids=repr)
def test_a_check_too_short_is_refused(generations: Any) -> None:
    """Fewer than three generations would find nothing."""
    with pytest.raises((ValueError, TypeError), match="generations is a whole number of at least 3"):
        check_optimizer(Plain, generations=generations)


def _value(x: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    return float((weights * (x - 1.0) ** 2).sum())


@pytest.mark.parametrize("axes", [1.0, 1e3], ids=["sphere", "ellipsoid"])
def test_every_search_but_random_search_descends(axes: float) -> None:
    """50 dimensions, 2000 evaluations: all end below a third of the start, and of what random search finds."""
    weights = axes ** (np.arange(50) / 49)
    start, ends = _value(np.zeros(50), weights), {}
    for name, preset in SEARCHES.items():
        search, lowest, evaluations = make_optimizer(replace(preset, sigma0=0.5), 50, 3), np.inf, 0
        for generation in itertools.count():
            if evaluations + search.population_size > 2000:
                break
            values = {index: _value(x, weights) for index, x in enumerate(search.ask().X)}
            search.tell(generation, values)
            lowest, evaluations = min(lowest, *values.values()), evaluations + len(values)
        ends[name] = lowest
    found_at_random = ends.pop("random")
    assert {} == {name: end for name, end in ends.items() if end > min(start, found_at_random) / 3}
