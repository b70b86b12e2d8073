"""Warnings before a budget ends."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction

from lmaas_sdk.accounting.amounts import UNITS
from lmaas_sdk.accounting.book import Balances
from lmaas_sdk.accounting.limits import checked_fractions
from lmaas_sdk.accounting.quantities import Limits
from lmaas_sdk.logs import log_event, plain

__all__ = ["BudgetWarning", "OnWarning", "Thresholds"]

_log = logging.getLogger("lmaas_sdk.accounting")
_NEVER = float("inf")
_TIME = "wall_s"


@dataclass(frozen=True, slots=True)
class BudgetWarning:
    """What is posted has passed a part of a limit.

    Args:
        budget: Its path.
        unit: calls, evaluations, tokens, nanousd or wall_s.
        fraction: The part of the limit that was passed.
        limit, posted, pending: Amounts in that unit (seconds for wall_s), when it was noticed.
    """

    budget: str
    unit: str
    fraction: float
    limit: int | float | Fraction
    posted: int | float | Fraction
    pending: int | Fraction


OnWarning = Callable[[BudgetWarning], object]


class Thresholds:
    """Which parts of its limits a budget has passed, each told of once, whichever thread comes first.

    Args:
        warn_at: Parts of every limit.
        on_warning: Told of them; None: the log is.

    Raises:
        ValueError: A part is not above 0 and at most 1.
        TypeError: `on_warning` is a coroutine function.
    """

    def __init__(self, warn_at: Iterable[float], on_warning: OnWarning | None) -> None:
        self.fractions = checked_fractions(warn_at)
        self.on_warning = _checked_callback(on_warning)
        self._lock = threading.Lock()
        self._told: set[tuple[str, Fraction]] = set()
        # Below all of these nothing new is passed. Whole numbers: every post is compared with them.
        self._next: tuple[float, ...] = (_NEVER,) * len(UNITS)
        self._next_of: Limits | None = None

    def again(self) -> Thresholds:
        """The same for another budget, with nothing told yet."""
        return Thresholds(map(float, self.fractions), self.on_warning)

    @property
    def are_logged(self) -> bool:
        """Whether there are any, and nobody to call."""
        return self.on_warning is None and bool(self.fractions)

    def tell(self, path: str, balances: Balances) -> None:
        """Calls `on_warning` for every threshold passed since. What it raises is logged: the booking stands."""
        if self.on_warning is not None and self.may_pass(balances):
            for warning in self._passed(path, balances):
                self._call(warning)

    def log(self, path: str, balances: Balances) -> None:
        """Logs every threshold passed since."""
        if self.may_pass(balances):
            for warning in self._passed(path, balances):
                _log_passed(warning)

    def tell_time(self, path: str, *, limit_s: float, used_s: float) -> None:
        """Calls `on_warning`, or logs, for every part of the wall time that is over since."""
        with self._lock:
            passed = [part for part in self.fractions if used_s >= limit_s * part and (_TIME, part) not in self._told]
            self._told.update((_TIME, part) for part in passed)
        for part in passed:
            warning = BudgetWarning(path, _TIME, float(part), limit_s, used_s, 0)
            if self.on_warning is None:
                _log_passed(warning)
            else:
                self._call(warning)

    def may_pass(self, balances: Balances) -> bool:
        """Whether there may be something to tell: quick, and False after nearly every post."""
        limits, posted = balances.limits, balances.posted
        if limits is not self._next_of and limits != self._next_of:
            with self._lock:
                self._look_ahead(limits)
        calls, evaluations, tokens, nanousd = self._next
        return posted[0] >= calls or posted[1] >= evaluations or posted[2] >= tokens or posted[3] >= nanousd

    def _call(self, warning: BudgetWarning) -> None:
        try:
            _refuse_coroutine(None if self.on_warning is None else self.on_warning(warning))
        # CancelledError is what the result of somebody's cancelled future raises: nobody has cancelled the booking.
        except (Exception, asyncio.CancelledError):
            extra = {"lmaas_event": "warning_callback_failed", "lmaas_budget": warning.budget}
            _log.exception("on_warning of budget %(budget)r failed", {"budget": warning.budget}, extra=extra)

    def _passed(self, path: str, balances: Balances) -> list[BudgetWarning]:
        with self._lock:
            passed = self._newly_passed(path, balances)
            self._look_ahead(balances.limits)
        return passed

    def _look_ahead(self, limits: Limits) -> None:
        """Notes from where on a post may pass something: never too high, and less than one too low."""
        self._next = tuple(
            next((int(limit * part) for part in self.fractions if limit and (unit, part) not in self._told), _NEVER)
            for unit, limit in zip(UNITS, limits, strict=True)
        )
        self._next_of = limits  # last: whoever finds it finds what belongs to it

    def _newly_passed(self, path: str, balances: Balances) -> list[BudgetWarning]:
        passed = []
        for unit, limit, posted, pending in zip(UNITS, balances.limits, balances.posted, balances.pending, strict=True):
            for fraction in self.fractions if limit else ():
                if limit and posted >= limit * fraction and (unit, fraction) not in self._told:
                    self._told.add((unit, fraction))
                    passed.append(BudgetWarning(path, unit, float(fraction), limit, posted, pending))
        return passed


def _checked_callback(on_warning: OnWarning | None) -> OnWarning | None:
    call = getattr(on_warning, "__call__", None)  # noqa: B004  (an object may have an async one)
    if inspect.iscoroutinefunction(on_warning) or inspect.iscoroutinefunction(call):
        raise TypeError(f"on_warning is called, not awaited: give a function that starts a task, not {on_warning!r}")
    return on_warning


def _refuse_coroutine(answer: object) -> None:
    """Of a lambda, say, which does not tell beforehand what it returns."""
    if inspect.iscoroutine(answer):
        answer.close()
        raise TypeError("on_warning returned a coroutine, which nobody awaits: let it start a task instead")


def _log_passed(warning: BudgetWarning) -> None:
    log_event(
        _log,
        logging.WARNING,
        "budget_threshold",
        "budget %(budget)r has posted %(posted)s of %(limit)s %(unit)s",
        budget=warning.budget,
        unit=warning.unit,
        fraction=warning.fraction,
        limit=plain(Fraction(warning.limit)),
        posted=plain(Fraction(warning.posted)),
        pending=plain(warning.pending),
    )
