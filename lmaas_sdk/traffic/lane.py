"""What all clients of one backend share on their way to one of its endpoints: gate, circuit breaker, quota."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from lmaas_sdk.accounting.ledger import Ledger
from lmaas_sdk.accounting.ledger_file import SqliteLedger
from lmaas_sdk.backend import Backend, Limits, ModelCard
from lmaas_sdk.outside import outside
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


class _OfLoop:
    """What one event loop has.

    Attributes:
        lanes: By backend; within it by endpoint and opening of a ledger file.
        gates: By scope, of backends that tell their API key apart: what these have sent counts after they are closed.
    """

    def __init__(self) -> None:
        self.lanes: WeakKeyDictionary[Any, dict[tuple[str, str], Lane]] = WeakKeyDictionary()
        self.gates: dict[str, Gate] = {}


_loops: dict[asyncio.AbstractEventLoop, _OfLoop] = {}


def lane_of(backend: Backend, endpoint: str, *, ledger: Ledger, wall: Wall | None) -> Lane:
    """The lane that all clients of this backend in this event loop share.

    A backend that cannot be a key (no hash, no weak reference) gets one for itself at every call of this function.

    Args:
        backend: Where calls go.
        endpoint: "score" or "features".
        ledger: Where quotas are counted, if it is a file that processes share.
        wall: Seconds since 1970; None: the loop's clock, set to the time of day once.
    """
    of_loop = _of_loop()
    try:
        lanes = of_loop.lanes.setdefault(backend, {})
    except TypeError:
        lanes = {}
    name = (endpoint, ledger.owner if isinstance(ledger, SqliteLedger) else "")
    if name not in lanes:
        gate = _gate_of(backend, endpoint, ledger, wall=wall or loop_wall(), gates=of_loop.gates)
        lanes[name] = Lane(gate, breaker_of(backend))
    return lanes[name]


def scope_of(backend: Backend, endpoint: str) -> str:
    """Names API key and endpoint without telling the key: within it a key means one call, and a quota holds."""
    account = getattr(backend, "account", "")
    return f"{backend.card.name}/{endpoint}" + (f"@{account}" if account else "")


def limits_of(card: ModelCard, endpoint: str, quotas: Quotas | None) -> Limits:
    """The quota of an endpoint: what the backend tells of itself, and what the user gives beside it."""
    return stricter(card.limits_of(endpoint), quotas_of(quotas, endpoint))


def loop_wall(base: Wall | None = None) -> Wall:
    """Seconds since 1970 by the running loop's clock, which no one sets back and which may be a virtual one.

    Args:
        base: What sets it once; None: the time of day.
    """
    clock = asyncio.get_running_loop().time
    offset_s = (base or outside().wall)() - clock()
    return lambda: offset_s + clock()


def _of_loop() -> _OfLoop:
    """What the running loop has; what closed loops had is dropped, which gates would keep alive by themselves."""
    loop = asyncio.get_running_loop()
    if loop not in _loops:
        for closed in [other for other in _loops if other.is_closed()]:
            _loops.pop(closed, None)
        _loops[loop] = _OfLoop()
    return _loops[loop]


def _gate_of(backend: Backend, endpoint: str, ledger: Ledger, *, wall: Wall, gates: dict[str, Gate]) -> Gate:
    """One for itself; in memory, one for all backends of the same API key, so that each sees what the others give back.

    In a file it is the file that they share.
    """
    scope = scope_of(backend, endpoint)
    if isinstance(ledger, SqliteLedger):
        return _new_gate(backend, FileQuota(ledger, scope, wall))
    if not getattr(backend, "account", ""):
        return _new_gate(backend, MemoryQuota(wall))
    if scope not in gates:
        gates[scope] = _new_gate(backend, MemoryQuota(wall))
    return gates[scope]


def _new_gate(backend: Backend, book: QuotaBook) -> Gate:
    return Gate(book, AdaptiveConcurrency(most_at_once(backend.card), asyncio.get_running_loop().time))
