"""What the rules for searches share: a function to minimise, searches that leave values out, and how to find fault."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.seeding import raw_words, whole_number
from lmaas_sdk.testing.probe import ConformanceError
from lmaas_sdk.tuning.optimizer import Batch, Optimizer

__all__ = ["MakeOptimizer", "SearchProbe", "Step", "values_of"]

MakeOptimizer = Callable[[int], Optimizer]
SEED = 5


@dataclass(frozen=True, slots=True)
class Step:
    """One generation of a search: what was asked, and what it was told."""

    asked: bytes
    told: dict[int, float]


def values_of(batch: Batch) -> dict[int, float]:
    """The value of every candidate: a quadratic function with ripples, without its minimum in the origin."""
    y = np.asarray(batch.X, dtype=np.float64) - 0.5
    return dict(enumerate((y * y + 0.1 * np.abs(np.sin(3.0 * y))).sum(axis=1).tolist()))


class SearchProbe:
    """An optimiser under test.

    Args:
        factory: Makes a fresh one of a seed.
        generations: Of the searches that are compared.
    """

    def __init__(self, factory: MakeOptimizer, generations: int) -> None:
        self.factory, self.generations = factory, whole_number("generations", generations, at_least=3)
        self.rule = ""

    def fresh(self, seed: int = SEED) -> Optimizer:
        return self.factory(seed)

    def require(self, holds: bool, message: str) -> None:
        """Finds fault unless `holds`.

        Raises:
            ConformanceError: Naming the rule being checked.
        """
        if not holds:
            raise ConformanceError(self.rule, message)

    def require_same(self, found: object, expected: object, what: str) -> None:
        """Finds fault unless a search goes the way of another: both have the same bits."""
        self.require(found == expected, f"{what}, and the search differs from one without that")

    def finite(self, batch: Batch) -> NDArray[np.float64]:
        """The candidates, found fault with unless all are finite."""
        finite = bool(np.isfinite(batch.X).all())
        self.require(finite, f"generation {batch.generation} has a candidate with NaN or infinity")
        return batch.X

    def needed(self, optimizer: Optimizer, batch: Batch) -> list[int]:
        """As few candidates as can be told, others in every generation; `must_have` among them."""
        most = sorted(optimizer.must_have)
        rest = [index for index in range(len(batch)) if index not in optimizer.must_have]
        turn = int(raw_words(batch.generation, "conformance/left out", 1)[0]) % max(len(rest), 1)
        return (most + rest[turn:] + rest[:turn])[: max(optimizer.min_tell, len(most))]

    def step(
        self, optimizer: Optimizer, *, told: Mapping[int, float] | None = None, extra: int = 0, partial: bool = False
    ) -> Step:
        """Asks, and tells.

        Args:
            optimizer: The search.
            told: The values; None: what the candidates are worth.
            extra: Candidates to ask for beyond the population.
            partial: Tell as few as can be.
        """
        batch = optimizer.ask(extra=extra) if extra else optimizer.ask()
        asked = self.finite(batch).tobytes()
        values = dict(told) if told is not None else values_of(batch)
        if partial:
            values = {index: values[index] for index in self.needed(optimizer, batch)}
        optimizer.tell(batch.generation, values)
        return Step(asked, values)

    def run(self, optimizer: Optimizer, generations: int | None = None) -> list[bytes]:
        """The candidates of some generations, every third of them told in part."""
        count = self.generations if generations is None else generations
        return [self.step(optimizer, partial=number % 3 == 2).asked for number in range(count)]
