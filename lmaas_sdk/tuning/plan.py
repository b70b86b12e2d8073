"""What a budget can pay for, worked out before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lmaas_sdk.accounting.amounts import UNITS, Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.errors import BudgetTooSmall

__all__ = ["DEFAULT_EVALUATIONS", "Plan", "RunCosts", "is_limited", "largest", "plan_run"]

DEFAULT_EVALUATIONS = 8000
_NOTHING = Amounts()


@dataclass(frozen=True, slots=True)
class RunCosts:
    """The worst case of each step of a run.

    Args:
        generation: Scoring a population on the training set.
        dev_scoring: A look: scoring two candidates on the dev set, and one candidate on the training set again where
            the backend does not repeat itself; nothing without a dev set and noise.
        dev_every: Generations between two of these.
        test, manual: Scoring the chosen and the manual prompt on the test set; nothing unless asked for.
        rescoring: Scoring the best of 2, 3, ... generations on the training set again; the last is for any more.
            Empty where it is not done.
        before: What comes before the search: asking about the layers, where several are searched.
    """

    generation: Amounts
    dev_scoring: Amounts
    dev_every: int
    test: Amounts
    manual: Amounts = _NOTHING
    rescoring: tuple[Amounts, ...] = ()
    before: Amounts = _NOTHING

    @property
    def after(self) -> tuple[Amounts, ...]:
        """The steps that come after the search: a last look at dev, scoring again, the test, the manual prompt."""
        return self.dev_scoring, *self.rescoring[-1:], self.test, self.manual

    def set_aside(self, generations: int) -> Amounts:
        """What is not for the search: a dev scoring every so often and at the end, scoring again, and the test."""
        dev_scorings = self.dev_scoring.times(-(-generations // self.dev_every))
        return self.before + dev_scorings + self._rescoring_of(generations) + self.test + self.manual

    def _rescoring_of(self, generations: int) -> Amounts:
        """Nothing for a single generation: its best has no rival."""
        least_first = self.rescoring[: max(0, generations - 1)]
        return least_first[-1] if least_first else _NOTHING

    def plan(self, generations: int | None) -> Plan:
        """So many generations, with what has to be set aside for them."""
        aside = self.before + self.test + self.manual if generations is None else self.set_aside(generations)
        return Plan(generations, aside)

    def total(self, generations: int) -> Amounts:
        return self.generation.times(generations) + self.set_aside(generations)


@dataclass(frozen=True, slots=True)
class Plan:
    """How far a budget reaches.

    Args:
        generations: Whole generations it pays for; None: nothing that can be counted limits it.
        set_aside: What dev scoring, scoring again and the test need of it; where nothing is limited, the test alone.
    """

    generations: int | None
    set_aside: Amounts


def plan_run(budget: Budget, costs: RunCosts) -> Plan:
    """The most generations, with their dev scorings and the test, that fit into what is free.

    Raises:
        BudgetTooSmall: Not even one fits.
    """
    free = {unit: budget.least_free(unit) for unit in UNITS}

    def fits(generations: int) -> bool:
        total = costs.total(generations)
        return all(left is None or getattr(total, unit) <= left for unit, left in free.items())

    if not fits(1):
        raise _too_small(budget, costs)
    if not is_limited(budget, costs):
        return costs.plan(None)
    return costs.plan(largest(fits))


def is_limited(budget: Budget, costs: RunCosts) -> bool:
    """Whether anything limits a run that its generations and looks take."""
    step = costs.generation + costs.dev_scoring
    return any(budget.least_free(unit) is not None and getattr(step, unit) for unit in UNITS)


def largest(fits: Callable[[int], bool]) -> int:
    """The largest n with fits(n), where fits(1) holds and it never holds again once it fails."""
    most = 2
    while fits(most):
        most *= 2
    least = most // 2
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if fits(middle) else (least, middle)
    return least


def _too_small(budget: Budget, costs: RunCosts) -> BudgetTooSmall:
    total = costs.total(1)
    for above in budget.line():
        for unit in UNITS:
            left, asked = above.free(unit), getattr(total, unit)
            if left is not None and asked > left:
                posted, pending = getattr(above.posted, unit), getattr(above.pending, unit)
                why = "one generation, with the dev scoring and the test that it needs, does not fit"
                limit = above.limits[unit]
                return BudgetTooSmall(
                    above.name, unit, limit=limit, posted=posted, pending=pending, asked=asked, why=why
                )
    raise RuntimeError("a budget was found too small for no unit")
