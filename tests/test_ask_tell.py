"""Anybody's ask/tell object as an `Optimizer`."""

from __future__ import annotations

from typing import Any

import cma
import cmaes
import numpy as np
import pytest
from numpy.typing import NDArray

from lmaas_sdk import AskTell


class Whole:
    """Asks a generation as lists, and takes two lists."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = [[1.0, 2.0], [3, 4], [5, 6]] if answer is None else answer
        self.told: list[Any] = []

    def ask(self) -> Any:
        return self.answer

    def tell(self, X: Any, values: Any, note: str = "") -> None:
        self.told.append(([x.tolist() for x in X], values))
        X[0][:] = 0.0


class OneByOne:
    """Asks a vector, and takes pairs."""

    mean = "not a vector"

    def __init__(self, *answers: Any) -> None:
        self.answers = iter(answers or [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        self.told: list[Any] = []

    def ask(self) -> Any:
        return next(self.answers)

    def tell(self, solutions: Any) -> None:
        self.told.append([(x.tolist(), value) for x, value in solutions])


VALUES = {2: 0.5, 0: 2.0, 1: 3.0}


def test_a_whole_generation_is_asked_and_told() -> None:
    """Values are told in the order of the candidates, and what the object does to its vectors harms nobody."""
    inner = Whole()
    search = AskTell(inner, d=2, population=3)
    batch = search.ask(extra=5)
    search.tell(0, VALUES)
    assert inner.told == [([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [2.0, 3.0, 0.5])]
    assert batch.X.tolist() == inner.answer


def test_single_vectors_are_collected() -> None:
    """An object that asks for one vector at a time is asked once a candidate, and told pairs."""
    inner = OneByOne()
    search = AskTell(inner, d=2, population=3)
    assert search.ask().X.tolist() == [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    search.tell(0, VALUES)
    assert inner.told == [[([1.0, 2.0], 2.0), ([3.0, 4.0], 3.0), ([5.0, 6.0], 0.5)]]


def test_mean_and_sigma_are_found_or_made_up() -> None:
    """Where the object has none: the best candidate, and the spread of the last generation."""
    search = AskTell(OneByOne(), d=2, population=3)
    assert (search.mean.tolist(), search.sigma) == ([0.0, 0.0], 0.0)
    search.ask()
    search.tell(0, VALUES)
    assert search.mean.tolist() == [5.0, 6.0]
    assert search.sigma == pytest.approx(np.std([1, 3, 5]))
    es = cma.CMAEvolutionStrategy([1.0, 2.0], 0.25, {"verbose": -9, "seed": 3})
    search = AskTell(es, d=2, population=es.popsize)
    assert (search.mean.tolist(), search.sigma) == ([1.0, 2.0], 0.25)


def test_a_generation_is_told_whole() -> None:
    """A missing value is refused by number: whoever tells has to impute it."""
    inner = Whole()
    search = AskTell(inner, d=2, population=3)
    search.ask()
    with pytest.raises(ValueError, match="needs 3 values or more, not 2"):
        search.tell(0, {0: 1.0, 1: 2.0})
    assert (search.min_tell, inner.told) == (3, [])


@pytest.mark.parametrize("make", ["cma", "cmaes"])
def test_real_packages_descend_behind_it(make: str) -> None:
    """pycma's and cmaes' own objects solve a sphere in six dimensions."""

    def inner() -> Any:
        if make == "cmaes":
            return cmaes.CMA(np.zeros(6), 0.5, seed=1, population_size=9)
        return cma.CMAEvolutionStrategy(6 * [0.0], 0.5, {"seed": 1, "popsize": 9, "verbose": -9})

    def value(x: NDArray[np.float64]) -> float:
        return float(((x - 1.0) ** 2).sum())

    state = np.random.get_state()  # noqa: NPY002
    try:
        search = AskTell(inner(), d=6, population=9)  # pycma seeds numpy's global generator
        for generation in range(100):
            search.tell(generation, {index: value(x) for index, x in enumerate(search.ask().X)})
    finally:
        np.random.set_state(state)  # noqa: NPY002
    assert value(search.mean) < 1e-3


NONSENSE: list[tuple[Any, str]] = [
    (Whole([[1.0, 2.0], [3.0, 4.0]]), r"Whole.ask\(\) answers 3 vectors of size 2, or one, not .* shape \(2, 2\)"),
    (Whole([[1.0, 2.0, 3.0]] * 3), r"not an array of shape \(3, 3\)"),
    (Whole([[[1.0, 2.0]] * 3]), r"not an array of shape \(1, 3, 2\)"),
    (Whole([1.0, 2.0, 3.0]), r"not an array of shape \(3,\)"),
    (Whole(7.0), r"not an array of shape \(\)"),
    (Whole([[1.0, float("nan")]] * 3), "answers vectors of finite numbers, not"),
    (Whole([[1.0, float("inf")]] * 3), "answers vectors of finite numbers, not"),
    (Whole([[1.0, 2.0], [3.0]]), "answers vectors of finite numbers, not"),
    (Whole("a vector"), "answers vectors of finite numbers, not 'a vector'"),
    (Whole({"x": 1.0}), "answers vectors of finite numbers, not"),
    (Whole([[1j, 2.0]] * 3), "answers vectors of finite numbers, not"),
    (OneByOne([1.0, 2.0], [1.0], [3.0, 4.0]), "OneByOne.ask.* vectors of different shapes"),
    (OneByOne([1.0, 2.0], [1.0, float("nan")]), "answers vectors of finite numbers, not"),
]


@pytest.mark.parametrize(("inner", "named"), NONSENSE)
def test_nonsense_is_refused(inner: Any, named: str) -> None:
    """Another count, size or kind of vectors is an error that names the object and what it answered."""
    with pytest.raises(ValueError, match=named):
        AskTell(inner, d=2, population=3).ask()


class NoTell:
    def ask(self) -> None: ...


class ThreeArguments(NoTell):
    def tell(self, X: Any, values: Any, more: Any) -> None: ...


class NoAsk:
    def tell(self, solutions: Any) -> None: ...


@pytest.mark.parametrize(
    ("inner", "named"),
    [
        (NoAsk(), r"has a method ask\(\), and NoAsk has none"),
        (NoTell(), r"NoTell has no tell\(X, values\) and no tell\(\[\(x, value\), ...\]\)"),
        (ThreeArguments(), r"ThreeArguments has no tell\(X, values\)"),
        (None, r"NoneType has none"),
    ],
)
def test_what_cannot_be_wrapped_is_a_type_error(inner: Any, named: str) -> None:
    """At once, not in the first generation."""
    with pytest.raises(TypeError, match=named):
        AskTell(inner, d=2, population=3)
