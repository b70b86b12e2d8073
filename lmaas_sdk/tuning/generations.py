"""What all searches here share: generations are numbered, asked once, and told once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.seeding import whole_number
from lmaas_sdk.tuning.optimizer import Batch, check_values

__all__ = ["Generations"]


class Generations(ABC):
    """The bookkeeping of an `Optimizer`; a search says how it draws candidates and what it learns from their values."""

    def __init__(self) -> None:
        self._generation = 0
        self._asked: Batch | None = None

    @property
    @abstractmethod
    def population_size(self) -> int:
        """See `Optimizer`."""

    @property
    @abstractmethod
    def min_tell(self) -> int:
        """See `Optimizer`."""

    @property
    def must_have(self) -> frozenset[int]:
        """See `Optimizer`; none here."""
        return frozenset()

    @property
    @abstractmethod
    def mean(self) -> NDArray[np.float64]:
        """See `Optimizer`."""

    @property
    @abstractmethod
    def sigma(self) -> float:
        """See `Optimizer`."""

    def ask(self, extra: int = 0) -> Batch:
        """See `Optimizer.ask`."""
        count = self.population_size + whole_number("extra", extra, at_least=0)
        if self._asked is None:
            X = np.array(self._draw(count), dtype=np.float64)
            X.flags.writeable = False
            self._asked = Batch(self._generation, X)
        return self._asked

    def tell(self, generation: int, values: Mapping[int, float]) -> None:
        """See `Optimizer.tell`."""
        if generation == self._generation - 1:
            return
        if generation != self._generation:
            raise ValueError(f"generation {self._generation} is the one to tell, not {generation}")
        if self._asked is None:
            raise ValueError(f"generation {generation} has no candidates yet: tell it after ask")
        check_values(self, self._asked, values)
        self._learn(self._asked.X, {int(index): float(values[index]) for index in sorted(values)})
        self._generation, self._asked = generation + 1, None

    def warnings(self) -> tuple[str, ...]:
        """See `Optimizer.warnings`; none here."""
        return ()

    @abstractmethod
    def _draw(self, count: int) -> NDArray[np.float64]:
        """The next generation's candidates: (count, d) float64, or fewer where the search cannot give more."""

    @abstractmethod
    def _learn(self, X: NDArray[np.float64], values: dict[int, float]) -> None:
        """Takes checked values, by row of what was drawn and in that order."""
