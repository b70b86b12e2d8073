"""What each of several got of what all wanted, beside its fair share of it.

Fair is what a fluid server would do (generalised processor sharing, Parekh and Gallager 1993) that serves as much, when
it is served: at every moment, all whose wants it has not met get parts of that by priority. Nobody can serve so: what
is served comes in whole turns, a generation and the look at dev after it, and who has just had one is ahead. So use and
share are told apart in turns and, once a share pays for five of them, by their ratio: one turn more is a fifth more
then, and less and less from there on.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

__all__ = ["COMPARED_FROM", "FairShares", "Share"]

COMPARED_FROM = 5  # turns


@dataclass(slots=True, eq=False)
class Share:
    """One of those who want something.

    Args:
        priority: Its part, in relation to the others'.
        turn: What its largest turn takes.
        wanted: What it has asked for so far.
        used: What it was served of that.
        fair: What a fair server would have served it meanwhile.
        highest: The largest use / fair share there was, from the fifth turn on; None: it did not get so far.
        lowest: The smallest, likewise.
        ahead: The most turns that it was ahead of its fair share.
        behind: The most turns that it was behind.
    """

    priority: float
    turn: float
    wanted: float = 0.0
    used: float = 0.0
    fair: float = 0.0
    highest: float | None = None
    lowest: float | None = None
    ahead: float = 0.0
    behind: float = 0.0

    def compare(self) -> None:
        """Takes notice of how use and fair share stand now."""
        lead = (self.used - self.fair) / self.turn
        self.ahead, self.behind = max(self.ahead, lead), max(self.behind, -lead)
        if self.fair >= COMPARED_FROM * self.turn:
            ratio = self.used / self.fair
            self.highest = ratio if self.highest is None else max(self.highest, ratio)
            self.lowest = ratio if self.lowest is None else min(self.lowest, ratio)


class FairShares:
    """Takes what happens, in order.

    Args:
        priorities: Of all, by name.
        turns: What the largest turn of each takes, above 0.
    """

    def __init__(self, priorities: Mapping[str, float], turns: Mapping[str, float]) -> None:
        self._shares = {name: Share(priority, turns[name]) for name, priority in priorities.items()}
        self._level = 0.0  # what somebody of priority 1 would have got who wanted something all the time
        self._until: dict[str, float] = {}  # the level at which whoever wants something would have it all
        self._next: list[tuple[float, str]] = []  # these, lowest first, with those that were put off
        self._weight = Fraction(0)  # of all who want something, exactly: it must come back to 0

    @property
    def shares(self) -> Mapping[str, Share]:
        """How all of them stand now."""
        for name in self._shares:
            self._compare(name)
        return self._shares

    def wants(self, name: str, amount: float) -> None:
        """It wants so much, from now on and as soon as possible."""
        share = self._shares[name]
        if name not in self._until:
            self._weight += Fraction(share.priority)
        self._until[name] = self._until.get(name, self._level) + amount / share.priority
        share.wanted += amount
        heapq.heappush(self._next, (self._until[name], name))

    def served(self, name: str, amount: float) -> None:
        """It was served so much of what it wanted."""
        self._compare(name)  # it was never further behind than now
        self._rise(amount)
        self._shares[name].used += amount
        self._compare(name)

    def _rise(self, amount: float) -> None:
        """Gives everybody a part of it; who has all that was wanted wants no more."""
        while self._next:
            until, name = self._next[0]
            if self._until.get(name) != until:
                heapq.heappop(self._next)  # it was put off
                continue
            needed = (until - self._level) * float(self._weight)
            if needed > amount:
                self._level += amount / float(self._weight)
                return
            self._level, amount = until, amount - needed
            heapq.heappop(self._next)
            del self._until[name]
            self._weight -= Fraction(self._shares[name].priority)

    def _compare(self, name: str) -> None:
        share = self._shares[name]
        left = (self._until.get(name, self._level) - self._level) * share.priority
        share.fair = share.wanted - left
        share.compare()
