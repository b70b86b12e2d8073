"""When a call is tried again: by the type of its error, with jitter, until attempts or patience end."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass

import tenacity

from lmaas_sdk.errors import QuotaExceeded, RateLimited, Retryable

__all__ = ["RetryPolicy"]

_SHORTEST_QUOTA_WAIT_S = 0.01  # 429s count as no attempt, so without a wait they could go on for ever


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently a call is tried.

    Args:
        attempts: Most attempts that fail for another reason than a 429.
        first_wait_s, longest_wait_s: Bounds of the exponential backoff with full jitter.
        max_wait_s: Most seconds a call may wait for 429s to end; None: as long as it takes.

    Raises:
        ValueError: A value is out of its range; the message names it.
    """

    attempts: int = 5
    first_wait_s: float = 0.25
    longest_wait_s: float = 20.0
    max_wait_s: float | None = None

    def __post_init__(self) -> None:
        attempts: object = self.attempts
        if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
            raise ValueError(f"attempts is a whole number of at least 1, not {attempts!r}")
        for name in ("first_wait_s", "longest_wait_s"):
            seconds = getattr(self, name)
            if not (math.isfinite(seconds) and seconds >= 0):
                raise ValueError(f"{name} is finite and at least 0 seconds, not {seconds!r}")
        longest: object = self.max_wait_s
        if longest is not None and not (isinstance(longest, (int, float)) and longest >= 0):
            raise ValueError(f"max_wait_s is at least 0 seconds, not {longest!r}: None waits as long as it takes")

    def controller(
        self, before_wait: Callable[[float, BaseException | None], None] | None = None
    ) -> tenacity.AsyncRetrying:
        """A fresh controller for one call: it counts, so it must not be shared.

        Args:
            before_wait: Called before every wait, with its seconds and the error; what it raises ends the call.
        """
        patience = _Patience(self)
        return tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(Retryable),
            stop=patience.is_over,
            wait=patience.wait_s,
            before_sleep=None
            if before_wait is None
            else lambda state: before_wait(state.upcoming_sleep, _error(state)),
            sleep=asyncio.sleep,
            reraise=True,
        )


class _Patience:
    """The state of one call: failures that count as attempts, and seconds waited for 429s."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._failures = 0
        self._waited_for_quota_s = 0.0
        self._backoff = tenacity.wait_random_exponential(multiplier=policy.first_wait_s, max=policy.longest_wait_s)

    def is_over(self, state: tenacity.RetryCallState) -> bool:
        if not isinstance(_error(state), RateLimited):
            self._failures += 1
        return self._failures >= self._policy.attempts

    def wait_s(self, state: tenacity.RetryCallState) -> float:
        """Seconds until the next attempt: never before Retry-After.

        Raises:
            QuotaExceeded: Waiting for the quota would take longer than allowed.
        """
        error = _error(state)
        asked = error.retry_after_s if isinstance(error, Retryable) else None
        # "Retry after 0 s" is no wait at all: obeyed to the letter it would be a storm of requests.
        wait_s = asked if asked is not None and asked > 0 else float(self._backoff(state))
        if isinstance(error, RateLimited):
            wait_s = max(wait_s, _SHORTEST_QUOTA_WAIT_S)
            self._waited_for_quota_s += wait_s
            self._check_patience(error, wait_s)
        return wait_s

    def _check_patience(self, error: RateLimited, wait_s: float) -> None:
        longest = self._policy.max_wait_s
        if longest is not None and self._waited_for_quota_s > longest:
            raise QuotaExceeded(
                f"the provider asks to wait {wait_s:.1f} s, {self._waited_for_quota_s:.1f} s in all for this call; "
                f"max_wait_s allows {longest:.1f}",
                wait_s=wait_s,
            ) from error


def _error(state: tenacity.RetryCallState) -> BaseException | None:
    return None if state.outcome is None else state.outcome.exception()
