"""How many requests to one endpoint are under way at once: as many as the provider bears."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from lmaas_sdk.backend import ModelCard
from lmaas_sdk.logs import log_event

__all__ = ["AdaptiveConcurrency", "most_at_once"]

_UNSAID = 16  # of each server, where the card does not say
_COOL_DOWN_S = 1.0
_logger = logging.getLogger("lmaas_sdk.traffic")


def most_at_once(card: ModelCard) -> int:
    """Requests that may be under way: what the card allows, else 16 for each server behind it."""
    return card.limits.concurrency or _UNSAID * card.replicas


class AdaptiveConcurrency:
    """How many requests may be under way: additive increase, multiplicative decrease (Chiu and Jain 1989).

    A 429 halves the limit, once for all the requests that were sent before it; so many answers as the limit is raise it
    by one, up to the maximum. Who was refused waits outside for as long as the provider said: others go on.

    A storm in which nothing is answered halves the limit again and again, and says nothing of how many the provider
    bears: up to where it was before, it is then raised by one for each answer (as in the slow start of RFC 5681).

    Args:
        most: The maximum, which it starts at.
        clock: Seconds that only move forward.
    """

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._most, self._clock = most, clock
        self._limit = float(most)
        self._before = self._limit  # the limit when it was halved, and in a storm when it was halved first
        self._storm_up_to = 1.0  # up to here one more is tried for each answer
        self._was_answered = True  # of the requests that were sent since
        self._under_way = 0
        self._halved_at_s = -math.inf
        self._first_after = 0  # the number of the first request that was sent after the limit was halved
        self.number = 0

    @property
    def limit(self) -> int:
        """Requests that may be under way now."""
        return max(1, int(self._limit))

    @property
    def has_room(self) -> bool:
        """Whether one more may go out."""
        return self._under_way < self.limit

    def allow(self, most: int) -> None:
        """Another maximum from now on."""
        if most != self._most:
            self._limit = float(most) if self._limit >= self._most else min(self._limit, most)
            self._most = most

    def enter(self) -> None:
        """One goes out; `number` is its number."""
        self._under_way += 1
        self.number += 1

    def leave(self, number: int, *, answered: bool) -> None:
        """The request of that number is back; `answered`: by an answer that says that all is well."""
        self._under_way -= 1
        if answered:
            self._was_answered |= number >= self._first_after
            step = 1.0 if self._limit < self._storm_up_to else 1 / self._limit
            self._limit = min(self._limit + step, self._most)

    def refused(self, number: int) -> None:
        """The request of that number is back with a 429."""
        self._under_way -= 1
        now_s = self._clock()
        if number >= self._first_after and now_s - self._halved_at_s >= _COOL_DOWN_S:
            before = self.limit
            self._halve()
            log_event(
                _logger,
                logging.DEBUG,
                "concurrency_cut",
                "after a 429, at most %(limit)d requests are under way at once (%(before)d until now)",
                limit=self.limit,
                before=before,
                under_way=self._under_way,
            )
            self._halved_at_s, self._first_after = now_s, self.number + 1

    def _halve(self) -> None:
        if self._was_answered:
            self._before, self._was_answered = self._limit, False
            self._storm_up_to = 1.0
        else:
            self._storm_up_to = self._before
        self._limit = max(1.0, self._limit / 2)
