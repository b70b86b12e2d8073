"""What missing cells will cost: the estimate of each search, before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.backend import Backend
from lmaas_sdk.bench.cells import Cell
from lmaas_sdk.bench.configurations import Setup
from lmaas_sdk.errors import BudgetTooSmall, Unsupported
from lmaas_sdk.methods import BlackBoxTuning, DeepBlackBoxTuning

__all__ = ["Expected", "expected_of"]


@dataclass(frozen=True, slots=True)
class Expected:
    """What is expected of cells.

    Args:
        tokens: Of their searches and of the test rows of these, expected.
        cost_usd: Likewise; None: the model has no price.
        unknown: Cells for which nothing can be told beforehand.
        refused: Cells that cannot be measured as asked, and what is said of each: the evaluations do not pay for one
            generation, or the backend lacks what the method needs.
    """

    tokens: float
    cost_usd: float | None
    unknown: int
    refused: Mapping[Cell, BudgetTooSmall | Unsupported]


async def expected_of(cells: Sequence[Cell], backend: Backend) -> Expected:
    """What measuring the cells is expected to take, as far as their methods can tell; texts are counted, which is free.

    Raises:
        TaskError: The data cannot be used.
    """
    tokens, cost, unknown = 0.0, 0.0, 0
    refused: dict[Cell, BudgetTooSmall | Unsupported] = {}
    for cell in cells:
        setup = Setup(backend, Budget(evaluations=cell.evaluations, warn_at=()), cell.seed)
        try:
            method = cell.configuration.make(setup)
            if not isinstance(method, BlackBoxTuning | DeepBlackBoxTuning):
                unknown += 1
                continue
            found = await method.tuner.estimate(cell.train, cell.dev, test=cell.test)
        except (BudgetTooSmall, Unsupported) as error:
            refused[cell] = error
            continue
        tokens += found.tokens.expected
        cost += 0.0 if found.cost_usd is None else float(found.cost_usd.expected)
    return Expected(tokens, None if backend.card.price is None else cost, unknown, refused)
