"""Rules of the conformance suite for searches; each compares with the search that nothing was done to."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from types import MappingProxyType

import numpy as np
from threadpoolctl import threadpool_limits

from lmaas_sdk.testing.probe import ConformanceError
from lmaas_sdk.testing.search_probe import SEED, SearchProbe, values_of
from lmaas_sdk.tuning.optimizer import Batch, Optimizer

__all__ = [
    "arguments",
    "batch",
    "flat_values",
    "global_generators",
    "interleaving",
    "order",
    "over_asking",
    "partial",
    "reading",
    "refusals",
    "replay",
    "seeds",
    "telling_twice",
    "threads",
]

_FLAT_GENERATIONS = 40
_EXTRA = 3


def batch(probe: SearchProbe) -> None:
    """A generation has as many finite float64 candidates as the population, the same until it is told."""
    optimizer = probe.fresh()
    for number in range(3):
        expected = optimizer.population_size
        batch = optimizer.ask()
        probe.require(batch.generation == number, f"generation {number} calls itself {batch.generation}")
        shape, kind = np.shape(batch.X), batch.X.dtype
        probe.require(len(shape) == 2 and kind == np.float64, f"X has two axes of float64, not {shape} of {kind}")
        probe.require(len(batch) == expected, f"the population is {expected}, and {len(batch)} were asked")
        same = np.array_equal(optimizer.ask().X, probe.finite(batch))
        probe.require(same, f"generation {number} has other candidates when it is asked again")
        _check_sizes(probe, optimizer, batch)
        probe.step(optimizer)


def seeds(probe: SearchProbe) -> None:
    """A seed, 0 included, fixes the search, and no two have the same."""
    firsts = [tuple(probe.run(probe.fresh(seed), 3)) for seed in (0, 0, 1, 1, 2, 2)]
    probe.require(firsts[::2] == firsts[1::2], "two searches of one seed asked different candidates")
    probe.require(len(set(firsts)) == 3, "two searches of different seeds asked the same candidates")


def arguments(probe: SearchProbe) -> None:
    """What is told is left alone, and what is handed out cannot be used to change the search."""
    optimizer = probe.fresh()
    for number in range(3):
        batch = optimizer.ask()
        probe.require(not batch.X.flags.writeable, f"the candidates of generation {number} can be written to")
        values, before = values_of(batch), batch.X.copy()
        optimizer.tell(number, MappingProxyType(values))
        probe.require(values == values_of(batch), f"telling generation {number} changed the values")
        probe.require(np.array_equal(batch.X, before), f"telling generation {number} changed its candidates")
        mean = optimizer.mean
        if mean.flags.writeable:
            mean[:] = 1e9
    found = optimizer.mean.tobytes(), optimizer.ask().X.tobytes()
    other = probe.fresh()
    for _ in range(3):
        probe.step(other)
    expected = other.mean.tobytes(), other.ask().X.tobytes()
    probe.require_same(found, expected, "the array that `mean` gave was written to")


def replay(probe: SearchProbe) -> None:
    """A fresh search that is told the same asks the same bits, from any generation on that the first was killed in."""
    optimizer = probe.fresh()
    steps = [probe.step(optimizer, partial=number % 3 == 2) for number in range(probe.generations)]
    for killed_in in range(0, probe.generations, max(1, probe.generations // 4)):
        again = probe.fresh()
        for step in steps[:killed_in]:
            probe.step(again, told=step.told)
        again.ask()  # and killed before it was told; the next process asks again
        rest = [probe.step(again, told=step.told).asked for step in steps[killed_in:]]
        expected = [step.asked for step in steps[killed_in:]]
        probe.require_same(rest, expected, f"the first {killed_in} generations were told again to a fresh search")


def reading(probe: SearchProbe) -> None:
    """Looking at mean, sigma, warnings and sizes changes nothing."""
    expected, optimizer, found = probe.run(probe.fresh()), probe.fresh(), []
    for number in range(probe.generations):
        _check_sizes(probe, optimizer, optimizer.ask())
        found.append(probe.step(optimizer, partial=number % 3 == 2).asked)
        reasons = optimizer.warnings()
        probe.require(all(isinstance(reason, str) for reason in reasons), f"warnings are strings, not {reasons!r:.80}")
    probe.require_same(found, expected, "mean, sigma and warnings were looked at in every generation")


def global_generators(probe: SearchProbe) -> None:
    """The global generators of numpy and `random` are neither used nor changed."""
    found = []
    with _global_generators_kept():
        for seed in (1, 2):
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002 - the global generator is what is looked at
            before = _states()
            found.append(probe.run(probe.fresh()))
            probe.require(_states() == before, "the search drew from a global generator, or seeded it")
    probe.require_same(found[0], found[1], "the global generators were seeded with another number")


def interleaving(probe: SearchProbe) -> None:
    """Two searches in turn ask what each asks alone."""
    alone = [probe.run(probe.fresh(seed)) for seed in (SEED, SEED + 1)]
    pair = [probe.fresh(seed) for seed in (SEED, SEED + 1)]
    mixed: list[list[bytes]] = [[], []]
    for number in range(probe.generations):
        for optimizer, asked in zip(pair, mixed, strict=True):
            asked.append(probe.step(optimizer, partial=number % 3 == 2).asked)
    probe.require_same(mixed, alone, "another search ran in turn with this one")


def threads(probe: SearchProbe) -> None:
    """The number of BLAS threads around the search is no part of it."""
    found = []
    for count in (1, 2):
        with threadpool_limits(limits=count, user_api="blas"):
            found.append(probe.run(probe.fresh()))
    probe.require_same(found[1], found[0], "BLAS had two threads")


def order(probe: SearchProbe) -> None:
    """The order in which values are told, whichever arrived first, does not matter."""
    usual, optimizer = probe.fresh(), probe.fresh()
    expected, found = [], []
    for _ in range(probe.generations):
        expected.append(probe.step(usual).asked)
        batch = optimizer.ask()
        found.append(batch.X.tobytes())
        optimizer.tell(batch.generation, dict(reversed(values_of(batch).items())))
    probe.require_same(found, expected, "values were told in reverse order")


def partial(probe: SearchProbe) -> None:
    """`min_tell` values of any candidates, `must_have` among them, are enough to go on with."""
    optimizer = probe.fresh()
    for _ in range(probe.generations):
        probe.step(optimizer, partial=True)
    probe.finite(optimizer.ask())
    probe.require(bool(np.isfinite(optimizer.mean).all()), "after generations told in part the mean is finite")


def refusals(probe: SearchProbe) -> None:
    """What cannot be told raises ValueError, and leaves the search as it was."""
    expected, optimizer, found = probe.run(probe.fresh(), 3), probe.fresh(), []
    _refuses(probe, optimizer, 0, dict.fromkeys(range(optimizer.population_size), 1.0), "a generation not asked for")
    for number in range(3):
        batch = optimizer.ask()
        for what, told in _unusable(probe, optimizer, batch).items():
            _refuses(probe, optimizer, number, told, what)
        _refuses(probe, optimizer, number + 1, values_of(batch), "the generation after the one asked for")
        if number > 1:
            _refuses(probe, optimizer, number - 2, values_of(batch), "a generation before the last")
        found.append(probe.step(optimizer, partial=number % 3 == 2).asked)
    probe.require_same(found, expected, "values were refused")


def telling_twice(probe: SearchProbe) -> None:
    """The last generation told again changes nothing, whether or not the next was asked."""
    expected, optimizer, found = probe.run(probe.fresh()), probe.fresh(), []
    for number in range(probe.generations):
        step = probe.step(optimizer, partial=number % 3 == 2)
        found.append(step.asked)
        other = {index: -value for index, value in step.told.items()}
        optimizer.tell(number, other)
        optimizer.ask()
        optimizer.tell(number, other)
    probe.require_same(found, expected, "every generation was told a second time")


def over_asking(probe: SearchProbe) -> None:
    """More candidates than the population may be asked and told; any `min_tell` of them are enough."""
    optimizer, steps = probe.fresh(), []
    for number in range(probe.generations):
        population = optimizer.population_size
        batch = optimizer.ask(extra=_EXTRA)
        holds = population <= len(batch) <= population + _EXTRA
        probe.require(holds, f"{population} + {_EXTRA} were asked for, and there are {len(batch)}")
        probe.require_same(optimizer.ask().X.tobytes(), batch.X.tobytes(), "a larger generation was asked again")
        steps.append(probe.step(optimizer, extra=_EXTRA, partial=number % 2 == 1))
    again = probe.fresh()
    found = [probe.step(again, told=step.told, extra=_EXTRA).asked for step in steps]
    probe.require_same(found, [step.asked for step in steps], "a search with extra candidates was told again")


def flat_values(probe: SearchProbe) -> None:
    """Values that are all equal end nothing: the next candidates are finite."""
    optimizer = probe.fresh()
    for _ in range(_FLAT_GENERATIONS):
        probe.step(optimizer, told=dict.fromkeys(range(len(optimizer.ask())), 0.5))
    X = probe.finite(optimizer.ask())
    probe.require(len({row.tobytes() for row in X}) == len(X), "after equal values two candidates are the same")


def _check_sizes(probe: SearchProbe, optimizer: Optimizer, batch: Batch) -> None:
    population, least, must = optimizer.population_size, optimizer.min_tell, optimizer.must_have
    probe.require(1 <= least <= population, f"min_tell is from 1 to the population of {population}, not {least}")
    probe.require(must <= set(range(population)), f"must_have are candidates below {population}, not {sorted(must)}")
    mean, sigma = optimizer.mean, optimizer.sigma
    d = batch.X.shape[1]
    holds = mean.shape == (d,) and mean.dtype == np.float64 and bool(np.isfinite(mean).all())
    probe.require(holds, f"the mean is a finite vector of {d} float64, not {mean!r:.80}")
    probe.require(bool(np.isfinite(sigma)) and sigma >= 0, f"sigma is a finite number of at least 0, not {sigma!r}")


def _unusable(probe: SearchProbe, optimizer: Optimizer, batch: Batch) -> dict[str, dict[int, float]]:
    """Values that are refused, by what is wrong with them."""
    values, needed = values_of(batch), probe.needed(optimizer, batch)
    wrong: dict[str, dict[int, float]] = {
        "the value of a candidate that there is not": values | {len(batch): 1.0},
        "the value of candidate -1": values | {-1: 1.0},
    }
    wrong |= {f"a value of {bad}": values | {needed[-1]: float(bad)} for bad in ("nan", "inf", "-inf")}
    if len(needed) == optimizer.min_tell:
        wrong[f"{len(needed) - 1} values"] = {index: values[index] for index in needed[:-1]}
    for must in optimizer.must_have:
        wrong[f"no value of candidate {must}"] = {index: values[index] for index in values if index != must}
    return wrong


def _refuses(probe: SearchProbe, optimizer: Optimizer, generation: int, values: dict[int, float], what: str) -> None:
    try:
        optimizer.tell(generation, values)
    except ValueError:
        return
    except Exception as other:
        found = f"{type(other).__name__}: {other}"
        raise ConformanceError(probe.rule, f"{what} must raise ValueError, not {found}") from other
    raise ConformanceError(probe.rule, f"{what} must raise ValueError, and was taken")


@contextlib.contextmanager
def _global_generators_kept() -> Iterator[None]:
    """Puts the global generators back afterwards: they are the caller's."""
    usual, numbers = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(usual)
        np.random.set_state(numbers)  # noqa: NPY002


def _states() -> tuple[object, ...]:
    """What the global generators are, in a form that compares."""
    name, key, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    return random.getstate(), name, np.asarray(key).tobytes(), tuple(rest)
