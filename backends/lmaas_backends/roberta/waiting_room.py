"""How much work may wait: a bound in tokens, and a promise to whoever finds it reached.

A refused call is told when there will be room for it, and the room is kept for it: calls that come meanwhile are told
later times. So whoever obeys `Retry-After` is let in, however many others are turned away. Every client has a line of
its own, which moves as fast as its calls are computed: nobody waits for what another was promised.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import count

from lmaas_backends.roberta.served_shares import ServedShares

__all__ = ["Occupancy", "Ticket", "WaitingRoom"]

# Of the bound. So full it gets for those who were promised room, if less was computed until then than was expected.
# With calls as large as the bound one computes and one waits: else the one that waits might find newcomers there for
# ever.
_FOR_PROMISED = 2.0
# However many clients there are: each may have its share even where others have filled the room.
_FOR_SHARES = 2.0
# With so little waiting, room kept for those who have not come is given away: nothing may stand idle for them.
_GIVEN_AWAY_BELOW = 0.5
# A call that waits holds a connection and its query, some 30 KB, however few tokens it has.
_MOST_CALLS = 4096
_LONGEST_PROMISE_S = 3600.0
_MOST_PROMISES = 10_000
_GRACE_S = 5.0
_EARLY_S = 0.05
_KEPT_ENDS = 64  # of promises that are over, beside as many as there are promises


@dataclass(frozen=True, slots=True)
class Occupancy:
    """A call's place in the room; `size` is its tokens, and no more than the bound was when it came."""

    client: str
    tokens: int
    size: int


@dataclass(frozen=True, slots=True)
class Ticket:
    """Tells a call from others when it comes again: whose it is, and its idempotency key, say."""

    client: str
    call: str


@dataclass(frozen=True, slots=True)
class _Promise:
    """Room for so many tokens from `due` on; `again`: it came when it was told to, and there was none."""

    tokens: int
    due: float
    until: float
    again: bool


@dataclass(slots=True)
class _Line:
    """A client's calls inside, and those that were promised room."""

    calls: int = 0
    tokens: int = 0
    promises: int = 0
    promised_tokens: int = 0


class WaitingRoom:
    """Who waits, and who was told to come again.

    Args:
        most_tokens: Tells the bound, which may change as the speed becomes known.
        wait_s: Tells how long so many tokens take.
        clock: Seconds.
        most_calls: Bounds the calls as `most_tokens` does their tokens.
    """

    def __init__(
        self,
        most_tokens: Callable[[], int],
        wait_s: Callable[[int], float],
        clock: Callable[[], float],
        *,
        most_calls: int = _MOST_CALLS,
    ) -> None:
        self._most_tokens, self._wait_s, self._clock, self._most_calls = most_tokens, wait_s, clock, most_calls
        self._lines: dict[str, _Line] = {}
        self._served = ServedShares(clock)
        self._promises: dict[Ticket, _Promise] = {}
        self._ends: list[tuple[float, int, Ticket]] = []
        self._number = count()
        self._promised_again = 0
        self.promised_tokens = 0
        self.tokens = 0
        self.calls = 0
        self._sizes = 0

    @property
    def most_tokens(self) -> int:
        """The bound, as it is now."""
        return self._most_tokens()

    @property
    def promises(self) -> int:
        """Calls that were told when to come again, and may still."""
        return len(self._promises)

    def enter(self, ticket: Ticket, tokens: int) -> Occupancy | float:
        """Lets a call of so many tokens in, or tells it in how many seconds to come again.

        Nobody's calls fill the room for all others: whoever holds less than an equal share is let in beyond the bound.
        """
        self._expire()
        promise = self._promises.get(ticket)
        line = self._lines.setdefault(ticket.client, _Line())
        if not self._fits(line, tokens, promise):
            seconds = self._told_later(ticket, tokens, promise)
            self._end(ticket.client)
            return seconds
        self._forget(ticket)
        line.calls += 1
        line.tokens += tokens
        self.calls += 1
        self.tokens += tokens
        place = Occupancy(ticket.client, tokens, min(tokens, self._most_tokens()))
        self._sizes += place.size
        return place

    def leave(self, place: Occupancy) -> None:
        """Gives a call's room back; once for each place."""
        line = self._lines[place.client]
        line.calls -= 1
        line.tokens -= place.tokens
        self.calls -= 1
        self.tokens -= place.tokens
        self._sizes -= place.size
        self._served.add(place.client, place.tokens)
        self._end(place.client)

    def _fits(self, line: _Line, tokens: int, promise: _Promise | None) -> bool:
        size = min(tokens, self._most_tokens())  # a call larger than the room needs no more than all of it
        inside = self._part(self.tokens + size, self.calls + 1)
        if promise is not None and promise.due <= self._clock() + _EARLY_S:
            # A call that is larger than the bound counts as one of the bound's size, here and while it is inside.
            return self._part(self._sizes + size, self.calls + 1) <= _FOR_PROMISED
        kept = self._part(self.tokens + self.promised_tokens + size, self.calls + self.promises + 1)
        if kept <= 1 or inside <= _GIVEN_AWAY_BELOW or not self.calls:
            return True
        # Whoever has been told to come again waits its own turn.
        below = self._part(line.tokens + tokens, line.calls + 1) <= 1 / len(self._lines) and not line.promises
        return below and inside <= _FOR_SHARES

    def _part(self, tokens: int, calls: int) -> float:
        """How much of the bound so many tokens in so many calls are."""
        return max(tokens / self._most_tokens(), calls / self._most_calls)

    def _told_later(self, ticket: Ticket, tokens: int, promise: _Promise | None) -> float:
        now = self._clock()
        if promise is not None and promise.due > now:
            return promise.due - now
        self._forget(ticket)
        line, again = self._lines[ticket.client], promise is not None
        wait_s = self._wait_s(self._excess(ticket.client, tokens, again=again))
        seconds = float(max(1, math.ceil(wait_s)))  # whole ones, as Retry-After tells them
        # Nobody takes all the promises that there may be: with others about, a client has an equal share of them.
        if seconds <= _LONGEST_PROMISE_S and line.promises < _MOST_PROMISES // len(self._lines):
            until = now + seconds + max(_GRACE_S, seconds / 4)
            self._promise(ticket, _Promise(tokens, now + seconds, until, again))
        return seconds

    def _excess(self, client: str, tokens: int, *, again: bool) -> int:
        """Tokens that must be computed before there is room for so many more of a client.

        Whoever was promised room comes before those of the same client who come later. Whoever came for it and found
        none, because all took longer than expected, comes before all who have yet to come.
        """
        line, size = self._lines[client], min(tokens, self._most_tokens())
        inside = self._beyond(self.tokens + self._promised_again + size, self.calls + 1)
        if again:
            return inside
        served = self._served.share(client)
        if served is None:  # nobody knows yet who takes how much: all are in one line
            return self._beyond(self.tokens + self.promised_tokens + size, self.calls + self.promises + 1)
        # By turns a client has an equal share of what is computed, or what others leave.
        share = max(served, 1 / len(self._lines))
        own = self._beyond(
            (line.tokens + line.promised_tokens + size) / share, (line.calls + line.promises + 1) / share
        )
        return max(inside, own)

    def _beyond(self, tokens: float, calls: float) -> int:
        """Of so many tokens in so many calls, those that must be computed until the others are within the bound."""
        return math.ceil(tokens - min(self._most_tokens(), tokens * self._most_calls / calls))

    def _promise(self, ticket: Ticket, promise: _Promise) -> None:
        self._promises[ticket] = promise
        self._count(ticket.client, promise, 1)
        heappush(self._ends, (promise.until, next(self._number), ticket))
        if len(self._ends) > 2 * len(self._promises) + _KEPT_ENDS:
            self._ends = [(kept.until, next(self._number), of) for of, kept in self._promises.items()]
            heapify(self._ends)

    def _forget(self, ticket: Ticket) -> None:
        promise = self._promises.pop(ticket, None)
        if promise is not None:
            self._count(ticket.client, promise, -1)

    def _count(self, client: str, promise: _Promise, sign: int) -> None:
        line = self._lines[client]
        line.promises += sign
        line.promised_tokens += sign * promise.tokens
        self.promised_tokens += sign * promise.tokens
        self._promised_again += sign * promise.tokens * promise.again

    def _end(self, client: str) -> None:
        """Forgets a client of whom nothing is inside or promised."""
        line = self._lines[client]
        if not line.calls and not line.promises:
            del self._lines[client]

    def _expire(self) -> None:
        now = self._clock()
        while self._ends and self._ends[0][0] < now:
            until, _, ticket = heappop(self._ends)
            if ticket in self._promises and self._promises[ticket].until == until:
                self._forget(ticket)
                self._end(ticket.client)
