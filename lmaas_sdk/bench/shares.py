"""What a cell may spend: a child of the budget that all share."""

from __future__ import annotations

from fractions import Fraction

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.ledger import Ledger, MemoryLedger
from lmaas_sdk.backend import Backend
from lmaas_sdk.bench.cells import Cell
from lmaas_sdk.traffic.lane import scope_of
from lmaas_sdk.tuning.group_journals import Begun
from lmaas_sdk.tuning.past import Past

__all__ = ["share_of"]


async def share_of(budget: Budget, cell: Cell, begun: Begun | None, backend: Backend) -> Budget:
    """The cell's own budget: its last try's in this process, else one that no earlier try has spent of.

    What a killed try had under way is lost to the budget that all share, not to the cell: its search makes all of its
    evaluations.

    Args:
        budget: What all share.
        cell: Whose.
        begun: What the journal of the last try says; None: it begins anew.
        backend: Who answers the cell's calls.
    """
    if begun is not None and await _is_in_file(budget, begun):
        left = await _left(cell, begun.past, budget.ledger, backend)
        return budget.child(cell.stem, Budget(evaluations=left, warn_at=()), unique=True)
    limits, number = Budget(evaluations=cell.evaluations, warn_at=()), 1
    while True:
        child = budget.child(cell.stem if number == 1 else f"{cell.stem}-{number}", limits)
        await child.ready()
        if child.posted == Amounts() or _is_of_run(child, begun):
            return child  # who goes on with a run books in it what the journal says, unless it has that
        number += 1


async def _is_in_file(budget: Budget, begun: Begun) -> bool:
    """Whether a ledger file has what the run has spent, in whichever of the cell's budgets."""
    return not isinstance(budget.ledger, MemoryLedger) and await begun.recorded.is_booked_in(budget, begun.past)


def _is_of_run(child: Budget, begun: Begun | None) -> bool:
    """Whether the run was begun, or gone on with, on this budget in this process."""
    if begun is None or not isinstance(child.ledger, MemoryLedger):
        return False
    return child.ledger.spent_by_run(child.path, begun.recorded.run) is not None


async def _left(cell: Cell, past: Past, ledger: Ledger, backend: Backend) -> Fraction | None:
    """Evaluations that are left to a search whose spend is in the ledger already."""
    if cell.evaluations is None:
        return None
    unsettled, paid = past.unsettled, Fraction()
    if backend.card.capabilities.idempotent:  # asked again, these are billed as bare calls
        keys = past.settled | (await ledger.posted(scope_of(backend, "score"), list(unsettled))).keys()
        paid = sum((Fraction(unsettled[key].worst.evaluations) for key in keys & unsettled.keys()), Fraction())
    return max(Fraction(), cell.evaluations - past.answered - paid)
