"""A circuit breaker: a backend that is down is left alone, and asked by one probe at a time whether it is back."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary

from lmaas_sdk.backend import Backend
from lmaas_sdk.errors import BackendError, BackendUnavailable, CircuitOpen, OutcomeUnknown, RateLimited, ServerUntrusted
from lmaas_sdk.logs import log_event

__all__ = ["FAILURES", "FIRST_PAUSE_S", "LONGEST_PAUSE_S", "OUTAGE_S", "CircuitBreaker", "breaker_of"]

# So many failures without an answer between them are no bad luck, if they took some time: of calls that go out at once
# those that fail come back first.
FAILURES = 20
OUTAGE_S = 5.0
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
_NO_ANSWERS = (RateLimited, ServerUntrusted)  # of errors that are no failures: the server may be up or down

_logger = logging.getLogger("lmaas_sdk.traffic")
_breakers: WeakKeyDictionary[Any, WeakKeyDictionary[Any, CircuitBreaker]] = WeakKeyDictionary()


def breaker_of(backend: Backend) -> CircuitBreaker:
    """The breaker that all clients of this backend in this event loop share.

    A backend that cannot be a key (no hash, no weak reference) gets one for itself at every call of this function.
    """
    of_loop = _breakers.setdefault(asyncio.get_running_loop(), WeakKeyDictionary())
    try:
        return of_loop.setdefault(backend, CircuitBreaker(name=backend.card.name))
    except TypeError:
        return CircuitBreaker(name=backend.card.name)


class CircuitBreaker:
    """Closed until nothing but failures has come back for a while; then open, with a probe after every pause.

    A pause lasts one second at first and twice as long after every failed probe, up to 30 s. An answer of any kind
    closes the circuit; a 429 says nothing about the backend's health.

    Attributes:
        is_open: Whether only probes are let through.

    Args:
        failures: Without an answer between them, that open it.
        outage_s: Seconds that they have to span.
        name: The backend's, for the log.
    """

    def __init__(self, failures: int = FAILURES, outage_s: float = OUTAGE_S, *, name: str = "") -> None:
        self._most, self._outage_s, self._name = failures, outage_s, name
        self._failures = 0
        self._since_s = 0.0
        self.is_open = False
        self._pause_s = 0.0
        self._probe_at = 0.0
        self._probing = False
        self._last: BackendError | None = None

    def attempt(self) -> AbstractContextManager[None]:
        """Around one attempt; what it raises is counted.

        Raises:
            CircuitOpen: On entering: the backend is down and it is not time for a probe, or one is on its way.
        """
        return _Attempt(self)

    def _begin_probe(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if self._probing or now_s < self._probe_at:
            wait_s = max(self._probe_at - now_s, 0.0)
            raise CircuitOpen(
                f"the backend failed {self._failures} times without an answer, so nothing is sent to it for now "
                f"(next probe in {wait_s:.1f} s; the last failure: {self._last})",
                retry_after_s=wait_s,
                last=self._last,
            )
        self._probing = True

    def _failed(self, error: BackendError, probe: bool) -> None:
        now_s = asyncio.get_running_loop().time()
        if not self._failures:
            self._since_s = now_s
        self._failures += 1
        self._last = error
        opens = not self.is_open and self._failures >= self._most and now_s - self._since_s >= self._outage_s
        if probe or opens:  # attempts that were on their way when it opened tell nothing new
            is_news, self.is_open = not self.is_open, True
            self._pause_s = min(max(FIRST_PAUSE_S, 2 * self._pause_s), LONGEST_PAUSE_S)
            self._probe_at = now_s + self._pause_s
            log_event(
                _logger,
                logging.WARNING if is_news else logging.INFO,
                "circuit_opened" if is_news else "circuit_probe_failed",
                "backend %(backend)s does not answer: nothing is sent to it for %(pause_s).0f s",
                backend=self._name,
                failures=self._failures,
                pause_s=self._pause_s,
                error=type(error).__name__,
            )

    def _answered(self) -> None:
        if self.is_open:
            log_event(
                _logger,
                logging.INFO,
                "circuit_closed",
                "backend %(backend)s answers again, after %(outage_s).0f s",
                backend=self._name,
                failures=self._failures,
                outage_s=asyncio.get_running_loop().time() - self._since_s,
            )
        self._failures, self._pause_s, self._last, self.is_open = 0, 0.0, None, False


class _Attempt(AbstractContextManager[None]):
    __slots__ = ("_breaker", "_is_probe")

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker, self._is_probe = breaker, False

    def __enter__(self) -> None:
        if self._breaker.is_open:
            self._breaker._begin_probe()
            self._is_probe = True

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        breaker = self._breaker
        if isinstance(error, (BackendUnavailable, OutcomeUnknown)):
            breaker._failed(error, self._is_probe)
        elif error is None or (isinstance(error, BackendError) and not isinstance(error, _NO_ANSWERS)):
            breaker._answered()
        if self._is_probe:
            breaker._probing = False
