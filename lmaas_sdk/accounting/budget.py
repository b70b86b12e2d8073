"""Budgets that concurrency cannot overrun: everything is reserved before it is sent.

A reservation takes the worst case of a call from a budget and from every budget above it, in one step or not at all,
and resolves exactly once: `post` what was really used, or `void`. At every instant

    posted + pending + free = limit        and        posted + pending <= limit.

The one exception is a bill above the reservation: it is the provider's breach, it is booked in full, and it closes the
budget, all above it and all below those (`overrun`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from fractions import Fraction

from lmaas_sdk.accounting.amounts import UNITS, Amounts
from lmaas_sdk.accounting.money import nanousd
from lmaas_sdk.accounting.wall_time import WallTime
from lmaas_sdk.errors import BudgetExceeded

__all__ = ["Budget", "Reservation"]

_NOTHING = Amounts()


class Budget:
    """Limits on calls, evaluations, tokens, money and wall time; None is no limit.

    Safe under any number of concurrent tasks and threads.

    Args:
        calls: Most attempts that may reach the backend.
        evaluations: Most candidates scored over the training set.
        tokens: Most billed tokens.
        usd: Most money, in dollars: a string, int or Decimal.
        wall_s: Most seconds of runs: it counts between `start()` and `stop()`, which a tuner calls, and binds only
            there.
        name: Used in messages.
        clock: Seconds that only move forward; a virtual clock in simulations.

    Raises:
        ValueError: A limit is negative.
        TypeError: A limit has the wrong type (money as a float, say).
    """

    def __init__(
        self,
        *,
        calls: int | None = None,
        evaluations: int | None = None,
        tokens: int | None = None,
        usd: str | int | Decimal | None = None,
        wall_s: float | None = None,
        name: str = "budget",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._limits: dict[str, int | Fraction | None] = {
            "calls": _checked_count("calls", calls),
            "evaluations": _checked_count("evaluations", evaluations),
            "tokens": _checked_count("tokens", tokens),
            "nanousd": None if usd is None else nanousd(usd),
        }
        self._wall = WallTime(wall_s, clock)
        self._clock = clock
        self._posted = self._pending = _NOTHING
        self._overrun = False
        self._parent: Budget | None = None
        self._aside: Amounts | None = None  # taken out of the parent beforehand, so the parent pays for nothing more
        self._released = False
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        limits = {unit: limit for unit, limit in self.limits.items() if limit is not None}
        return f"Budget({self.name!r}, limits={limits}, posted={self._posted.to_dict()})"

    @property
    def limits(self) -> dict[str, int | float | Fraction | None]:
        """The limit of every unit, `wall_s` included; None is no limit."""
        return {**self._limits, "wall_s": self._wall.limit_s}

    @property
    def posted(self) -> Amounts:
        """What is spent."""
        return self._posted

    @property
    def pending(self) -> Amounts:
        """What is reserved and not yet resolved."""
        return self._pending

    @property
    def overrun(self) -> bool:
        """Whether a bill above its reservation has closed this budget."""
        return self._overrun

    def free(self, unit: str) -> int | Fraction | None:
        """What is left of one unit here, budgets above not counted; None: no limit."""
        with self._lock:  # between the two reads another thread could post what was pending
            limit = self._limits[unit]
            if limit is None:
                return None
            left: int | Fraction = limit - getattr(self._posted, unit) - getattr(self._pending, unit)
            return left

    def least_free(self, unit: str) -> int | Fraction | None:
        """What is left of one unit, here and in every budget that pays with it; None: no limit."""
        with self._lock:
            left = [budget.free(unit) for budget in self._paying()]
        return min((amount for amount in left if amount is not None), default=None)

    def start(self) -> None:
        """A run begins here and in every budget above: the wall clock goes on while at least one is on."""
        with self._lock:
            for budget in self.line():
                budget._wall.start()

    def stop(self) -> None:
        """A run ends.

        Raises:
            ValueError: No run is on.
        """
        with self._lock:
            if not self._wall.is_on:
                raise ValueError(f"no run of budget {self.name!r} is on: call start() before stop()")
            for budget in self.line():
                budget._wall.stop()

    def remaining_s(self) -> float | None:
        """Seconds a run may still take, here and in every budget above; None: no limit, or no run is on."""
        with self._lock:
            left = [budget._wall.left_s for budget in self.line()]
        return min((seconds for seconds in left if seconds is not None), default=None)

    def child(self, name: str, limits: Budget | None = None) -> Budget:
        """A budget under this one: what it reserves is reserved here too, in the same step.

        Args:
            name: Used in messages.
            limits: A budget whose limits the child takes as well; None: only those above bind.
        """
        child = Budget(name=name, clock=self._clock)
        if limits is not None:
            child._limits, child._wall = dict(limits._limits), WallTime(limits._wall.limit_s, self._clock)
        child._parent, child._lock = self, self._lock
        return child

    def set_aside(self, name: str, amounts: Amounts) -> Budget:
        """A child with `amounts` taken out of this budget now, so that nothing else can spend them.

        `release` gives back what it did not spend.

        Raises:
            BudgetExceeded: They are not free.
            ValueError: An amount is negative.
        """
        _check_not_negative(amounts)
        with self._lock:
            self.check(amounts)
            self._move(pending=amounts)
            child = self.child(name)
            child._limits = {unit: getattr(amounts, unit) for unit in UNITS}
            child._aside = amounts
        return child

    def release(self) -> None:
        """Ends a budget that was set aside and gives the rest back to its parent; later calls change nothing.

        Raises:
            ValueError: Reservations in it are still pending.
        """
        with self._lock:
            if self._aside is None or self._parent is None:
                return
            if self._pending != _NOTHING:
                raise ValueError(f"budget {self.name!r} still has {self._pending} pending: resolve it before release")
            self._parent._move(pending=_NOTHING - self._unspent())
            self._aside, self._released = None, True
            self._limits = {unit: getattr(self._posted, unit) for unit in UNITS}

    def reserve(self, amounts: Amounts) -> Reservation:
        """Takes `amounts` from here and every budget above, or nothing at all.

        Raises:
            BudgetExceeded: They do not fit; it says into which budget and for which limit.
            ValueError: An amount is negative.
        """
        return self.reserve_all([amounts])[0]

    def reserve_all(self, requests: Sequence[Amounts]) -> list[Reservation]:
        """Reserves every request, or none of them, in one step.

        Raises:
            BudgetExceeded: Their sum does not fit.
            ValueError: An amount is negative.
        """
        for request in requests:
            _check_not_negative(request)
        total = sum(requests, _NOTHING)
        with self._lock:
            self.check(total)
            self._move(pending=total)
        return [Reservation(self, request) for request in requests]

    def check(self, amounts: Amounts) -> None:
        """Raises what `reserve(amounts)` would raise, and takes nothing.

        Raises:
            BudgetExceeded: They do not fit.
        """
        with self._lock:
            self.check_open()
            for budget in self._paying():
                budget._check_here(amounts)

    def check_open(self, wait_s: float = 0.0) -> None:
        """Whether an attempt that is paid for may still go out, `wait_s` seconds from now.

        Raises:
            BudgetExceeded: The wall time is over by then, or an overrun or `release` closed a budget, here or above.
        """
        with self._lock:
            for budget in self.line():
                budget._check_wall(wait_s)
                budget._check_closed()

    def _check_here(self, amounts: Amounts) -> None:
        for unit in UNITS:
            free, asked = self.free(unit), getattr(amounts, unit)
            if free is not None and asked > free:
                raise self._exceeded(unit, limit=self._limits[unit], asked=asked)

    def _check_closed(self) -> None:
        if self._overrun:
            raise self._exceeded("calls", limit=None, asked="any", why="a bill above its reservation closed it")
        if self._released:
            raise self._exceeded("calls", limit=None, asked="any", why="it was released")

    def _exceeded(self, unit: str, *, limit: object, asked: object, why: str = "") -> BudgetExceeded:
        posted, pending = getattr(self._posted, unit), getattr(self._pending, unit)
        return BudgetExceeded(self.name, unit, limit=limit, posted=posted, pending=pending, asked=asked, why=why)

    def _check_wall(self, wait_s: float) -> None:
        left_s = self._wall.left_s
        if left_s is not None and left_s <= wait_s:
            limit, used, asked = self._wall.limit_s, self._wall.used_s, wait_s or "any"
            raise BudgetExceeded(self.name, "wall_s", limit=limit, posted=used, pending=0, asked=asked)

    def line(self) -> Iterator[Budget]:
        """This budget and all above it."""
        budget: Budget | None = self
        while budget is not None:
            yield budget
            budget = budget._parent

    def _paying(self) -> Iterator[Budget]:
        """The budgets a reservation is taken from: up to one set aside, which those above have paid already."""
        for budget in self.line():
            yield budget
            if budget._aside is not None:
                return

    def _move(self, *, pending: Amounts = _NOTHING, posted: Amounts = _NOTHING) -> None:
        """Adds to pending and posted, here and above, in one step; amounts may be negative."""
        with self._lock:
            for budget in self._paying():
                before = budget._unspent()
                budget._pending += pending
                budget._posted += posted
                if budget._aside is not None and budget._parent is not None:
                    budget._parent._move(pending=budget._unspent() - before, posted=posted)

    def _unspent(self) -> Amounts:
        """What the parent still has pending for an amount set aside here; an overrun leaves nothing, never a debt."""
        if self._aside is None:
            return _NOTHING
        return self._aside - self._posted.at_most(self._aside)

    def _close(self) -> None:
        for budget in self.line():
            budget._overrun = True


class Reservation:
    """An amount taken from a budget before a call is sent; it resolves exactly once.

    Raises:
        ValueError: From `post` and `void`, when it is already resolved; from `correct`, when it is not posted. From
            `post` and `correct`, when an amount is negative.
    """

    __slots__ = ("_budget", "_posted", "_state", "amounts")

    def __init__(self, budget: Budget, amounts: Amounts) -> None:
        self.amounts = amounts
        self._budget = budget
        self._posted = _NOTHING
        self._state = "pending"

    def __repr__(self) -> str:
        return f"Reservation({self._budget.name!r}, {self.amounts.to_dict()}, {self._state})"

    @property
    def is_pending(self) -> bool:
        """Whether it is still to be resolved."""
        return self._state == "pending"

    def post(self, actual: Amounts) -> None:
        """Books what was really used and frees the rest. More than was reserved is booked too and closes the budget."""
        _check_not_negative(actual)
        with self._budget._lock:
            self._resolve("posted")
            self._posted = actual
            self._budget._move(pending=_NOTHING - self.amounts, posted=actual)
            if (self.amounts - actual).is_negative:
                self._budget._close()

    def void(self) -> None:
        """Frees it all: nothing was sent, or provably nothing was charged."""
        with self._budget._lock:
            self._resolve("void")
            self._budget._move(pending=_NOTHING - self.amounts)

    def correct(self, actual: Amounts) -> None:
        """Replaces a posted worst case by what a later answer says was really used.

        The correction may only lower it: what it frees may have been the last of the budget.
        """
        _check_not_negative(actual)
        with self._budget._lock:
            if self._state != "posted" or (self._posted - actual).is_negative:
                raise ValueError(f"{self!r} cannot be corrected to {actual}")
            self._budget._move(posted=actual - self._posted)
            self._posted = actual

    def _resolve(self, state: str) -> None:
        if self._state != "pending":
            raise ValueError(f"{self!r} is resolved already; it cannot become {state}")
        self._state = state


def _checked_count(name: str, limit: int | None) -> int | None:
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(f"{name} is a whole number or None, not {limit!r}")
    if limit < 0:
        raise ValueError(f"{name} is at least 0, not {limit}")
    return limit


def _check_not_negative(amounts: Amounts) -> None:
    if amounts.is_negative:
        raise ValueError(f"an amount to reserve, set aside or post is not negative: {amounts}")
