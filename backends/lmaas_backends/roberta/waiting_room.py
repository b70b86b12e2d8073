"""How much work may wait: a bound in tokens, and a promise to whoever finds it reached.

A refused call is told when there will be room for it, and the room is kept for it: calls that come meanwhile are told
later times. So whoever obeys `Retry-After` is let in, however many others are turned away.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count

__all__ = ["Occupancy", "Ticket", "WaitingRoom"]

# Of the bound. Who was promised room comes when it is expected to be free, which the cost model only estimates.
_FOR_PROMISED = 1.25
# With so little waiting, room kept for those who have not come is given away: nothing may stand idle for them.
_GIVEN_AWAY_BELOW = 0.5
# However many clients there are: each may have its share even where others have filled the room.
_FOR_SHARES = 2.0
_LONGEST_PROMISE_S = 3600.0
_MOST_PROMISES = 10_000
_GRACE_S = 5.0
_EARLY_S = 0.05


@dataclass(frozen=True, slots=True)
class Occupancy:
    """A call's place in the room."""

    client: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Ticket:
    """Tells a call from others when it comes again: whose it is, and its idempotency key, say."""

    client: str
    call: str


@dataclass(frozen=True, slots=True)
class _Promise:
    tokens: int
    due: float
    until: float


class WaitingRoom:
    """Who waits, and who was told to come again.

    Args:
        most_tokens: Tells the bound, which may change as the speed becomes known.
        wait_s: Tells how long so many tokens take.
        clock: Seconds.
    """

    def __init__(
        self, most_tokens: Callable[[], int], wait_s: Callable[[int], float], clock: Callable[[], float]
    ) -> None:
        self._most_tokens, self._wait_s, self._clock = most_tokens, wait_s, clock
        self._held: Counter[str] = Counter()
        self._calls: Counter[str] = Counter()
        self._promises: dict[Ticket, _Promise] = {}
        self._promised_to: Counter[str] = Counter()
        self._ends: list[tuple[float, int, Ticket]] = []
        self._number = count()
        self.promised_tokens = 0
        self.tokens = 0

    @property
    def calls(self) -> int:
        """Calls inside."""
        return self._calls.total()

    def enter(self, ticket: Ticket, tokens: int) -> Occupancy | float:
        """Lets a call of so many tokens in, or tells it in how many seconds to come again.

        Nobody's calls fill the room for all others: whoever holds less than an equal share is let in beyond the bound.
        """
        self._expire()
        promise = self._promises.get(ticket)
        if not self._fits(ticket.client, tokens, promise):
            return self._told_later(ticket, tokens, promise)
        self._forget(ticket)
        self._held[ticket.client] += tokens
        self._calls[ticket.client] += 1
        self.tokens += tokens
        return Occupancy(ticket.client, tokens)

    def leave(self, place: Occupancy) -> None:
        """Gives a call's room back; once for each place."""
        self.tokens -= place.tokens
        self._held[place.client] -= place.tokens
        self._calls[place.client] -= 1
        if not self._calls[place.client]:
            del self._held[place.client], self._calls[place.client]

    def _fits(self, client: str, tokens: int, promise: _Promise | None) -> bool:
        most = self._most_tokens()
        inside = self.tokens + min(tokens, most)  # so that a call larger than the room needs no more than all of it
        if promise is not None and promise.due <= self._clock() + _EARLY_S:
            return inside <= most * _FOR_PROMISED
        if inside + self.promised_tokens <= most or inside <= most * _GIVEN_AWAY_BELOW or not self.tokens:
            return True
        share = most / (len(self._calls) + (client not in self._calls))
        # Whoever has been told to come again waits its own turn.
        below = self._held[client] + tokens <= share and not self._promised_to[client]
        return below and inside <= most * _FOR_SHARES

    def _told_later(self, ticket: Ticket, tokens: int, promise: _Promise | None) -> float:
        now = self._clock()
        if promise is not None and promise.due > now:
            return promise.due - now
        self._forget(ticket)
        most = self._most_tokens()
        excess = self.tokens + self.promised_tokens + min(tokens, most) - most
        seconds = max(1.0, math.ceil(self._wait_s(excess)))  # whole ones, as Retry-After tells them
        if seconds <= _LONGEST_PROMISE_S and len(self._promises) < _MOST_PROMISES:
            self._promise(ticket, _Promise(tokens, now + seconds, now + seconds + max(_GRACE_S, seconds / 4)))
        return seconds

    def _promise(self, ticket: Ticket, promise: _Promise) -> None:
        self._promises[ticket] = promise
        self._promised_to[ticket.client] += 1
        self.promised_tokens += promise.tokens
        heappush(self._ends, (promise.until, next(self._number), ticket))

    def _forget(self, ticket: Ticket) -> None:
        promise = self._promises.pop(ticket, None)
        if promise is not None:
            self.promised_tokens -= promise.tokens
            self._promised_to[ticket.client] -= 1
            if not self._promised_to[ticket.client]:
                del self._promised_to[ticket.client]

    def _expire(self) -> None:
        now = self._clock()
        while self._ends and self._ends[0][0] < now:
            until, _, ticket = heappop(self._ends)
            if ticket in self._promises and self._promises[ticket].until == until:
                self._forget(ticket)
