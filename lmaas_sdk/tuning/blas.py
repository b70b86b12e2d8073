"""One BLAS thread while a search computes: the order of a sum, and so its bits, depends on how many there are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache

import numpy as np  # noqa: F401  (its BLAS is loaded before the libraries are looked through)
from threadpoolctl import ThreadpoolController

__all__ = ["one_blas_thread"]


class _Shared:
    """The limit of the process, for as long as somebody wants it."""

    def __init__(self) -> None:
        self._lock, self._count, self._limit = threading.Lock(), 0, ExitStack()

    @contextmanager
    def one_thread(self) -> Iterator[None]:
        with self._lock:
            if not self._count:
                self._limit.enter_context(_controller().limit(limits=1, user_api="blas"))
            self._count += 1
        try:
            yield
        finally:
            with self._lock:
                self._count -= 1
                if not self._count:
                    self._limit.close()


_shared = _Shared()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """A context in which BLAS computes in one thread; the setting is as before afterwards.

    The setting is the process's, and searches side by side are each in a thread of their own: who comes first limits
    it, and who leaves last puts it back. Were each to put back what it found, one would do so while another computes.
    """
    with _shared.one_thread():
        yield


@cache
def _controller() -> ThreadpoolController:
    """One scan of the loaded libraries: limiting by a fresh controller would cost 1.9 ms a time."""
    return ThreadpoolController()
