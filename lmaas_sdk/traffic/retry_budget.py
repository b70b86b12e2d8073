"""How many retries all calls of a client may make together."""

from __future__ import annotations

__all__ = ["RetryBudget"]

_REMEMBERED_CALLS = 1000


class RetryBudget:
    """A bucket of retries: `floor` at first, and `ratio` more with every call.

    Of n calls there are at most `n * (1 + ratio) + floor` attempts. What good times save up is bounded by the share of
    1000 calls, so that even after a million of them an outage meets few retries.

    Args:
        ratio: Retries a call earns.
        floor: Retries there are before any call.
    """

    def __init__(self, *, ratio: float = 0.1, floor: int = 10) -> None:
        self.ratio, self.floor = ratio, floor
        self._calls = self._retries = 0
        self._spilt = 0.0  # what was earned above the bound

    @property
    def left(self) -> int:
        """Retries that may be made now."""
        return int(self._earned - self._retries)

    @property
    def _earned(self) -> float:
        # A product and no sum of many: ten times 0.1 has to be 1.
        return self.floor + self.ratio * self._calls - self._spilt

    def earn(self) -> None:
        """A call begins."""
        self._calls += 1
        above = self._earned - self._retries - (self.floor + self.ratio * _REMEMBERED_CALLS)
        self._spilt += max(0.0, above)

    def take(self) -> bool:
        """Takes a retry; False: there is none left."""
        if self.left < 1:
            return False
        self._retries += 1
        return True
