"""Anybody's object with `ask` and `tell`, as an `Optimizer`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.seeding import whole_number
from lmaas_sdk.tuning.generations import Generations

__all__ = ["AskTell"]


class AskTell(Generations):
    """Wraps a search that has `ask()` and `tell(...)`, such as `cma.CMAEvolutionStrategy` or `cmaes.CMA`.

    `ask()` answers with a whole generation, a list or array of vectors (`cma`), or with one vector (`cmaes`), and is
    then called once a candidate. `tell` is `tell(X, values)`, two lists, or `tell([(x, value), ...])`; which of them
    is read off how many arguments it requires. Values are told in the order of the candidates.

    A generation is told whole: `min_tell` is the population, `extra` candidates are never made, and whoever lacks a
    value has to impute one. `mean` is the object's own where it has a vector of that name, else the best candidate told
    so far; `sigma` its own where it has a number, else the spread of the last generation.

    Its random numbers are the object's affair. A run can be resumed or repeated if they come from a seeded generator
    that nothing else draws from; `lmaas_sdk.testing.check_optimizer` finds out.

    Args:
        inner: The object, fresh.
        d: Size of a vector.
        population: Candidates of a generation.

    Raises:
        TypeError: It has no `ask`, or no `tell` of one of these forms.
        ValueError: From `ask`: the object answered another count or size of vectors, or NaN or infinity.
    """

    def __init__(self, inner: Any, *, d: int, population: int) -> None:
        super().__init__()
        if not callable(getattr(inner, "ask", None)):
            raise TypeError(f"a search to wrap has a method ask(), and {type(inner).__name__} has none")
        self._inner, self._tells_pairs = inner, _tells_pairs(inner)
        self._d = whole_number("d", d, at_least=1)
        self._population = whole_number("population", population, at_least=1)
        self._best, self._lowest, self._spread = np.zeros(self._d), np.inf, 0.0

    @property
    def population_size(self) -> int:
        return self._population

    @property
    def min_tell(self) -> int:
        return self._population

    @property
    def mean(self) -> NDArray[np.float64]:
        own = _numbers(getattr(self._inner, "mean", None))
        return self._best.copy() if own is None or own.shape != (self._d,) else own

    @property
    def sigma(self) -> float:
        own = _numbers(getattr(self._inner, "sigma", None))
        return self._spread if own is None or own.shape != () else float(own)

    def _draw(self, count: int) -> NDArray[np.float64]:
        first = self._vectors(self._inner.ask())
        if first.ndim == 1 and first.shape == (self._d,):
            rest = [self._vectors(self._inner.ask()) for _ in range(self._population - 1)]
            if any(vector.shape != first.shape for vector in rest):
                raise ValueError(f"{self._name}.ask() answered vectors of different shapes")
            first = np.stack([first, *rest])
        if first.shape != (self._population, self._d):
            raise ValueError(
                f"{self._name}.ask() answers {self._population} vectors of size {self._d}, or one, not an array of "
                f"shape {first.shape}"
            )
        self._spread = float(first.std(axis=0).mean())
        return first

    def _learn(self, X: NDArray[np.float64], values: dict[int, float]) -> None:
        vectors = [X[index].copy() for index in values]
        if self._tells_pairs:
            self._inner.tell(list(zip(vectors, values.values(), strict=True)))
        else:
            self._inner.tell(vectors, list(values.values()))
        best = min(values, key=values.__getitem__)
        if values[best] < self._lowest:
            self._best, self._lowest = X[best].copy(), values[best]

    def _vectors(self, answer: object) -> NDArray[np.float64]:
        vectors = _numbers(answer)
        if vectors is None:
            raise ValueError(f"{self._name}.ask() answers vectors of finite numbers, not {answer!r:.80}")
        return vectors

    @property
    def _name(self) -> str:
        return type(self._inner).__name__


def _numbers(value: object) -> NDArray[np.float64] | None:
    """A copy as float64; None: it is no array of finite real numbers."""
    try:
        found = np.array(value)
    except ValueError:  # rows of different lengths
        return None
    if found.dtype.kind not in "iuf" or not np.isfinite(found).all():
        return None
    return found.astype(np.float64)


def _tells_pairs(inner: object) -> bool:
    """Whether `tell` takes pairs in one argument; False: two lists."""
    tell = getattr(inner, "tell", None)
    required = _required(tell) if callable(tell) else None
    if required not in (1, 2):
        raise TypeError(
            f"{type(inner).__name__} has no tell(X, values) and no tell([(x, value), ...]): wrap it in a class that has"
        )
    return required == 1


def _required(call: Callable[..., object]) -> int | None:
    """How many positional arguments a function requires; None: it does not say."""
    try:
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):
        return None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(one.kind in positional and one.default is inspect.Parameter.empty for one in parameters)
