"""A search for every layer, one generation each in turn (Sun et al. 2022b, arXiv:2205.11200, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.tuning.generations import Generations
from lmaas_sdk.tuning.optimizer import Optimizer

__all__ = ["LayerwiseSearch"]


class LayerwiseSearch(Generations):
    """Searches the blocks of z one after another: generation g moves block g modulo their number.

    The other blocks stand still meanwhile, each at the candidate with the lowest value that its own search was ever
    told; at 0, which is no prompt, before that. What a value was measured beside may have changed since.

    Args:
        searches: Of each block, fresh; they start at 0.
        sizes: d of each.
    """

    def __init__(self, searches: Sequence[Optimizer], sizes: Sequence[int]) -> None:
        super().__init__()
        self._searches = tuple(searches)
        self._best = [np.zeros(size) for size in sizes]
        self._lowest = [np.inf] * len(self._searches)
        ends = np.cumsum([0, *sizes]).tolist()
        self._blocks = [slice(start, end) for start, end in pairwise(ends)]

    @property
    def block(self) -> int:
        """The one that the next generation moves."""
        return self._generation % len(self._searches)

    @property
    def population_size(self) -> int:
        return self._search.population_size

    @property
    def min_tell(self) -> int:
        return self._search.min_tell

    @property
    def must_have(self) -> frozenset[int]:
        return self._search.must_have

    @property
    def mean(self) -> NDArray[np.float64]:
        """The means of all searches, one behind another."""
        return np.concatenate([search.mean for search in self._searches])

    @property
    def sigma(self) -> float:
        """Of the search that was told last."""
        return self._searches[(self._generation - 1) % len(self._searches)].sigma

    def warnings(self) -> tuple[str, ...]:
        """Those of all searches, each with its number."""
        return tuple(f"search {number}: {why}" for number, one in enumerate(self._searches) for why in one.warnings())

    @property
    def _search(self) -> Optimizer:
        return self._searches[self.block]

    def _draw(self, count: int) -> NDArray[np.float64]:
        moved = self._search.ask(count - self.population_size).X
        X = np.tile(np.concatenate(self._best), (len(moved), 1))
        X[:, self._blocks[self.block]] = moved
        return X

    def _learn(self, X: NDArray[np.float64], values: dict[int, float]) -> None:
        number = self.block
        self._search.tell(self._generation // len(self._searches), values)
        best = min(values, key=values.__getitem__)
        if values[best] < self._lowest[number]:
            self._lowest[number] = values[best]
            self._best[number] = X[best, self._blocks[number]].copy()
