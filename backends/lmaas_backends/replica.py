"""One of several servers of a service: what is under way there, and whether it rests after a failure."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.errors import BackendUnavailable, LmaasError, OutcomeUnknown
from lmaas_sdk.logs import log_event

if TYPE_CHECKING:
    from lmaas_backends.remote import RemoteBackend

__all__ = ["Clock", "Replica", "Rests"]

Clock = Callable[[], float]
_logger = logging.getLogger("lmaas_backends.replicas")


@dataclass(frozen=True, slots=True)
class Rests:
    """How long a replica is left alone after a failure.

    Args:
        first_s: After the first.
        longest_s: At most: each failure without an answer since the last doubles the rest.
    """

    first_s: float = 1.0
    longest_s: float = 30.0


class Replica:
    """A server, and what its answers and failures say of it.

    A replica that did not answer rests. After that one call at a time is let through, until one is answered. Calls that
    began before a failure say nothing new when they fail too, but an answer of any kind ends a rest.

    Args:
        backend: The server.
        rests: How long it rests.
        clock: Seconds that only move forward; None: the event loop's.

    Attributes:
        outstanding: Tokens of the calls under way.
        rests_until_s: When its last rest ends.
        is_checked: Whether it has told its card since it last failed to answer.
    """

    def __init__(self, backend: RemoteBackend, rests: Rests, clock: Clock | None = None) -> None:
        self.backend = backend
        self.outstanding = 0
        self.rests_until_s = 0.0
        self.is_checked = False
        self._rests, self._clock = rests, clock
        self._rest_s = 0.0  # the last rest; 0: it has answered since
        self._failures = self._answers = self._probes = 0
        self._holds: set[str] = set()

    def __repr__(self) -> str:
        return f"Replica({self.backend.url!r}, outstanding={self.outstanding})"

    @property
    def takes_calls(self) -> bool:
        """Whether a call may go there now: it does not rest, or has rested and no other call is finding out."""
        return not self._rest_s or (not self._probes and self._now_s() >= self.rests_until_s)

    @contextmanager
    def call(self, tokens: int) -> Iterator[None]:
        """Around one call, with as many tokens."""
        failures, answers, is_probe = self._failures, self._answers, bool(self._rest_s)
        self.outstanding += tokens
        self._probes += is_probe
        try:
            yield
        except (BackendUnavailable, OutcomeUnknown) as error:
            self._failed(error, failures)
            raise
        except asyncio.CancelledError as error:
            if self._answers == answers:  # a time limit of the caller's looks like this: it was silent all the while
                self._failed(error, failures)
            raise
        except LmaasError:  # it refused, which is an answer
            self._answered()
            raise
        else:
            self._answered()
        finally:
            self.outstanding -= tokens
            self._probes -= is_probe

    async def hold(self, digest: str, array: NDArray[np.float32]) -> None:
        """Sends it an array, once."""
        if digest not in self._holds:
            await self.backend.upload(array)
            self._holds.add(digest)

    def rest(self, error: BaseException) -> None:
        """Leaves it alone for a while, as it did not answer."""
        self._failures += 1
        self.is_checked = False
        is_news = not self._rest_s
        self._rest_s = min(max(self._rests.first_s, 2 * self._rest_s), self._rests.longest_s)
        self.rests_until_s = self._now_s() + self._rest_s
        log_event(
            _logger,
            logging.WARNING if is_news else logging.INFO,
            "replica_rests",
            "the server at %(url)s does not answer (%(error)s): it gets no call for %(rest_s).0f s",
            url=self.backend.url,
            error=type(error).__name__,
            rest_s=self._rest_s,
        )

    def _failed(self, error: BaseException, failures: int) -> None:
        """Notes that a call that began after so many failures was not answered."""
        if failures == self._failures:
            self.rest(error)

    def _answered(self) -> None:
        self._answers += 1
        if self._rest_s:
            self._rest_s = 0.0
            log_event(
                _logger, logging.INFO, "replica_back", "the server at %(url)s answers again", url=self.backend.url
            )

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time() if self._clock is None else self._clock()
