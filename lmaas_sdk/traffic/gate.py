"""The way out to one endpoint: one request after the other asks for its quota and its place, first come first served.

Only the first in line asks; nobody is overtaken, so a large request is not starved by small ones behind it.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import uuid
from collections.abc import Awaitable, Callable

from lmaas_sdk.backend import Limits
from lmaas_sdk.errors import QuotaExceeded
from lmaas_sdk.traffic.concurrency import AdaptiveConcurrency
from lmaas_sdk.traffic.quota import QuotaBook, check_ever_fits

__all__ = ["Gate", "Permit"]

_tickets = itertools.count()
_PROCESS = uuid.uuid4().hex[:12]


class Gate:
    """Lets requests of one scope through.

    Args:
        book: Counts what the provider's quota has left.
        concurrency: How many may be under way at once, as the provider's answers teach it.
    """

    def __init__(self, book: QuotaBook, concurrency: AdaptiveConcurrency) -> None:
        self._book, self._concurrency = book, concurrency
        self._line = asyncio.Lock()  # asyncio's locks are given in the order in which they were asked for
        self._changed = asyncio.Event()

    async def enter(
        self,
        tokens: int,
        limits: Limits,
        *,
        patience_s: float | None = None,
        before_wait: Callable[[float], None] | None = None,
    ) -> Permit:
        """Waits for its turn, its quota and its place.

        Args:
            tokens: The most that the request may take.
            limits: The quota that holds for it.
            patience_s: Most seconds to wait for the quota; None: as long as it takes.
            before_wait: Called before a wait for the quota with its seconds; what it raises ends the wait.

        Raises:
            QuotaExceeded: The wait would take longer than that, or for ever; at once, and nothing was taken.
        """
        check_ever_fits(tokens, limits)
        if limits.concurrency is not None:
            self._concurrency.allow(limits.concurrency)
        ticket = f"{_PROCESS}-{next(_tickets)}"
        async with self._line:
            try:
                await self._admitted(
                    lambda: self._book.take(ticket, tokens, limits), patience_s=patience_s, before_wait=before_wait
                )
            except BaseException:
                self._book.refund(ticket)
                raise
        return Permit(self, ticket, tokens)

    async def _admitted(
        self,
        take: Callable[[], Awaitable[float]],
        *,
        patience_s: float | None,
        before_wait: Callable[[float], None] | None,
    ) -> None:
        clock = asyncio.get_running_loop().time
        until_s = math.inf if patience_s is None else clock() + patience_s
        told = False
        while True:
            self._changed.clear()
            if not self._concurrency.has_room:
                await self._changed.wait()
                continue
            wait_s = await take()
            if wait_s <= 0:
                self._concurrency.enter()
                return
            if clock() + wait_s > until_s and not math.isinf(wait_s):
                raise _too_long(wait_s, patience_s)
            if before_wait is not None and not told and not math.isinf(wait_s):
                told = True
                before_wait(wait_s)
            await self._wait(wait_s)

    async def _wait(self, wait_s: float) -> None:
        """Until so many seconds have passed, or something was given back."""
        try:
            async with asyncio.timeout(None if math.isinf(wait_s) else wait_s):
                await self._changed.wait()
        except TimeoutError:
            pass

    def _wake(self) -> None:
        self._changed.set()


class Permit:
    """One request's leave to go out. Exactly one of its methods is called, and none of them waits."""

    __slots__ = ("_gate", "_number", "_ticket", "_tokens")

    def __init__(self, gate: Gate, ticket: str, tokens: int) -> None:
        self._gate, self._ticket, self._tokens = gate, ticket, tokens
        self._number = gate._concurrency.number

    def settle(self, tokens: int | None) -> None:
        """It was answered and took so many tokens; None: nobody knows, so what was asked for stays counted."""
        gate = self._gate
        gate._book.settle(self._ticket, self._tokens if tokens is None else tokens)
        gate._concurrency.leave(answered=tokens is not None)
        gate._wake()

    def refused(self) -> None:
        """The provider said that it is too much (429): it counts nothing, and fewer go out at once for a while."""
        gate = self._gate
        gate._book.refund(self._ticket)
        gate._concurrency.refused(self._number)
        gate._wake()

    def give_back(self) -> None:
        """It was not sent, or nobody took it."""
        gate = self._gate
        gate._book.refund(self._ticket)
        gate._concurrency.leave(answered=False)
        gate._wake()


def _too_long(wait_s: float, patience_s: float | None) -> QuotaExceeded:
    return QuotaExceeded(
        f"the quota is used up for {wait_s:.1f} s, and this call may still wait {patience_s or 0.0:.1f} s: "
        "allow a longer wait (max_wait_s), or come back later",
        wait_s=wait_s,
    )
