"""What the engine keeps between calls, within bounds: the least recently used goes first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["MOST_ARRAY_BYTES", "BoundedStore"]

# Most bytes of one projection or one uploaded array. The paper's setting (d 500, L 50) takes 102 MB at hidden size
# 1024; building a seeded projection of this size keeps the engine's thread for up to three seconds.
MOST_ARRAY_BYTES = 256 << 20

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BoundedStore(Generic[K, V]):
    """A mapping of limited size in bytes, for several threads; the newest entry always stays, however large.

    Args:
        max_bytes: Bytes of all entries together.
        max_entries: Entries.
    """

    def __init__(self, *, max_bytes: int, max_entries: int = 1 << 20) -> None:
        self._max_bytes, self._max_entries = max_bytes, max_entries
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The entry, now the most recently used; None: it is not, or no longer, here."""
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key][0]

    def put(self, key: K, value: V, nbytes: int) -> V:
        """Keeps an entry of that size and drops old ones until all fit; returns `value`."""
        with self._lock:
            self._drop(key)
            self._entries[key] = (value, nbytes)
            self._bytes += nbytes
            while len(self._entries) > 1 and (self._bytes > self._max_bytes or len(self._entries) > self._max_entries):
                self._drop(next(iter(self._entries)))
            return value

    def _drop(self, key: K) -> None:
        _, nbytes = self._entries.pop(key, (None, 0))
        self._bytes -= nbytes
