"""Random search: what any other has to beat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.seeding import bit_generator
from lmaas_sdk.tuning.generations import Generations

__all__ = ["RandomSearch"]


class RandomSearch(Generations):
    """Draws every candidate from N(0, sigma0^2 I), as the first generation of CMA-ES is drawn, and learns nothing.

    Its `mean` is the best candidate told so far, the first of equals, and the origin before.

    Args:
        d: Size of the search space.
        population: Candidates of a generation.
        sigma0: Standard deviation of a coordinate.
        seed: Of a generator of its own.
    """

    def __init__(self, d: int, *, population: int, sigma0: float, seed: int) -> None:
        super().__init__()
        self._population, self._sigma = population, float(sigma0)
        self._normal = np.random.Generator(bit_generator(seed, "random-search/1"))
        self._best, self._lowest = np.zeros(d), np.inf

    @property
    def population_size(self) -> int:
        return self._population

    @property
    def min_tell(self) -> int:
        return 1

    @property
    def mean(self) -> NDArray[np.float64]:
        return self._best.copy()

    @property
    def sigma(self) -> float:
        return self._sigma

    def _draw(self, count: int) -> NDArray[np.float64]:
        return self._sigma * self._normal.standard_normal((count, len(self._best)))

    def _learn(self, X: NDArray[np.float64], values: dict[int, float]) -> None:
        best = min(values, key=values.__getitem__)
        if values[best] < self._lowest:
            self._best, self._lowest = X[best].copy(), values[best]
