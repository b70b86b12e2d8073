"""The bill of one call: a reservation for every attempt, each resolved exactly once."""

from __future__ import annotations

from collections.abc import Callable

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Reservation
from lmaas_sdk.accounting.purse import Purse
from lmaas_sdk.accounting.spend import Purpose, Spend
from lmaas_sdk.accounting.transfers import Label

__all__ = ["BARE_CALL", "Bill"]

BARE_CALL = Amounts(calls=1)


class Bill:
    """What the attempts of one call cost.

    Where a key bills once, all attempts of a call together, those of an earlier process too, cost one bill and a call
    each. So the first attempt that is lost is posted at the worst case, and those after it reserve no more than a call,
    for which that one pays: the one answer that puts it right has the bill, and any other under the key is a bare call.

    Args:
        purse: What pays.
        spend: Where it is noted by purpose.
        label: What for; its key names the call.
        worst: The most that one attempt may cost.
        bills_once: Whether the provider bills a key once.
        hold: A reservation made beforehand for the first attempt.
        again: Whether the call was sent before and failed.
        is_settled: Whether an earlier process has booked the whole bill, so that all attempts are bare calls.
        on_sent: Called whenever an attempt goes out.
    """

    def __init__(  # noqa: PLR0913  (made in one place, by the client)
        self,
        purse: Purse,
        spend: Spend,
        label: Label,
        *,
        worst: Amounts,
        bills_once: bool,
        hold: Reservation | None = None,
        again: bool = False,
        is_settled: bool = False,
        on_sent: Callable[[], None] | None = None,
    ) -> None:
        self._purse, self._spend, self._label = purse, spend, label
        self._worst, self._bills_once = worst, bills_once
        self._hold = hold if hold is not None and hold.is_pending else None
        self._sent = False
        self._again, self._on_sent = again, on_sent
        self._is_settled, self._is_paid_by_lost = is_settled, False

    @property
    def purpose(self) -> Purpose:
        """What the call is for."""
        return self._label.purpose  # type: ignore[return-value]  # a label of another kind is never a call's

    @property
    def was_sent(self) -> bool:
        """Whether the attempt that is open may have reached the provider."""
        return self._sent

    async def open(self, *, at_once: bool = False) -> None:
        """Makes sure that the next attempt is paid for, and that the budget has not ended since it was.

        Args:
            at_once: Nothing is waited for before it is marked as sent: it is reserved then, in the same step.

        Raises:
            BudgetExceeded: It is not; nothing was reserved.
        """
        self._purse.budget.check_open()
        if self._hold is None and not at_once:
            self._hold = await self._reserved(sent=False)

    async def mark_sent(self) -> None:
        """Notes, durably, that the attempt goes out now.

        Raises:
            BudgetExceeded: It was opened to go out at once, and is not paid for; nothing was reserved.
        """
        if self._hold is None:
            self._hold = await self._reserved(sent=True)
        else:
            await self._hold.mark_sent()
        self._sent = True
        if self._on_sent is not None:
            self._on_sent()

    async def _reserved(self, *, sent: bool) -> Reservation:
        self._is_paid_by_lost = bool(self._lost())
        worst = BARE_CALL if self._is_settled or self._is_paid_by_lost else self._worst
        (hold,) = await self._purse.hold_all([worst], [self._label], again=self._again, sent=sent)
        return hold

    def refused(self) -> None:
        """The provider provably did not take the attempt: its reservation is there for the next one."""
        self._open_hold.refused()
        self._sent = False

    def post(self, actual: Amounts) -> None:
        """Books an attempt whose cost is known."""
        self._taken().post(actual)
        self._spend.add(self.purpose, actual, self._label.key)

    def post_unknown(self) -> None:
        """Books an attempt that may have been charged, at the worst case."""
        hold = self._taken()
        hold.post_unknown()
        self._spend.add_unknown(hold.id, self.purpose, hold.amounts, self._label.key)
        self._again = True

    def settle(self, actual: Amounts) -> None:
        """Books the attempt that was answered and, where a key bills once, puts right those that were lost before."""
        lost = self._lost()
        if self._is_settled:
            for one in lost:
                self._correct(one, BARE_CALL.at_most(one.amounts))
            self.post(BARE_CALL)
            return
        if not lost:
            was_put_right = self._is_paid_by_lost and not actual.is_over(self._worst)
            self.post(BARE_CALL if was_put_right else actual)
            return
        first, *others = sorted(lost, key=lambda one: one.amounts.tokens, reverse=True)
        within = not actual.is_over(first.amounts)  # more than the worst case cannot be put in its place
        self._correct(first, actual if within else BARE_CALL)
        for other in others:
            self._correct(other, BARE_CALL.at_most(other.amounts))
        self.post(BARE_CALL if within else actual)

    def close(self) -> None:
        """Frees what no attempt used."""
        if self._hold is not None:
            self._taken().void()

    def _correct(self, lost: Reservation, actual: Amounts) -> None:
        lost.correct(actual)
        self._spend.correct(lost.id, actual)

    def _lost(self) -> list[Reservation]:
        """Attempts under this key that nobody knows the cost of, where another one can tell it."""
        return self._purse.budget.ledger.unknown(self._label.endpoint, self._label.key) if self._bills_once else []

    @property
    def _open_hold(self) -> Reservation:
        if self._hold is None:
            raise RuntimeError("an attempt was booked that had no reservation")
        return self._hold

    def _taken(self) -> Reservation:
        hold, self._hold, self._sent = self._open_hold, None, False
        return hold
