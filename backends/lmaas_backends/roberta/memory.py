"""How the C library holds memory while a model is loaded, and after.

Of glibc; other libraries lack these functions, and mostly the habits that make them necessary.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["give_memory_back", "kept_apart"]

_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of malloc.h
_FROM_BYTES = 1 << 20
_USUAL_BYTES = 32 << 20  # what glibc's own threshold grows to once blocks of that size were freed


def _function(name: str) -> Callable[..., int] | None:
    if sys.platform == "win32":
        return None
    found: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)
    return found


def give_memory_back() -> None:
    """Has the library give back what was freed, after work that took much and comes seldom; it would keep it."""
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


@contextmanager
def kept_apart() -> Iterator[None]:
    """Blocks from 1 MB on, allocated inside, lie apart, so that those which are freed leave no holes among the others.

    A model's weights are read in one form and kept in another: at roberta-large the holes would take 40 MB and more.
    """
    mallopt = _function("mallopt")
    if mallopt is None:
        yield
        return
    mallopt(_MMAP_THRESHOLD, _FROM_BYTES)
    try:
        yield
    finally:
        mallopt(_MMAP_THRESHOLD, _USUAL_BYTES)
