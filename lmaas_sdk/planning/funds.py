"""What a run may still spend, counted as its budget and its horizon count it, without booking anything."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from lmaas_sdk.accounting.amounts import UNITS, Amounts
from lmaas_sdk.planning.traffic import Ended
from lmaas_sdk.tuning.plan import Plan, RunCosts, largest

__all__ = ["Funds"]

_Free = list[float | Fraction]


class Funds:
    """The budget of one run.

    Args:
        free: What it has of each unit; None: no limit.
        costs: The worst case of every step.
        plan: How far it reaches.

    Attributes:
        generations: How many it pays for; None: nothing that can be counted limits it.
    """

    def __init__(self, free: Mapping[str, int | Fraction | None], costs: RunCosts, plan: Plan) -> None:
        self.generations = plan.generations
        self._costs = costs
        self._main: _Free = [math.inf if (left := free[unit]) is None else left for unit in UNITS]
        self._aside: _Free = [0, 0, 0, 0]
        self._set_aside(plan.set_aside)

    def for_search(self, amounts: Amounts) -> None:
        """Pays for a generation, or for another attempt of it.

        Raises:
            Ended: It does not fit.
        """
        if not _take(self._main, amounts):
            raise Ended("budget")

    def aside(self, amounts: Amounts) -> None:
        """Pays for what does not belong to the search: from what was set aside for it, if that reaches.

        Raises:
            Ended: It fits nowhere.
        """
        if not (_take(self._aside, amounts) or _take(self._main, amounts)):
            raise Ended("budget")

    def aside_again(self, amounts: Amounts) -> None:
        """Pays for another attempt of such a call: from what is planned for nothing, if that reaches.

        Raises:
            Ended: It fits nowhere.
        """
        if not (_take(self._main, amounts) or _take(self._aside, amounts)):
            raise Ended("budget")

    def give_back(self, amounts: Amounts) -> None:
        """What was reserved for a generation and not used."""
        _give(self._main, amounts)

    def reaches(self, done: int) -> bool:
        """Whether another generation may begin after so many."""
        if self.generations is None or done < self.generations:
            return True
        further = self._further(done)
        if further:
            self._set_aside(self._aside_for(done, done + further))
            self.generations = done + further
        return further > 0

    def _further(self, done: int) -> int:
        def fits(more: int) -> bool:
            worst = self._costs.generation.times(more) + self._aside_for(done, done + more)
            return _fits(self._main, worst)

        return largest(fits) if fits(1) else 0

    def _aside_for(self, done: int, then: int) -> Amounts:
        return self._costs.set_aside(then).above(self._costs.set_aside(done))

    def _set_aside(self, amounts: Amounts) -> None:
        if _take(self._main, amounts):
            _give(self._aside, amounts)


def _row(amounts: Amounts) -> tuple[int, int | Fraction, int, int]:
    return amounts.calls, amounts.evaluations, amounts.tokens, amounts.nanousd


def _fits(free: _Free, amounts: Amounts) -> bool:
    return all(asked <= left for asked, left in zip(_row(amounts), free, strict=True))


def _take(free: _Free, amounts: Amounts) -> bool:
    """Takes all of it, or nothing."""
    if not _fits(free, amounts):
        return False
    free[:] = [left - asked for left, asked in zip(free, _row(amounts), strict=True)]
    return True


def _give(free: _Free, amounts: Amounts) -> None:
    free[:] = [left + given for left, given in zip(free, _row(amounts), strict=True)]
