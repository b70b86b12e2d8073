"""What a server has been sent to keep: each thing once, however many ask for it, and again when it was forgotten."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

__all__ = ["SentOnce"]

_V = TypeVar("_V")


class SentOnce(Generic[_V]):
    """Values by digest, with the times each was sent.

    Args:
        most: Values that are remembered; the one used longest ago goes first and cannot be sent again unasked.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[str, _V] = OrderedDict()
        self._times: dict[str, int] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    def get(self, digest: str) -> _V | None:
        """The value, where it is remembered."""
        return self._values.get(digest)

    def times(self, digest: str) -> int:
        """How often it was sent; 0: never."""
        return self._times.get(digest, 0)

    def lock(self, digest: str) -> asyncio.Lock:
        """Held while a digest is being sent. A sender that is cancelled leaves it to the next."""
        return self._locks.setdefault(digest, asyncio.Lock())

    def sent(self, digest: str, value: _V) -> None:
        """Notes that the server now holds `value`."""
        self._times[digest] = self.times(digest) + 1
        self._values[digest] = value
        self._values.move_to_end(digest)
        while len(self._values) > self._most:
            self._values.popitem(last=False)

    async def ensure(self, digest: str, send: Callable[[], Awaitable[object]], *, stale: int = 0) -> None:
        """Has `send` called (which calls `sent`) unless the value was sent more than `stale` times.

        Args:
            digest: Of the value.
            send: Sends it.
            stale: The number of times it had been sent when the server turned out not to have it.
        """
        if self.times(digest) > stale:
            return
        async with self.lock(digest):
            if self.times(digest) <= stale:
                await send()
