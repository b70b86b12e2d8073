"""How what was computed lately is shared among clients."""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["ServedShares"]

_LATELY_S = 30.0


class ServedShares:
    """Sums of tokens for each client, which fade: after 30 s an e-th of them is left.

    Args:
        clock: Seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._of: dict[str, tuple[float, float]] = {}  # the sum, and as of when
        self._all = (0.0, clock())

    def add(self, client: str, tokens: int) -> None:
        """Takes in a call that was computed."""
        now = self._clock()
        self._of[client] = (_faded(self._of.get(client, (0.0, now)), now) + tokens, now)
        self._all = (_faded(self._all, now) + tokens, now)

    def share(self, client: str) -> float | None:
        """The client's part of all; None: nothing was computed lately."""
        now = self._clock()
        together = _faded(self._all, now)
        return _faded(self._of.get(client, (0.0, now)), now) / together if together >= 1 else None


def _faded(noted: tuple[float, float], now: float) -> float:
    tokens, then = noted
    return tokens * math.exp((then - now) / _LATELY_S)
