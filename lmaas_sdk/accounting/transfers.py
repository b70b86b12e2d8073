"""Two-phase transfers: an amount is reserved before a call is sent, and resolves exactly once."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.quantities import ZERO, Quantities, as_amounts, is_over, quantities
from lmaas_sdk.logs import amount_fields, call_fields, log_event

if TYPE_CHECKING:
    from lmaas_sdk.accounting.book import Account, Book
    from lmaas_sdk.accounting.ledger import Ledger

__all__ = ["Label", "Reservation", "Transfer", "new_id"]

_log = logging.getLogger("lmaas_sdk.accounting")


@dataclass(frozen=True, slots=True)
class Label:
    """What a transfer is for.

    Args:
        purpose: train, dev, test, predict, features or probe.
        endpoint: The scope in which a key means one call, such as "roberta-tiny/score@ACCOUNT".
        key: The idempotency key of the call; empty: it has none.

    Raises:
        ValueError: One is no text, or none that UTF-8 can spell: found here, it harms nobody else's booking.
    """

    purpose: str = ""
    endpoint: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        for name, value in (("purpose", self.purpose), ("endpoint", self.endpoint), ("key", self.key)):
            if not _is_utf8_text(value):
                raise ValueError(f"the {name} of a transfer is a text that UTF-8 can spell, not {value!r:.80}")


def _is_utf8_text(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


class Transfer:
    """What the books know of one reservation; only `Book` changes it.

    Attributes:
        state: "new", "pending", "posted", "void" or "corrected".
    """

    __slots__ = ("account", "amounts", "id", "is_sent", "is_unknown", "label", "posted", "state")

    def __init__(self, account: Account, amounts: Quantities, label: Label, *, id: str | None = None) -> None:  # noqa: A002
        self.id = new_id() if id is None else id
        self.account, self.amounts, self.label = account, amounts, label
        self.state, self.posted = "new", ZERO
        self.is_sent = self.is_unknown = False


def new_id() -> str:
    """32 hexadecimal digits that nobody else makes: the time and 64 random bits.

    In order of time, so that an index over a million of them is written at its end, not on a page of its own for each.
    """
    return f"{time.time_ns():016x}{os.urandom(8).hex()}"


class Reservation:
    """An amount taken from a budget before a call is sent; it resolves exactly once: `post`, `post_unknown` or `void`.

    What resolves it is booked in the order of the calls, and is not waited for: `await ledger.flush()` does that.

    Attributes:
        amounts: What was reserved.

    Raises:
        ValueError: From `post` and `void`, when it is already resolved; from `correct`, when it is not posted. From
            `post` and `correct`, when an amount is negative. From `mark_sent`, when it was sent and not refused since.
        LedgerError: The ledger can no longer be written, or is closed.
    """

    __slots__ = ("_after", "_ledger", "_posted", "_sent", "_state", "_transfer", "_within", "amounts")

    def __init__(
        self,
        ledger: Ledger,
        transfer: Transfer,
        amounts: Amounts,
        *,
        sent: bool = False,
        within: Callable[[], None] | None = None,
        after: Callable[[], None] | None = None,
    ) -> None:
        self.amounts = amounts
        self._ledger, self._transfer = ledger, transfer
        self._within, self._after = within, after  # called with the post that resolves it, and once it is booked
        self._posted, self._state, self._sent = ZERO, "pending", sent

    @classmethod
    def of_unknown(cls, ledger: Ledger, transfer: Transfer) -> Reservation:
        """One that was posted at the worst case before, by any process, and may be corrected."""
        hold = cls(ledger, transfer, as_amounts(transfer.amounts))
        hold._posted, hold._state, hold._sent = transfer.posted, "unknown", True
        return hold

    def __repr__(self) -> str:
        return f"Reservation({self._transfer.account.name!r}, {self.amounts.to_dict()}, {self._state})"

    @property
    def id(self) -> str:
        """What names it in the ledger."""
        return self._transfer.id

    @property
    def label(self) -> Label:
        """What it is for."""
        return self._transfer.label

    @property
    def is_pending(self) -> bool:
        """Whether it is still to be resolved."""
        return self._state == "pending"

    async def mark_sent(self) -> None:
        """Notes that the request goes out now, and returns once that is safely booked.

        A process that dies from then on leaves a reservation that is posted at the worst case, not voided.
        """
        with self._ledger.lock:
            if self._state != "pending" or self._sent:
                raise ValueError(f"{self!r} is {'sent already' if self.is_pending else 'resolved'}: it cannot be sent")
            self._sent = True
        transfer = self._transfer
        await self._ledger.hold(lambda book: book.sent(transfer))

    def refused(self) -> None:
        """The provider provably did no work for it: it waits, reserved, to be sent again."""
        transfer = self._transfer
        with self._ledger.lock:
            if self._state != "pending" or not self._sent:
                raise ValueError(f"{self!r} is not under way, so it cannot have been refused")
            self._sent = False
            self._ledger.tell(lambda book: book.refused(transfer))

    def post(self, actual: Amounts) -> None:
        """Books what was really used and frees the rest. More than was reserved is booked too and closes the budget."""
        row = quantities(actual)
        with self._ledger.lock:
            self._resolve("posted")
            self._posted = row
            self._tell_post(row)
        if self._after is not None:
            self._ledger.afterwards(self._after)

    def post_unknown(self) -> None:
        """Books it in full, because nobody knows what it cost; a later answer under its key may correct that."""
        transfer = self._transfer
        with self._ledger.lock:
            self._resolve("unknown")
            self._posted = transfer.amounts
            self._tell_post(transfer.amounts, unknown=True)
            self._ledger.note_unknown(self)
        log_event(
            _log,
            logging.WARNING,
            "unknown_outcome",
            "nobody knows what became of call %(call)r: it is posted at the worst case",
            **call_fields(transfer.label),
            budget=transfer.account.path,
            transfer=transfer.id,
            **amount_fields(transfer.amounts),
        )
        if self._after is not None:
            self._ledger.afterwards(self._after)

    def void(self) -> None:
        """Frees it all: nothing was sent, or provably nothing was charged."""
        transfer = self._transfer
        with self._ledger.lock:
            self._resolve("void")
            self._ledger.tell(lambda book: book.void(transfer))

    def correct(self, actual: Amounts) -> None:
        """Replaces a posted worst case, once, by what a later answer says was really used.

        The correction may only lower it: what it frees may have been the last of the budget.
        """
        row = quantities(actual)
        with self._ledger.lock:
            if self._state not in ("posted", "unknown") or is_over(row, self._posted):
                raise ValueError(f"{self!r} cannot be corrected to {actual}")
            self._state = "corrected"
            self._ledger.correct(self._transfer, row)
            self._ledger.forget_unknown(self)

    def _tell_post(self, row: Quantities, *, unknown: bool = False) -> None:
        transfer, within = self._transfer, self._within

        def post(book: Book) -> None:
            book.post(transfer, row, unknown=unknown)
            if within is not None:
                within()

        self._ledger.tell(post)

    def _resolve(self, state: str) -> None:
        if self._state != "pending":
            raise ValueError(f"{self!r} is resolved already; it cannot become {state}")
        self._state = state
        self._transfer.account.holds -= 1
