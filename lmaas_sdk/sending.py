"""One call on its way through the client: what its sender says of it, whether it was sent, and how it is booked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from lmaas_sdk.accounting.bill import BARE_CALL, Bill
from lmaas_sdk.accounting.budget import Reservation
from lmaas_sdk.backend import FeatureReply, ScoreReply
from lmaas_sdk.calls import Call
from lmaas_sdk.errors import (
    AuthenticationFailed,
    BackendUnavailable,
    InvalidQuery,
    PaymentRequired,
    RateLimited,
    ServerUntrusted,
    TaskError,
    UnknownDataset,
    Unsupported,
)
from lmaas_sdk.traffic.gate import Permit

__all__ = ["Order", "Sending", "resolve", "within"]

_Reply = ScoreReply | FeatureReply
_REFUSED = (AuthenticationFailed, InvalidQuery, PaymentRequired, TaskError, UnknownDataset, Unsupported)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """A call with all that its sender says of it; see `Client.score`."""

    call: Call
    hold: Reservation | None = None
    again: bool = False
    on_sent: Callable[[], None] | None = None


class Sending:
    """A call that is sent if nobody has its answer.

    Attributes:
        is_begun: Whether it was sent; then it resolves its reservation by itself.
    """

    __slots__ = ("_order", "_send", "is_begun")

    def __init__(self, send: Callable[[Order], Awaitable[_Reply]], order: Order) -> None:
        self._send, self._order = send, order
        self.is_begun = False

    def begin(self) -> Awaitable[_Reply]:
        """Sends it; what comes back has to be awaited at once."""
        self.is_begun = True
        return self._send(self._order)


def within(limit_s: float | None, awaited: Awaitable[_T]) -> Awaitable[_T]:
    """The same with a deadline, if there is one: most calls have none, and then nothing is put around them."""
    return awaited if limit_s is None else _timed(limit_s, awaited)


async def _timed(limit_s: float, awaited: Awaitable[_T]) -> _T:
    async with asyncio.timeout(limit_s):
        return await awaited


def resolve(permit: Permit, bill: Bill, error: BaseException) -> None:
    """Books an attempt that failed, by what its error says of the provider."""
    if not bill.was_sent:
        permit.give_back()
    elif isinstance(error, RateLimited):
        permit.refused()
        bill.refused()  # the reservation stays for the next attempt; close() voids it if there is none
    elif isinstance(error, (BackendUnavailable, ServerUntrusted)):
        permit.give_back()
        bill.refused()
    elif isinstance(error, _REFUSED):
        permit.settle(0)
        bill.post(BARE_CALL)
    else:
        permit.settle(None)
        bill.post_unknown()
