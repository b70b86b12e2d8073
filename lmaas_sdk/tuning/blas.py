"""One BLAS thread while a search computes: the order of a sum, and so its bits, depends on how many there are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np  # noqa: F401  (its BLAS is loaded before the libraries are looked through)
from threadpoolctl import ThreadpoolController

__all__ = ["one_blas_thread"]


def one_blas_thread() -> AbstractContextManager[None]:
    """A context in which BLAS computes in one thread; once nobody is in it, the setting is as before."""
    return _SHARED.entered()


class _Shared:
    """The setting is the process's: of several searches side by side, the first to leave must not undo it."""

    def __init__(self) -> None:
        self._controller: ThreadpoolController | None = None
        self._lock, self._inside = threading.Lock(), 0
        self._limiter: AbstractContextManager[object] | None = None

    @contextmanager
    def entered(self) -> Iterator[None]:
        with self._lock:
            if self._controller is None:  # one scan of the loaded libraries; a fresh one costs 1.9 ms a time
                self._controller = ThreadpoolController()
            self._take_control()
            limiter = self._controller.limit(limits=1, user_api="blas")  # each: with OpenMP it is the thread's own
            if not self._inside:
                self._limiter = limiter
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside and self._limiter is not None:
                    self._take_control()
                    self._limiter.__exit__(None, None, None)
                    self._limiter = None

    def _take_control(self) -> None:
        """Newer threadpoolctl lets one thread alone set limits and ignores all others; here the lock sees to that."""
        for library in self._controller.lib_controllers if self._controller else ():
            if clear := getattr(library, "clear_controlling_thread", None):
                clear(force=True)


_SHARED = _Shared()
