"""Warnings before a budget ends."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction

from lmaas_sdk.accounting.amounts import UNITS
from lmaas_sdk.accounting.book import Balances
from lmaas_sdk.accounting.limits import checked_fractions

__all__ = ["BudgetWarning", "OnWarning", "Thresholds"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BudgetWarning:
    """What is posted has passed a part of a limit.

    Args:
        budget: Its path.
        unit: calls, evaluations, tokens or nanousd.
        fraction: The part of the limit that was passed.
        limit, posted, pending: Amounts in that unit, when it was noticed.
    """

    budget: str
    unit: str
    fraction: float
    limit: int | Fraction
    posted: int | Fraction
    pending: int | Fraction


OnWarning = Callable[[BudgetWarning], object]


class Thresholds:
    """Which parts of its limits a budget has passed, each told of once.

    Args:
        warn_at: Parts of every limit.
        on_warning: Told of them; None: nobody is.

    Raises:
        ValueError: A part is not above 0 and at most 1.
    """

    def __init__(self, warn_at: Iterable[float], on_warning: OnWarning | None) -> None:
        self.fractions = checked_fractions(warn_at)
        self.on_warning = on_warning
        self._told: set[tuple[str, Fraction]] = set()

    def again(self) -> Thresholds:
        """The same for another budget, with nothing told yet."""
        return Thresholds(map(float, self.fractions), self.on_warning)

    def tell(self, path: str, balances: Balances) -> None:
        """Calls `on_warning` for every threshold passed since. What it raises is logged: the booking stands."""
        if self.on_warning is None:
            return
        for warning in self._passed(path, balances):
            try:
                self.on_warning(warning)
            except Exception:
                _log.exception("on_warning of budget %r failed", path)

    def _passed(self, path: str, balances: Balances) -> list[BudgetWarning]:
        passed = []
        for unit, limit, posted, pending in zip(UNITS, balances.limits, balances.posted, balances.pending, strict=True):
            for fraction in self.fractions if limit else ():
                if limit and posted >= limit * fraction and (unit, fraction) not in self._told:
                    self._told.add((unit, fraction))
                    passed.append(BudgetWarning(path, unit, float(fraction), limit, posted, pending))
        return passed
