"""What a client pays from: a budget and, where that does not reach, a spare one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget, Reservation
from lmaas_sdk.accounting.transfers import Label
from lmaas_sdk.errors import BudgetExceeded

__all__ = ["Purse"]


@dataclass(frozen=True, slots=True, eq=False)
class Purse:
    """Where the money comes from.

    Args:
        budget: What is paid from first.
        spare: What is paid from where that does not reach: an allowance that retries have used up, say.
    """

    budget: Budget
    spare: Budget | None = None

    async def hold_all(
        self, requests: Sequence[Amounts], labels: Sequence[Label], *, again: bool = False, sent: bool = False
    ) -> list[Reservation]:
        """Reserves every request or none, from one of the two.

        Args:
            requests: The worst case of each call.
            labels: What each is for.
            again: For a repeated attempt: the spare pays first, to leave what was planned alone.
            sent: Whether all of them go out at once.

        Raises:
            BudgetExceeded: They fit into neither.
        """
        if self.spare is None:
            return await self.budget.hold_all(requests, labels, sent=sent)
        first, second = (self.spare, self.budget) if again else (self.budget, self.spare)
        try:
            return await first.hold_all(requests, labels, sent=sent)
        except BudgetExceeded:
            return await second.hold_all(requests, labels, sent=sent)
