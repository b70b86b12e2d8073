"""A part of a budget that may grow, and whose rest is taken back when nobody needs it any more."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lmaas_sdk.accounting.accounts import Account, Balances
from lmaas_sdk.accounting.book import Book
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.money import usd
from lmaas_sdk.accounting.quantities import NO_LIMITS, ZERO, Limits, Quantities, added, unspent

__all__ = ["Share"]


class Share:
    """What one of several may spend of a budget.

    Every share is an account of its own, whatever others are called, so that one of an earlier process is in no way.

    Args:
        above: What it is a part of.
        limits: Of calls, evaluations, tokens and nano-dollars; None: those above alone limit it.

    Attributes:
        budget: To spend from.
    """

    def __init__(self, above: Budget, limits: Sequence[int | None]) -> None:
        calls, evaluations, tokens, nanousd = limits
        money = None if nanousd is None else usd(nanousd)
        given = Budget(calls=calls, evaluations=evaluations, tokens=tokens, usd=money, warn_at=())
        self.budget = above.child("share", given, unique=True)
        self._account: Account = self.budget.ledger.account_at(self.budget.path)

    async def grow(self, by: Quantities) -> None:
        """Allows so much more, of what is limited."""
        await self._change(lambda now: added(unspent(now.limits, ZERO), by))

    async def close(self) -> Quantities:
        """Allows no more than was spent, and returns what was left."""
        before, after = await self._change(lambda now: added(now.posted, now.pending))
        return unspent(before, unspent(after, ZERO))

    def lift(self) -> None:
        """Has nothing limit it any more but the budgets above; waits for nothing."""

        def lifted(book: Book) -> None:
            book.change_limits(self._account, lambda _: NO_LIMITS)

        self.budget.ledger.tell(lifted)

    async def _change(self, to: Callable[[Balances], Quantities]) -> tuple[Limits, Limits]:
        """Other limits, made of what it stands at, where there are any; returns the old and the new ones."""
        account = self._account

        def changed(book: Book) -> tuple[Limits, Limits]:
            return book.change_limits(account, lambda limits: _where_limited(limits, to(account.now)))

        return await self.budget.ledger.hold(changed)


def _where_limited(limits: Limits, row: Quantities) -> Limits:
    calls, evaluations, tokens, nanousd = limits
    return (
        None if calls is None else row[0],
        None if evaluations is None else row[1],
        None if tokens is None else row[2],
        None if nanousd is None else row[3],
    )
