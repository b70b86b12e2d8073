"""What a search is: it asks for values of candidates and is told them, generation by generation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Batch", "Optimizer", "StepSize", "check_values"]

StepSize = Literal["csa", "tpa"]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """The candidates of one generation.

    Args:
        generation: 0, 1, ...
        X: (n, d) float64, read-only; a candidate is named by its row.
    """

    generation: int
    X: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.X)


class Optimizer(Protocol):
    """Minimises by ask and tell. It never touches a global random generator, nor the arguments it is given."""

    @property
    def population_size(self) -> int:
        """Candidates of a generation."""
        ...

    @property
    def min_tell(self) -> int:
        """Fewest values it can go on with."""
        ...

    @property
    def must_have(self) -> frozenset[int]:
        """Candidates whose values it cannot do without."""
        ...

    @property
    def mean(self) -> NDArray[np.float64]:
        """(d,) float64: the centre of the search."""
        ...

    @property
    def sigma(self) -> float:
        """The step size."""
        ...

    def ask(self, extra: int = 0) -> Batch:
        """The candidates of the next generation; the same ones until they are told."""
        ...

    def tell(self, generation: int, values: Mapping[int, float]) -> None:
        """Takes values by candidate; smaller is better. Telling the last generation again changes nothing.

        Raises:
            ValueError: Another generation, an unknown candidate, too few values, or one that is not finite.
        """
        ...

    def warnings(self) -> tuple[str, ...]:
        """Reasons the algorithm gives why it might stop here; a budgeted run records them and goes on."""
        ...


def check_values(optimizer: Optimizer, batch: Batch, values: Mapping[int, float]) -> None:
    """Refuses values that would do silent harm.

    Raises:
        ValueError: It names the candidate or what is missing.
    """
    for index, value in values.items():
        if not 0 <= index < len(batch):
            raise ValueError(f"generation {batch.generation} has candidates 0 .. {len(batch) - 1}, not {index}")
        if not np.isfinite(value):
            raise ValueError(
                f"candidate {index} of generation {batch.generation} has the value {value}: leave it out instead"
            )
    missing = optimizer.must_have - values.keys()
    if missing:
        raise ValueError(f"generation {batch.generation} cannot do without the values of candidates {sorted(missing)}")
    if len(values) < optimizer.min_tell:
        raise ValueError(f"generation {batch.generation} needs {optimizer.min_tell} values or more, not {len(values)}")
