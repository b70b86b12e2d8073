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
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from fractions import Fraction

from lmaas_sdk.accounting.amounts import UNITS, Amounts
from lmaas_sdk.accounting.book import Account, Balances, Book
from lmaas_sdk.accounting.ledger import Ledger, MemoryLedger, Opened, Work
from lmaas_sdk.accounting.limits import checked_limits, checked_name, limits_of
from lmaas_sdk.accounting.quantities import NO_LIMITS, Limits, Quantities, as_amounts, quantities
from lmaas_sdk.accounting.thresholds import BudgetWarning, OnWarning, Thresholds
from lmaas_sdk.accounting.transfers import Label, Reservation, Transfer
from lmaas_sdk.accounting.wall_time import WallTime
from lmaas_sdk.errors import BudgetExceeded
from lmaas_sdk.outside import outside

__all__ = ["Budget", "BudgetWarning", "Reservation"]

_NO_LABEL = Label()


class Budget:
    """Limits on calls, evaluations, tokens, money and wall time; None is no limit.

    Safe under any number of concurrent tasks and threads and, on a ledger file, processes. There, what it shows
    (`posted`, `pending`, `free`) is what the last transaction of this process knew, and what it grants is always right.

    Args:
        calls: Most attempts that may reach the backend.
        evaluations: Most candidates scored over the training set; a `Fraction` is exact to a part of one.
        tokens: Most billed tokens.
        usd: Most money, in dollars: a string, int or Decimal.
        wall_s: Most seconds of runs: it counts between `start()` and `stop()`, which a tuner calls, and binds only
            there. Each process counts its own.
        name: Used in messages, and what the budget is called in the ledger.
        clock: Seconds that only move forward; a virtual clock in simulations.
        ledger: Where it is booked; a budget of the same name and limits that is there goes on. None: in memory.
        warn_at: Parts of a limit at which `on_warning` is called, once each.
        on_warning: Called when what is posted passes such a part or, of `wall_s`, at the next reservation or attempt
            after that; a plain function, which may start a task. None: a warning is logged.

    Raises:
        ValueError: A limit is negative, the name is empty or holds a "/", or a part is not above 0 and at most 1.
        TypeError: A limit has the wrong type (money as a float, say), or `on_warning` is a coroutine function.
        LedgerConflict: The ledger knows it with other limits. On the thread of a running event loop, where nothing may
            wait, the first reservation may be the one that raises this.
    """

    def __init__(  # noqa: PLR0913  (one a limit; all by name)
        self,
        *,
        calls: int | None = None,
        evaluations: int | Fraction | None = None,
        tokens: int | None = None,
        usd: str | int | Decimal | None = None,
        wall_s: float | None = None,
        name: str = "budget",
        clock: Callable[[], float] = time.monotonic,
        ledger: Ledger | None = None,
        warn_at: Iterable[float] = (0.5, 0.9),
        on_warning: OnWarning | None = None,
    ) -> None:
        self.name = checked_name(name)
        limits = checked_limits(calls, evaluations, tokens, usd)
        self._wall, self._clock = WallTime(wall_s, clock), clock
        self._thresholds = Thresholds(warn_at, on_warning)
        self._parent: Budget | None = None
        self._children: dict[str, Budget] = {}
        self._wall_lock = threading.RLock()
        self.ledger = MemoryLedger() if ledger is None else ledger
        self._opened = Opened(self.ledger.account(name, None, limits=limits))
        self.ledger.open_account(self._opened, None, limits)
        self._line: tuple[Budget, ...] = (self,)
        self._timed = tuple(budget for budget in self._line if budget._wall.limit_s is not None)
        self._set_watches()

    @classmethod
    def _under(cls, parent: Budget, name: str, opened: Opened, like: Budget | None) -> Budget:
        child = cls.__new__(cls)
        child.name, child._parent, child._opened = name, parent, opened
        child._clock, child._wall_lock, child.ledger = parent._clock, parent._wall_lock, parent.ledger
        child._wall = WallTime(None if like is None else like._wall.limit_s, parent._clock)
        child._thresholds = Thresholds((), None) if like is None else like._thresholds.again()
        child._children = {}
        child._line = (child, *parent._line)
        child._timed = tuple(budget for budget in child._line if budget._wall.limit_s is not None)
        child._set_watches()
        return child

    def __repr__(self) -> str:
        limits = {unit: limit for unit, limit in self.limits.items() if limit is not None}
        return f"Budget({self.name!r}, limits={limits}, posted={self.posted.to_dict()})"

    @property
    def path(self) -> str:
        """Its name below the names of all above it, as the ledger has it: "team/run"."""
        return self._opened.account.path

    @property
    def limits(self) -> dict[str, int | float | Fraction | None]:
        """The limit of every unit, `wall_s` included; None is no limit."""
        return {**dict(zip(UNITS, self._balances.limits, strict=True)), "wall_s": self._wall.limit_s}

    @property
    def posted(self) -> Amounts:
        """What is spent."""
        return as_amounts(self._balances.posted)

    @property
    def pending(self) -> Amounts:
        """What is reserved and not yet resolved."""
        return as_amounts(self._balances.pending)

    @property
    def overrun(self) -> bool:
        """Whether a bill above its reservation has closed this budget."""
        return self._balances.overrun

    def free(self, unit: str) -> int | Fraction | None:
        """What is left of one unit here, budgets above not counted; None: no limit."""
        balances, at = self._balances, UNITS.index(unit)
        limit = balances.limits[at]
        return None if limit is None else limit - balances.posted[at] - balances.pending[at]

    def least_free(self, unit: str) -> int | Fraction | None:
        """What is left of one unit, here and in every budget that pays with it; None: no limit."""
        left = [budget.free(unit) for budget in self._paying()]
        return min((amount for amount in left if amount is not None), default=None)

    def start(self) -> None:
        """A run begins here and in every budget above: the wall clock goes on while at least one is on."""
        with self._wall_lock:
            for budget in self._line:
                budget._wall.start()

    def stop(self) -> None:
        """A run ends.

        Raises:
            ValueError: No run is on.
        """
        with self._wall_lock:
            if not self._wall.is_on:
                raise ValueError(f"no run of budget {self.name!r} is on: call start() before stop()")
            for budget in self._line:
                budget._wall.stop()

    def remaining_s(self) -> float | None:
        """Seconds a run may still take, here and in every budget above; None: no limit, or no run is on."""
        if not self._timed:
            return None
        with self._wall_lock:
            left = [budget._wall.left_s for budget in self._timed]
        return min((seconds for seconds in left if seconds is not None), default=None)

    def child(self, name: str, limits: Budget | None = None, *, unique: bool = False) -> Budget:
        """A budget under this one: what it reserves is reserved here too, in the same step.

        Asked for by the same name again it is the same budget, in another process too where the ledger is a file.

        Args:
            name: Used in messages, and what the budget is called in the ledger.
            limits: A budget whose limits and warnings the child takes as well; None: only those above bind.
            unique: A budget of its own, whatever others are called: its path ends in "#" and eight random digits.

        Raises:
            LedgerConflict: It is there with other limits; as for a budget without a parent.
            ValueError: The name is empty or holds a "/".
        """
        row = _limits_or_none(limits)
        name_in_path = _unique(checked_name(name)) if unique else checked_name(name)
        opened = Opened(self.ledger.account(name_in_path, self._opened.account, limits=row))
        self.ledger.open_account(opened, self._opened, row)
        known = self._children.get(name_in_path)
        if known is not None and known._wall.limit_s == (None if limits is None else limits._wall.limit_s):
            return known
        child = Budget._under(self, name, opened, limits)
        if not unique:
            self._children[name] = child
        return child

    def set_aside(self, name: str, amounts: Amounts) -> Budget:
        """A child with `amounts` taken out of this budget now, so that nothing else can spend them.

        `release` gives back what it did not spend. On a ledger file the thread waits: an event loop uses `hold_aside`.

        Raises:
            BudgetExceeded: They are not free.
            ValueError: An amount is negative, the name is empty or holds a "/".
        """
        ledger, row = self._checked_aside(name, amounts)
        with ledger.new_aside(_unique(name), self._opened.account, row) as aside:
            ledger.run(self._setting_aside(aside, row), lambda book: book.release(aside))
        return Budget._under(self, name, Opened(aside), None)

    async def hold_aside(self, name: str, amounts: Amounts) -> Budget:
        """As `set_aside`; only the task waits."""
        ledger, row = self._checked_aside(name, amounts)
        with ledger.new_aside(_unique(name), self._opened.account, row) as aside:
            await ledger.hold(self._setting_aside(aside, row), lambda book: book.release(aside))
        return Budget._under(self, name, Opened(aside), None)

    def release(self) -> None:
        """Ends a budget that was set aside and gives the rest back to its parent; later calls change nothing.

        Raises:
            ValueError: Reservations in it are still pending, or budgets set aside from it are not released.
        """
        self.ledger.release(self._opened.account)

    async def ready(self) -> None:
        """Returns once the ledger has it, so that what it shows is what is there.

        Raises:
            LedgerConflict: The ledger knows it, or one above it, with other limits.
        """
        await self.ledger.flush()
        for budget in self._line:
            budget._opened.check()

    def reserve(self, amounts: Amounts, label: Label = _NO_LABEL) -> Reservation:
        """Takes `amounts` from here and every budget above, or nothing at all.

        On a ledger file the thread waits for the transaction: use `hold_all` on an event loop.

        Raises:
            BudgetExceeded: They do not fit; it says into which budget and for which limit.
            LedgerConflict: The ledger knows this budget with other limits.
            ValueError: An amount is negative.
        """
        return self.reserve_all([amounts], [label])[0]

    def reserve_all(self, requests: Sequence[Amounts], labels: Sequence[Label] | None = None) -> list[Reservation]:
        """Reserves every request, or none of them, in one step.

        Args:
            requests: The worst case of each.
            labels: What each is for, for the ledger.

        Raises:
            BudgetExceeded: Their sum does not fit.
            LedgerConflict: The ledger knows this budget with other limits.
            ValueError: An amount is negative, or there is not one label a request.
        """
        self._check_wall(0.0)
        transfers = self._transfers(requests, labels)
        try:
            self.ledger.run(self._taking(transfers), lambda book: _void_all(book, transfers))
        except BaseException:
            self.ledger.count_held(self._opened.account, -len(transfers))
            raise
        return self._reservations(transfers, requests, sent=False)

    async def hold_all(
        self, requests: Sequence[Amounts], labels: Sequence[Label] | None = None, *, sent: bool = False
    ) -> list[Reservation]:
        """As `reserve_all`; only the task waits. Cancelled, it leaves nothing reserved.

        Args:
            requests, labels: As of `reserve_all`.
            sent: Whether all of them go out at once, so that they are marked as sent in the same step.
        """
        self._check_wall(0.0)
        transfers = self._transfers(requests, labels)
        try:
            await self.ledger.hold(self._taking(transfers, sent=sent), lambda book: _void_all(book, transfers))
        except BaseException:
            self.ledger.count_held(self._opened.account, -len(transfers))
            raise
        return self._reservations(transfers, requests, sent=sent)

    def check(self, amounts: Amounts) -> None:
        """Raises what `reserve(amounts)` would raise, as far as this process knows, and takes nothing.

        Raises:
            BudgetExceeded: They do not fit.
        """
        self.check_open()
        row = quantities(amounts)
        for budget in self._paying():
            budget._balances.check(budget.name, row)

    def check_open(self, wait_s: float = 0.0) -> None:
        """Whether an attempt that is paid for may still go out, `wait_s` seconds from now.

        Raises:
            BudgetExceeded: The wall time is over by then, or an overrun or `release` closed a budget, here or above.
        """
        self._check_wall(wait_s)
        for budget in self._line:
            balances = budget._balances
            if balances.overrun or balances.released:
                balances.check_open(budget.name)

    def line(self) -> Iterator[Budget]:
        """This budget and all above it."""
        return iter(self._line)

    @property
    def _balances(self) -> Balances:
        return self.ledger.balances(self._opened.account)

    def _paying(self) -> Iterator[Budget]:
        """The budgets a reservation is taken from: up to one set aside, which those above have paid already."""
        for budget in self._line:
            yield budget
            if budget._opened.account.is_aside and not budget._balances.released:
                return

    def _check_wall(self, wait_s: float) -> None:
        for budget in self._timed:
            with self._wall_lock:
                limit_s, left_s, used_s = budget._wall.limit_s, budget._wall.left_s, budget._wall.used_s
            if limit_s is None or left_s is None:
                continue
            budget._thresholds.tell_time(budget.path, limit_s=limit_s, used_s=used_s)
            if left_s <= wait_s:
                asked = wait_s or "any"
                raise BudgetExceeded(budget.name, "wall_s", limit=limit_s, posted=used_s, pending=0, asked=asked)

    def _transfers(self, requests: Sequence[Amounts], labels: Sequence[Label] | None) -> list[Transfer]:
        if labels is not None and len(labels) != len(requests):
            raise ValueError(f"{len(requests)} requests have {len(labels)} labels: give one a request")
        account = self._opened.account
        transfers = [
            Transfer(account, quantities(request), label)
            for request, label in zip(requests, labels or [_NO_LABEL] * len(requests), strict=True)
        ]
        self.ledger.count_held(account, len(transfers))
        return transfers

    def _reservations(self, transfers: list[Transfer], requests: Sequence[Amounts], *, sent: bool) -> list[Reservation]:
        within = self._log_passed if self._logging else None
        after = self._warn if self._warns else None
        return [
            Reservation(self.ledger, transfer, request, sent=sent, within=within, after=after)
            for transfer, request in zip(transfers, requests, strict=True)
        ]

    def _set_watches(self) -> None:
        self._warns = any(budget._thresholds.on_warning is not None for budget in self._line)
        line = [(budget._thresholds, budget._opened.account) for budget in self._line]
        self._logging = tuple((thresholds, account) for thresholds, account in line if thresholds.are_logged)

    def _log_passed(self) -> None:
        for thresholds, account in self._logging:
            if thresholds.may_pass(account.now):
                thresholds.log(account.path, account.now)

    def _warn(self) -> None:
        for budget in self._line:
            budget._thresholds.tell(budget.path, budget._balances)

    def _checked_aside(self, name: str, amounts: Amounts) -> tuple[Ledger, Quantities]:
        checked_name(name)
        row = quantities(amounts)
        self._check_wall(0.0)
        return self.ledger, row

    def _taking(self, transfers: Sequence[Transfer], *, sent: bool = False) -> Work[None]:
        opened, ledger = self._opened, self.ledger

        def take(book: Book) -> None:
            ledger.grant(book, opened, lambda book: book.reserve(opened.account, transfers))
            for transfer in transfers if sent else ():
                book.sent(transfer)

        return take

    def _setting_aside(self, aside: Account, row: Quantities) -> Work[None]:
        opened, ledger = self._opened, self.ledger
        return lambda book: ledger.grant(book, opened, lambda book: book.set_aside(aside, row))


def _void_all(book: Book, transfers: Sequence[Transfer]) -> None:
    for transfer in transfers:
        book.void(transfer)


def _unique(name: str) -> str:
    return f"{name}#{outside().new_id()[:8]}"


def _limits_or_none(limits: Budget | None) -> Limits:
    return NO_LIMITS if limits is None else limits_of(limits)
