"""What a search is: it asks for values of candidates and is told them, generation by generation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Batch",
    "MakeOptimizer",
    "Optimizer",
    "StepSize",
    "check_covariance_size",
    "check_is_search",
    "check_over_ask",
    "check_values",
]

StepSize = Literal["csa", "tpa"]
_MOST_FULL_DIMENSIONS = 4000  # 128 MB a matrix; a decomposition of it takes a minute


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
    """Minimises by ask and tell. It never touches a global random generator, nor the arguments it is given.

    What it asks is a function of its settings and of what it was asked and told, so a fresh one that is asked and told
    the same is in the same state. `lmaas_sdk.testing.check_optimizer` checks all that is said here.
    """

    @property
    def population_size(self) -> int:
        """Candidates of the next generation; it may change from one to the next."""
        ...

    @property
    def min_tell(self) -> int:
        """Fewest values that this generation can be told with."""
        ...

    @property
    def must_have(self) -> frozenset[int]:
        """Candidates of this generation whose values it cannot do without."""
        ...

    @property
    def mean(self) -> NDArray[np.float64]:
        """(d,) float64: the centre of the search, a copy."""
        ...

    @property
    def sigma(self) -> float:
        """The step size."""
        ...

    def ask(self, extra: int = 0) -> Batch:
        """The candidates of the next generation; the same batch until it is told, whatever `extra` is then.

        A run asks as soon as it has told, also for a generation that it will not come to.

        Args:
            extra: So many more than the population are wanted, so that the slowest need not be waited for. A search
                that cannot give more leaves them out: count the batch.
        """
        ...

    def tell(self, generation: int, values: Mapping[int, float]) -> None:
        """Takes values by candidate; smaller is better. Telling the last generation again changes nothing.

        `min_tell` values of any candidates are enough, `must_have` among them; of a batch with more candidates than the
        population all may be told.

        Raises:
            ValueError: Another generation, an unknown candidate, too few values, or one that is not finite.
        """
        ...

    def warnings(self) -> tuple[str, ...]:
        """Reasons the algorithm gives why it might stop here; a budgeted run records them and goes on."""
        ...


MakeOptimizer = Callable[[int, int], Optimizer]
"""Makes a fresh search of its dimension d and a seed: `Tuner(optimizer=)`."""


def check_is_search(made: object) -> None:
    """Refuses what was made in the place of a search, before anything is asked of it.

    Raises:
        TypeError: It lacks what an `Optimizer` has; the message says what to do.
    """
    missing = [name for name in ("ask", "tell", "population_size") if not hasattr(made, name)]
    if missing:
        raise TypeError(
            f"optimizer= made {made!r:.80} of {type(made).__name__}, which has no {', '.join(missing)}: have it return "
            "a search (see lmaas_sdk.Optimizer), or AskTell(it, d=d, population=...) around an object with ask and tell"
        )


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


def check_over_ask(optimizer: Optimizer, batch: Batch, over_ask: int) -> None:
    """Refuses to plan for candidates that a search does not give, which the budget would be kept for.

    Raises:
        ValueError: It has given fewer than `over_ask` beyond its population.
    """
    population = optimizer.population_size
    if over_ask and len(batch) < population + over_ask:
        raise ValueError(
            f"over_ask={over_ask} asks for {population + over_ask} candidates a generation, and this search gives "
            f"{len(batch)}: leave over_ask (--over-ask) out, or take a search that gives more than its population"
        )


def check_covariance_size(d: int) -> None:
    """Refuses a full covariance matrix that no machine would be done with.

    Raises:
        ValueError: It says what to take instead.
    """
    if d > _MOST_FULL_DIMENSIONS:
        raise ValueError(
            f"a full covariance matrix is learned in at most {_MOST_FULL_DIMENSIONS} dimensions, not d = {d}: "
            "take covariance 'diagonal', algorithm 'random', or a projection with a smaller d"
        )
