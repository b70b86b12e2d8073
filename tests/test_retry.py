"""When a call is tried again, in virtual time."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from lmaas_sdk.errors import (
    AttemptTimeout,
    BackendError,
    BackendUnavailable,
    InvalidQuery,
    ProtocolError,
    QuotaExceeded,
    RateLimited,
    Retryable,
    RetryBudgetExhausted,
    ServerFault,
)
from lmaas_sdk.testing import run_virtual
from lmaas_sdk.traffic.retry import Patience, RetryPolicy
from lmaas_sdk.traffic.retry_budget import RetryBudget
from lmaas_sdk.traffic.waits import Wait


def attempts(policy: RetryPolicy, *errors: Exception) -> tuple[list[float], Exception | None]:
    """When each attempt began, of a call that fails by these errors and then succeeds, and what came out of it."""

    async def main() -> tuple[list[float], Exception | None]:
        loop, times_s, left = asyncio.get_running_loop(), [], list(errors)

        async def attempt() -> None:
            times_s.append(loop.time())
            if left:
                raise left.pop(0)

        try:
            await Patience(policy).call(attempt)
        except (BackendError, QuotaExceeded) as error:
            return times_s, error
        return times_s, None

    return run_virtual(main())


@pytest.mark.parametrize("kind", [RateLimited, BackendUnavailable, ServerFault, AttemptTimeout])
def test_the_provider_is_asked_again_exactly_when_it_said(kind: type[Retryable]) -> None:
    """Never before Retry-After, and not later either."""
    errors = [kind("wait", retry_after_s=wait_s) for wait_s in (7.25, 0.5, 3600.0)]
    assert attempts(RetryPolicy(), *errors) == ([0.0, 7.25, 7.75, 3607.75], None)


@pytest.mark.parametrize("kind", [BackendUnavailable, ServerFault, AttemptTimeout])
def test_failures_end_with_the_policys_attempts(kind: type[Retryable]) -> None:
    """The last error comes out as it was raised."""
    errors = [kind(f"number {number}", retry_after_s=1.0) for number in range(9)]
    assert attempts(RetryPolicy(attempts=4), *errors) == ([0.0, 1.0, 2.0, 3.0], errors[3])
    assert attempts(RetryPolicy(attempts=1), *errors) == ([0.0], errors[0])


@pytest.mark.parametrize("error", [InvalidQuery("no"), ProtocolError("no")])
def test_what_is_not_retryable_comes_out_at_once(error: Exception) -> None:
    """Whether a call is tried again is a type."""
    assert attempts(RetryPolicy(), error) == ([0.0], error)


def test_rate_limits_use_up_no_attempts() -> None:
    """Between two failures there may be any number of 429s."""
    limits = [RateLimited("429", retry_after_s=1.0) for _ in range(50)]
    times_s, error = attempts(
        RetryPolicy(attempts=2), *limits, ServerFault("one", retry_after_s=0.5), *limits, last := ServerFault("two")
    )
    assert (len(times_s), times_s[-1], error) == (102, 100.5, last)


@pytest.mark.parametrize("kind", [RateLimited, ServerFault])
def test_without_retry_after_the_backoff_grows_to_its_bound(kind: type[Retryable]) -> None:
    """Full jitter: each wait lies between 0 and a bound that doubles up to the longest."""
    times_s, _ = attempts(
        RetryPolicy(attempts=12, first_wait_s=1.0, longest_wait_s=60.0), *(kind("again") for _ in range(11))
    )
    waits_s = [after - before for before, after in pairwise(times_s)]
    assert len(waits_s) == 11
    assert all(0 <= wait_s <= min(2.0**nth, 60.0) for nth, wait_s in enumerate(waits_s))
    assert len(set(waits_s)) == 11


def test_patience_with_rate_limits_ends_before_the_wait() -> None:
    """The waits for 429s add up; the one that would go beyond is not begun, and the error tells it."""
    limits = [RateLimited("429", retry_after_s=4.0) for _ in range(3)]
    times_s, error = attempts(RetryPolicy(max_wait_s=10.0), *limits)
    assert times_s == [0.0, 4.0, 8.0]
    assert isinstance(error, QuotaExceeded)
    assert error.wait_s == 4.0
    assert error.__cause__ is limits[2]
    assert attempts(RetryPolicy(max_wait_s=12.0), *limits) == ([0.0, 4.0, 8.0, 12.0], None)


def test_patience_is_for_rate_limits_alone() -> None:
    """A server that drains for a minute is no quota."""
    assert attempts(RetryPolicy(max_wait_s=1.0), BackendUnavailable("later", retry_after_s=60.0)) == ([0.0, 60.0], None)


def test_retry_after_zero_is_no_storm() -> None:
    """A provider that says 0 seconds for ever is asked at the pace of the backoff, so patience ends."""
    limits = [RateLimited("429", retry_after_s=0.0) for _ in range(2000)]
    times_s, error = attempts(RetryPolicy(max_wait_s=60.0), *limits)
    assert isinstance(error, QuotaExceeded)
    assert len(times_s) < 200


def test_429s_without_a_wait_do_not_go_on_for_ever() -> None:
    """Even where nobody asks for a wait, each takes a moment, so patience ends."""

    async def attempt() -> None:
        raise RateLimited("429")

    async def run() -> float:
        with pytest.raises(QuotaExceeded):
            await Patience(RetryPolicy(first_wait_s=0, max_wait_s=1)).call(attempt)
        return asyncio.get_running_loop().time()

    assert run_virtual(run()) <= 1


def test_before_wait_sees_every_wait_and_may_end_the_call() -> None:
    """It is told the seconds before they pass; what it raises comes out."""
    seen: list[float] = []

    def before_wait(wait: Wait) -> None:
        seen.append(wait.seconds)
        assert wait.cause == "rate_limit"
        if wait.seconds > 5:
            raise ValueError("too long")

    async def main() -> float:
        left = [2.0, 3.0, 7.0]

        async def attempt() -> None:
            raise RateLimited("429", retry_after_s=left.pop(0))

        with pytest.raises(ValueError, match="too long"):
            await Patience(RetryPolicy(), before_wait=before_wait).call(attempt)
        return asyncio.get_running_loop().time()

    assert (run_virtual(main()), seen) == (5.0, [2.0, 3.0, 7.0])


def test_a_call_ends_with_its_time_and_not_after_it() -> None:
    """A wait that would end past the deadline is not begun: the last error comes out at once."""
    policy = RetryPolicy(total_timeout_s=10.0)
    errors = [ServerFault(f"number {number}", retry_after_s=4.0) for number in range(4)]
    assert attempts(policy, *errors) == ([0.0, 4.0, 8.0], errors[2])


def test_what_is_left_for_a_quota_is_the_shorter_of_patience_and_deadline() -> None:
    """Both shrink while the call waits."""

    async def main() -> list[float | None]:
        endless = Patience(RetryPolicy())
        patience = Patience(RetryPolicy(max_wait_s=10.0, total_timeout_s=7.0))
        left = [endless.quota_left_s, patience.quota_left_s]
        patience.wait_for_quota(4.0)
        left.append(patience.quota_left_s)
        await asyncio.sleep(4.0)
        return [*left, patience.quota_left_s, patience.left_s]

    assert run_virtual(main()) == [None, 7.0, 6.0, 3.0, 3.0]


def test_calls_share_one_retry_budget_and_429s_draw_nothing_from_it() -> None:
    """When it is used up the attempt that failed is the last, and its error is told."""
    budget = RetryBudget(ratio=0.0, floor=2)

    async def main() -> list[object]:
        ends: list[object] = []
        for _ in range(3):
            left: list[BackendError] = [
                RateLimited("429", retry_after_s=1.0),
                ServerFault("first", retry_after_s=1.0),
                RateLimited("429", retry_after_s=1.0),
            ]

            async def attempt(left: list[BackendError] = left) -> str:
                if left:
                    raise left.pop(0)
                return "answered"

            try:
                ends.append(await Patience(RetryPolicy(), budget).call(attempt))
            except RetryBudgetExhausted as error:
                ends.append((str(error.last), len(left)))
        return ends

    assert run_virtual(main()) == ["answered", "answered", ("first", 1)]
    assert budget.left == 0


@pytest.mark.parametrize(
    "setting",
    [
        {"attempts": 0},
        {"attempts": 2.5},
        {"attempts": True},
        {"first_wait_s": -1.0},
        {"first_wait_s": float("nan")},
        {"longest_wait_s": float("inf")},
        {"max_wait_s": -0.5},
        {"attempt_timeout_s": -1},
        {"total_timeout_s": float("nan")},
        {"budget_ratio": -0.1},
        {"budget_floor": 1.5},
        {"patience_s": float("inf")},
        {"max_wait_s": float("nan")},
    ],
)
def test_senseless_settings_are_refused(setting: dict[str, Any]) -> None:
    """The message names the setting and its value."""
    ((name, value),) = setting.items()
    with pytest.raises(ValueError, match=f"{name} is .*{value}"):
        RetryPolicy(**setting)
