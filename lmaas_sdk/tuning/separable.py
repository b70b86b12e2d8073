"""Separable CMA-ES of the package `cmaes` (Ros & Hansen 2008): variances only, and little work a generation."""

from __future__ import annotations

import numpy as np
from cmaes import SepCMA
from numpy.typing import NDArray

from lmaas_sdk.seeding import bit_generator
from lmaas_sdk.tuning.blas import one_blas_thread
from lmaas_sdk.tuning.generations import Generations

__all__ = ["SepCmaOptimizer"]


class _Normal:
    """Stands in for the `RandomState` that `cmaes` draws from: a stream of our own, the same for each seed."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.Generator(bit_generator(seed, "sep-cma-es/1"))

    def randn(self, size: int) -> NDArray[np.float64]:
        return self._generator.standard_normal(size)


class SepCmaOptimizer(Generations):
    """`cmaes.SepCMA`: a diagonal covariance matrix and cumulative step-size adaptation.

    It must be told as many values as the population has. Of more, the best so many are passed on. For those that are
    missing the worst value told is imputed; as only the `mu` best of a generation move the search, and `mu` or more are
    always told, the imputed ones count in its rule to stop alone.

    Args:
        d: Size of the search space, at least 2; the search starts from 0.
        population: Candidates of a generation.
        sigma0: First step size.
        seed: Of a generator of its own.

    Raises:
        ValueError: d is 1.
    """

    def __init__(self, d: int, *, population: int, sigma0: float, seed: int) -> None:
        super().__init__()
        if d < 2:
            raise ValueError(f"algorithm 'sep-cma-es' searches in 2 dimensions or more, not {d}")
        self._es = SepCMA(mean=np.zeros(d), sigma=sigma0, seed=0, population_size=population)
        self._es._rng = _Normal(seed)

    @property
    def population_size(self) -> int:
        return int(self._es.population_size)

    @property
    def min_tell(self) -> int:
        return self.population_size // 2

    @property
    def mean(self) -> NDArray[np.float64]:
        return np.array(self._es.mean, dtype=np.float64)

    @property
    def sigma(self) -> float:
        return float(self._es._sigma)

    def warnings(self) -> tuple[str, ...]:
        """`should_stop` where the package says so; it does not say why."""
        return ("should_stop",) if self._es.should_stop() else ()

    def _draw(self, count: int) -> NDArray[np.float64]:
        return np.stack([self._es.ask() for _ in range(count)])

    def _learn(self, X: NDArray[np.float64], values: dict[int, float]) -> None:
        worst = max(values.values())
        missing = [index for index in range(len(X)) if index not in values]
        # a stable order: an imputed value comes after the told one that it equals
        ranked = sorted([*values, *missing], key=lambda index: values.get(index, worst))[: self.population_size]
        with one_blas_thread():
            self._es.tell([(X[index].copy(), values.get(index, worst)) for index in ranked])
