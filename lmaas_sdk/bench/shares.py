"""What a cell may spend: a child of the budget that all share."""

from __future__ import annotations

import itertools

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.ledger import MemoryLedger
from lmaas_sdk.bench.cells import Cell
from lmaas_sdk.tuning.group_journals import Begun

__all__ = ["share_of"]


async def share_of(budget: Budget, cell: Cell, begun: Begun | None) -> Budget:
    """The cell's own budget: its last try's, where it goes on with that, else one that no earlier try has spent of.

    Args:
        budget: What all share.
        cell: Whose.
        begun: What the journal of the last try says; None: it begins anew.
    """
    limits, last = Budget(evaluations=cell.evaluations, warn_at=()), None
    for number in itertools.count(1):
        child = budget.child(cell.stem if number == 1 else f"{cell.stem}-{number}", limits)
        await child.ready()
        if child.posted == Amounts():
            break
        last = child
    if begun is None:
        return child
    if last is not None:
        return last
    if isinstance(budget.ledger, MemoryLedger) or not begun.recorded.has_ledger:
        return child  # who goes on books in it what the journal says
    spent = int((begun.spent + begun.lost).evaluations)  # in another budget of a ledger, so not in this one
    left = None if cell.evaluations is None else max(0, cell.evaluations - spent)
    return budget.child(cell.stem, Budget(evaluations=left, warn_at=()), unique=True)
