"""How far a run goes: planned before it begins, and again where it turns out cheaper or dearer than planned."""

from __future__ import annotations

from dataclasses import replace

from lmaas_sdk.accounting.amounts import UNITS, Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.errors import BudgetExceeded
from lmaas_sdk.tuning.plan import RunCosts, largest

__all__ = ["Horizon"]


class Horizon:
    """The generations that a run may do.

    Args:
        budget: What the search is paid from.
        aside: What was set aside for the looks at dev and what comes after the search.
        costs: The worst case of every step.
        generations: How many the budget pays for; None: nothing that can be counted limits it.
        candidates: Of a generation, by which its worst case was worked out.

    Attributes:
        aside: As given, or in its place what was set aside since.
    """

    def __init__(
        self, budget: Budget, aside: Budget, costs: RunCosts, *, generations: int | None, candidates: int
    ) -> None:
        self._budget, self.aside = budget, aside
        self.costs, self.generations, self.candidates = costs, generations, candidates

    async def reaches(self, done: int, *, candidates: int, worst: Amounts | None) -> bool:
        """Whether another generation may begin.

        Args:
            done: Generations that are done.
            candidates: Of the next one.
            worst: What that takes at most, where the search has grown; None: it has not.
        """
        self.candidates = candidates
        if worst is not None:
            self.costs = replace(self.costs, generation=worst)
        if self.generations is None:
            return True
        if worst is not None:
            self.generations = done + self._further(done, self.costs)
        if done >= self.generations:
            await self._go_on(done)
        return done < self.generations

    def wanted(self, done: int) -> Amounts:
        """The most that one generation more takes, with the look at dev that it may need."""
        return self.costs.generation + self._aside_for(done, done + 1, self.costs)

    async def _go_on(self, done: int) -> None:
        """Generations may have taken less than their worst case: what is left may pay for more."""
        further = self._further(done, self.costs)
        if further < 1:
            return
        more = self._aside_for(done, done + further, self.costs)
        left = Amounts(**{unit: self.aside.free(unit) or 0 for unit in UNITS})  # type: ignore[arg-type]  # as set aside
        self.aside.release()
        try:
            self.aside = await self._budget.hold_aside("dev and test", left + more)
        except BudgetExceeded:  # somebody who shares the budget was faster
            self.aside = await self._what_is_left(left)
            return
        self.generations = done + further

    async def _what_is_left(self, left: Amounts) -> Budget:
        """What had been set aside, set aside again, if nobody has taken that too; the looks are made while they fit."""
        try:
            return await self._budget.hold_aside("dev and test", left)
        except BudgetExceeded:
            return await self._budget.hold_aside("dev and test", Amounts())

    def _further(self, done: int, costs: RunCosts) -> int:
        """The most generations, with the looks at dev that they need, that what is left pays for."""
        left = {unit: self._budget.least_free(unit) for unit in UNITS}

        def fits(more: int) -> bool:
            worst = costs.generation.times(more) + self._aside_for(done, done + more, costs)
            return all(free is None or getattr(worst, unit) <= free for unit, free in left.items())

        return largest(fits) if fits(1) else 0

    def _aside_for(self, done: int, then: int, costs: RunCosts) -> Amounts:
        """How much more has to be set aside for a run that goes further."""
        return costs.set_aside(then).above(costs.set_aside(done))
