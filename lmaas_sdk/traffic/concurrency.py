"""How many requests to one backend are under way at once, whoever sends them."""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakKeyDictionary

from lmaas_sdk.backend import Backend, ModelCard

__all__ = ["most_at_once", "slots_of"]

_UNSAID = 16  # where the card does not say

# A semaphore belongs to the event loop that it was first waited for in.
_slots: WeakKeyDictionary[Any, WeakKeyDictionary[Any, asyncio.Semaphore]] = WeakKeyDictionary()


def most_at_once(card: ModelCard) -> int:
    """Requests that may be under way: what the card allows, else 16."""
    return card.limits.concurrency or _UNSAID


def slots_of(backend: Backend) -> asyncio.Semaphore:
    """The semaphore that all clients of this backend in this event loop share.

    A backend that cannot be a key (no hash, no weak reference) gets one for itself at every call of this function.
    """
    of_loop = _slots.setdefault(asyncio.get_running_loop(), WeakKeyDictionary())
    try:
        found = of_loop.get(backend)
        if found is None:
            found = of_loop[backend] = asyncio.Semaphore(most_at_once(backend.card))
    except TypeError:
        return asyncio.Semaphore(most_at_once(backend.card))
    return found
