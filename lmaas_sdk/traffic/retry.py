"""When a call is tried again: by the type of its error, with jitter, until attempts, patience or time end."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, TypeVar

import tenacity

from lmaas_sdk.accounting.transfers import Label
from lmaas_sdk.errors import BackendError, QuotaExceeded, RateLimited, Retryable, RetryBudgetExhausted
from lmaas_sdk.logs import call_fields, log_event
from lmaas_sdk.outside import outside
from lmaas_sdk.traffic.retry_budget import RetryBudget
from lmaas_sdk.traffic.waits import BeforeWait, Cause, Wait, WaitMeter

__all__ = ["Patience", "RetryPolicy"]

P = ParamSpec("P")
T = TypeVar("T")

_NO_LABEL = Label()
_TOLD_WAIT_S = 1.0  # waits for a quota that are longer are logged
_logger = logging.getLogger("lmaas_sdk.traffic")
_OUTAGE_RATIO = 60
_SHORTEST_QUOTA_WAIT_S = 0.01  # 429s count as no attempt, so without a wait they could go on for ever


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently a call is tried.

    Args:
        attempts: Most attempts that fail for another reason than a 429.
        first_wait_s, longest_wait_s: Bounds of the exponential backoff with full jitter.
        max_wait_s: Most seconds a call may wait for quotas and 429s; None: as long as it takes.
        attempt_timeout_s: Most seconds of one attempt, once it is sent; None: the backend's own.
        total_timeout_s: Most seconds of a call with all its attempts and waits; None: no limit.
        budget_ratio, budget_floor: All retries of a client's calls together are at most `budget_ratio` of these calls
            and `budget_floor` more, 429s apart, so that retries cannot make an outage worse.
        patience_s: Most seconds that a tuner goes on asking for a candidate that fails because no attempt or retry is
            left or the circuit is open.
        outage_s: The same, of a backend that has answered before and now answers nobody: one that is away. None: sixty
            times `patience_s`.

    Raises:
        ValueError: A value is out of its range; the message names it.
    """

    attempts: int = 5
    first_wait_s: float = 0.25
    longest_wait_s: float = 20.0
    max_wait_s: float | None = None
    attempt_timeout_s: float | None = None
    total_timeout_s: float | None = None
    budget_ratio: float = 0.1
    budget_floor: int = 10
    patience_s: float = 120.0
    outage_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("attempts", "budget_floor"):
            count: object = getattr(self, name)
            least = 1 if name == "attempts" else 0
            if isinstance(count, bool) or not isinstance(count, int) or count < least:
                raise ValueError(f"{name} is a whole number of at least {least}, not {count!r}")
        for name in ("first_wait_s", "longest_wait_s", "budget_ratio", "patience_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is finite and at least 0, not {value!r}")
        for name in ("max_wait_s", "attempt_timeout_s", "total_timeout_s", "outage_s"):
            longest: object = getattr(self, name)
            if longest is not None and not (isinstance(longest, (int, float)) and longest >= 0):
                raise ValueError(f"{name} is at least 0 seconds, not {longest!r}: None is no limit")

    @property
    def longest_outage_s(self) -> float:
        """`outage_s`, worked out."""
        return _OUTAGE_RATIO * self.patience_s if self.outage_s is None else self.outage_s

    def new_budget(self) -> RetryBudget:
        """The retry budget that the calls of one client share."""
        return RetryBudget(ratio=self.budget_ratio, floor=self.budget_floor)


class Patience:
    """What one call has used up of its policy: it counts, so a call needs one of its own.

    Args:
        policy: The limits.
        budget: The retry budget; None: there is none.
        before_wait: Called before every wait; what it raises ends the call.
        label: Names the call in the log.
        meter: Counts the waits.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        budget: RetryBudget | None = None,
        before_wait: BeforeWait | None = None,
        *,
        label: Label = _NO_LABEL,
        meter: WaitMeter | None = None,
    ) -> None:
        self._policy, self._budget, self._before_wait, self._label = policy, budget, before_wait, label
        self._meter = meter or WaitMeter()
        self._cause: Cause = "retry"  # of the wait that comes next
        self._failures = 0
        self._waited_for_quota_s = 0.0
        self._clock = asyncio.get_running_loop().time
        self._ends_at = None if policy.total_timeout_s is None else self._clock() + policy.total_timeout_s

    async def call(self, attempt: Callable[P, Awaitable[T]], *args: P.args, **named: P.kwargs) -> T:
        """Makes an attempt, with these arguments, and again where its error says so.

        Raises:
            QuotaExceeded: Waiting for the quota would take longer than allowed.
            RetryBudgetExhausted: It failed, and the calls that share the retry budget have used it up.
            BaseException: What the last attempt raised.
        """
        try:
            return await attempt(*args, **named)
        except Retryable as error:
            failed = error
        except Exception as error:
            self._tell_failure(error, 1)
            raise
        return await self._again(partial(attempt, *args, **named), failed)

    async def _again(self, attempt: Callable[[], Awaitable[T]], error: Retryable) -> T:
        """Goes on after the first failure: a controller costs a tenth of a call, so only calls that fail make one."""
        failed, attempts = [error], 1

        async def once_more() -> T:
            nonlocal attempts
            if failed:
                raise failed.pop()
            attempts += 1
            return await attempt()

        try:
            return await self._controller()(once_more)
        except Exception as last:
            self._tell_failure(last, attempts)
            raise

    def _controller(self) -> tenacity.AsyncRetrying:
        return tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(Retryable),
            stop=self._is_over,
            wait=self._wait_s,
            before_sleep=self._before_sleep,
            sleep=self._sleep,
            reraise=True,
        )

    @property
    def left_s(self) -> float | None:
        """Seconds left of the whole call; None: no limit."""
        return None if self._ends_at is None else self._ends_at - self._clock()

    @property
    def quota_left_s(self) -> float | None:
        """Seconds that the call may still wait for a quota; None: as long as it takes."""
        longest = self._policy.max_wait_s
        for_quota = None if longest is None else longest - self._waited_for_quota_s
        bounds = [bound for bound in (for_quota, self.left_s) if bound is not None]
        return max(0.0, min(bounds)) if bounds else None

    def wait_for_quota(self, wait_s: float) -> None:
        """Notes a wait for the client's own count of a quota, before it."""
        self._waited_for_quota_s += wait_s
        if self._before_wait is not None:
            self._before_wait(Wait(wait_s, "quota"))
        self._tell_quota_wait(wait_s, "quota")

    def _is_over(self, state: tenacity.RetryCallState) -> bool:
        """Whether the error that came is the last; the wait was worked out before."""
        if not isinstance(_error(state), RateLimited):
            self._failures += 1
        if self._failures >= self._policy.attempts:
            return True
        left_s = self.left_s
        return left_s is not None and state.upcoming_sleep >= left_s

    def _wait_s(self, state: tenacity.RetryCallState) -> float:
        """Seconds until the next attempt: never before Retry-After.

        Raises:
            QuotaExceeded: Waiting for the quota would take longer than allowed.
        """
        error = _error(state)
        asked = error.retry_after_s if isinstance(error, Retryable) else None
        # "Retry after 0 s" is no wait at all: obeyed to the letter it would be a storm of requests.
        wait_s = asked if asked is not None and asked > 0 else self._backoff_s(state)
        if isinstance(error, RateLimited):
            wait_s = max(wait_s, _SHORTEST_QUOTA_WAIT_S)
            self._waited_for_quota_s += wait_s
            self._check_patience(error, wait_s)
        return wait_s

    def _backoff_s(self, state: tenacity.RetryCallState) -> float:
        policy = self._policy
        longest_s = tenacity.wait_exponential(multiplier=policy.first_wait_s, max=policy.longest_wait_s)(state)
        return outside().jitter.uniform(0.0, longest_s)

    def _check_patience(self, error: RateLimited, wait_s: float) -> None:
        longest = self._policy.max_wait_s
        if longest is not None and self._waited_for_quota_s > longest:
            raise QuotaExceeded(
                f"the provider asks to wait {wait_s:.1f} s, {self._waited_for_quota_s:.1f} s in all for this call; "
                f"max_wait_s allows {longest:.1f}",
                wait_s=wait_s,
            ) from error

    def _before_sleep(self, state: tenacity.RetryCallState) -> None:
        error = _error(state)
        if self._budget is not None and isinstance(error, BackendError) and not isinstance(error, RateLimited):
            self._take_retry(self._budget, error)
        self._cause = "rate_limit" if isinstance(error, RateLimited) else "retry"
        if self._before_wait is not None:
            self._before_wait(Wait(state.upcoming_sleep, self._cause, error))
        log_event(
            _logger,
            logging.DEBUG,
            "attempt_failed",
            "attempt %(attempt)d of call %(call)r failed (%(error)s): the next one in %(wait_s).3f s",
            **call_fields(self._label),
            attempt=state.attempt_number,
            error=type(error).__name__,
            wait_s=state.upcoming_sleep,
        )
        if isinstance(error, RateLimited):
            self._tell_quota_wait(state.upcoming_sleep, "429")

    async def _sleep(self, wait_s: float) -> None:
        with self._meter.during(self._cause):
            await asyncio.sleep(wait_s)

    def _tell_quota_wait(self, wait_s: float, cause: str) -> None:
        if wait_s > _TOLD_WAIT_S:
            log_event(
                _logger,
                logging.INFO,
                "quota_wait",
                "call %(call)r waits %(wait_s).1f s for the quota",
                **call_fields(self._label),
                wait_s=wait_s,
                cause=cause,
            )

    def _tell_failure(self, error: Exception, attempts: int) -> None:
        log_event(
            _logger,
            logging.DEBUG,
            "call_failed",
            "call %(call)r failed for good (%(error)s), attempt %(attempts)d was the last",
            **call_fields(self._label),
            attempts=attempts,
            error=type(error).__name__,
        )

    def _take_retry(self, budget: RetryBudget, error: BackendError) -> None:
        if not budget.take():
            raise RetryBudgetExhausted(
                f"the attempt failed ({error}), and no retry is left: at most {budget.floor} and "
                f"{budget.ratio:.0%} of the calls are tried again; ask again later, or raise budget_ratio",
                last=error,
            ) from error


def _error(state: tenacity.RetryCallState) -> BaseException | None:
    return None if state.outcome is None else state.outcome.exception()
