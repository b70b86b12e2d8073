"""Restarts with a growing population (IPOP: Auger & Hansen 2005)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.seeding import raw_words, whole_number
from lmaas_sdk.tuning.generations import Generations
from lmaas_sdk.tuning.optimizer import Optimizer

__all__ = ["MakeSearch", "Restarts"]

MakeSearch = Callable[[int, int], Optimizer]  # (population, seed)

# Reasons, by their names in pycma, that concern the distribution: it has collapsed, exploded or degenerated. Those
# about equal values (tolfun, tolflatfitness, ...) are left out: an accuracy of few texts trips them in the first
# generations. `should_stop` is how SepCMA says all of its own at once.
_ENDED = frozenset(
    {
        "conditioncov",
        "noeffectaxis",
        "noeffectcoord",
        "should_stop",
        "tolfacupx",
        "tolstagnation",
        "tolupsigma",
        "tolx",
    }
)
_WARNINGS_EVERY = 10  # generations; asking pycma is not free


class Restarts(Generations):
    """Starts a search anew, with twice the population, when it has come to its end.

    A search has come to its end when it warns that its distribution is of no use any more, or when it stagnates: its
    best value has not fallen for `patience` generations, and neither has the median of the generations' bests from the
    first half of these to the second, so that one lucky value ends nothing.

    Every search starts from the origin, which is where no prompt, or the given one, stands: a start near the best point
    would fall into the same basin. What was found before is not lost, since whoever tells values knows the best of
    them. After the last restart the search goes on.

    `mean` and `sigma` are those of the search that was told last, and `population_size` is the next generation's.

    Args:
        make: Makes a search of a population and a seed; each is called for once.
        population: Of the first search.
        restarts: At most so many.
        seed: The first search has it, so that nothing differs up to the first restart; later ones have streams of
            their own, named by seed and restart.
        patience: Generations, at least 2. Auger & Hansen wait for 10 + 30 d / population, more than the paper's budget
            pays for.
    """

    def __init__(self, make: MakeSearch, *, population: int, restarts: int, seed: int, patience: int = 50) -> None:
        super().__init__()
        self._make, self._population, self._seed = make, population, seed
        self._left, self._patience = restarts, whole_number("patience", patience, at_least=2)
        self._restarted: list[str] = []
        self._told = self._next = make(population, seed)
        self._first = self._improved = 0  # generations: of the current search, and when its best value last fell
        self._lowest = np.inf
        self._bests: deque[float] = deque(maxlen=patience)

    @property
    def population_size(self) -> int:
        return self._next.population_size

    @property
    def min_tell(self) -> int:
        return self._next.min_tell

    @property
    def must_have(self) -> frozenset[int]:
        return self._next.must_have

    @property
    def mean(self) -> NDArray[np.float64]:
        return self._told.mean

    @property
    def sigma(self) -> float:
        return self._told.sigma

    def warnings(self) -> tuple[str, ...]:
        """What the search of the last generation says, and every restart with its reason."""
        return (*self._told.warnings(), *self._restarted)

    def _draw(self, count: int) -> NDArray[np.float64]:
        return self._next.ask(count - self.population_size).X

    def _learn(self, X: NDArray[np.float64], values: dict[int, float]) -> None:
        self._told = self._next
        self._told.tell(self._generation - self._first, values)
        lowest = min(values.values())
        self._bests.append(lowest)
        if lowest < self._lowest:
            self._lowest, self._improved = lowest, self._generation
        if self._left > 0 and (reason := self._why_ended()):
            self._restart(reason)

    def _why_ended(self) -> str | None:
        if self._stagnates():
            return f"no better value in {self._patience} generations"
        if (self._generation + 1 - self._first) % _WARNINGS_EVERY:
            return None
        return next((reason for reason in self._told.warnings() if reason in _ENDED), None)

    def _stagnates(self) -> bool:
        if self._generation - self._improved < self._patience:
            return False
        bests, half = list(self._bests), self._patience // 2
        return bool(np.median(bests[half:]) >= np.median(bests[:half]))

    def _restart(self, reason: str) -> None:
        self._left -= 1
        self._population *= 2
        self._restarted.append(
            f"restarted after generation {self._generation} with a population of {self._population}: {reason}"
        )
        name = f"restart/{len(self._restarted)}/1"
        self._next = self._make(self._population, int(raw_words(self._seed, name, 1)[0]))
        self._first = self._improved = self._generation + 1
        self._lowest = np.inf
        self._bests.clear()
