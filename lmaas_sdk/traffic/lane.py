"""What all clients of one backend share on their way to one of its endpoints: gate, circuit breaker, quota."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from lmaas_sdk.accounting.ledger import Ledger
from lmaas_sdk.accounting.ledger_file import SqliteLedger
from lmaas_sdk.backend import Backend, Limits, ModelCard
from lmaas_sdk.traffic.circuit import CircuitBreaker, breaker_of
from lmaas_sdk.traffic.concurrency import AdaptiveConcurrency, most_at_once
from lmaas_sdk.traffic.gate import Gate
from lmaas_sdk.traffic.quota import QuotaBook
from lmaas_sdk.traffic.quota_file import FileQuota
from lmaas_sdk.traffic.quota_memory import MemoryQuota
from lmaas_sdk.traffic.quota_presets import Quotas, quotas_of, stricter

__all__ = ["Lane", "lane_of", "limits_of", "loop_wall", "scope_of"]

Wall = Callable[[], float]


@dataclass(frozen=True, slots=True, eq=False)
class Lane:
    """The way to one endpoint.

    Args:
        gate: Lets requests through, one after the other.
        breaker: Stops them while the backend is down.
    """

    gate: Gate
    breaker: CircuitBreaker


_Lanes = dict[tuple[str, str], Lane]
_lanes: WeakKeyDictionary[Any, WeakKeyDictionary[Any, _Lanes]] = WeakKeyDictionary()
_books: WeakKeyDictionary[Any, WeakValueDictionary[str, MemoryQuota]] = WeakKeyDictionary()


def lane_of(backend: Backend, endpoint: str, *, ledger: Ledger, wall: Wall | None) -> Lane:
    """The lane that all clients of this backend in this event loop share.

    A backend that cannot be a key (no hash, no weak reference) gets one for itself at every call of this function.

    Args:
        backend: Where calls go.
        endpoint: "score" or "features".
        ledger: Where quotas are counted, if it is a file that processes share.
        wall: Seconds since 1970; None: the loop's clock, set to the time of day once.
    """
    of_loop = _lanes.setdefault(asyncio.get_running_loop(), WeakKeyDictionary())
    try:
        lanes = of_loop.get(backend)
        if lanes is None:
            lanes = of_loop[backend] = {}
    except TypeError:
        lanes = {}
    name = (endpoint, ledger.owner if isinstance(ledger, SqliteLedger) else "")
    lane = lanes.get(name)
    if lane is None:
        lane = lanes[name] = _new_lane(backend, endpoint, ledger, wall or loop_wall())
    return lane


def scope_of(backend: Backend, endpoint: str) -> str:
    """Names API key and endpoint without telling the key: within it a key means one call, and a quota holds."""
    account = getattr(backend, "account", "")
    return f"{backend.card.name}/{endpoint}" + (f"@{account}" if account else "")


def limits_of(card: ModelCard, endpoint: str, quotas: Quotas | None) -> Limits:
    """The quota of an endpoint: what the backend tells of itself, and what the user gives beside it."""
    return stricter(card.limits_of(endpoint), quotas_of(quotas, endpoint))


def loop_wall(base: Wall = time.time) -> Wall:
    """Seconds since 1970 by the running loop's clock, which no one sets back and which may be a virtual one."""
    clock = asyncio.get_running_loop().time
    offset_s = base() - clock()
    return lambda: offset_s + clock()


def _new_lane(backend: Backend, endpoint: str, ledger: Ledger, wall: Wall) -> Lane:
    concurrency = AdaptiveConcurrency(most_at_once(backend.card), asyncio.get_running_loop().time)
    return Lane(Gate(_book_of(backend, endpoint, ledger, wall), concurrency), breaker_of(backend))


def _book_of(backend: Backend, endpoint: str, ledger: Ledger, wall: Wall) -> QuotaBook:
    """Who counts: the ledger file; else one book for all backends of this loop with the same API key, if it has one."""
    scope = scope_of(backend, endpoint)
    if isinstance(ledger, SqliteLedger):
        return FileQuota(ledger, scope, wall)
    if not getattr(backend, "account", ""):
        return MemoryQuota(wall)
    books = _books.setdefault(asyncio.get_running_loop(), WeakValueDictionary())
    return books.setdefault(scope, MemoryQuota(wall))
