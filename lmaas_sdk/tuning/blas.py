"""One BLAS thread while a search computes: the order of a sum, and so its bits, depends on how many there are."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache

import numpy as np  # noqa: F401  (its BLAS is loaded before the libraries are looked through)
from threadpoolctl import ThreadpoolController

__all__ = ["one_blas_thread"]


def one_blas_thread() -> AbstractContextManager[object]:
    """A context in which BLAS computes in one thread; the setting is as before afterwards."""
    limit: AbstractContextManager[object] = _controller().limit(limits=1, user_api="blas")
    return limit


@cache
def _controller() -> ThreadpoolController:
    """One scan of the loaded libraries: limiting by a fresh controller would cost 1.9 ms a time."""
    return ThreadpoolController()
