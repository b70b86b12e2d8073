"""What decides how the calls of a run fare that is played through."""

from __future__ import annotations

from dataclasses import dataclass

from lmaas_sdk.backend import Limits
from lmaas_sdk.planning.conditions import Failures, Latency
from lmaas_sdk.traffic.retry import RetryPolicy
from lmaas_sdk.tuning.scheduling import Scheduling

__all__ = ["World", "has_windows"]


@dataclass(frozen=True, slots=True)
class World:
    """What decides how calls fare.

    Args:
        limits: The quotas in force.
        most_at_once: Requests that may be under way.
        policy: When failed attempts are repeated.
        scheduling: What a run does about slow calls.
        bills_once: Whether the provider bills a key once.
        latency, failures: As they are.
        began_s: The first moment, in seconds since 1970.
    """

    limits: Limits
    most_at_once: int
    policy: RetryPolicy
    scheduling: Scheduling
    bills_once: bool
    latency: Latency
    failures: Failures
    began_s: float


def has_windows(limits: Limits) -> bool:
    """Whether these limits are about a stretch of time."""
    counted = (limits.requests_per_minute, limits.tokens_per_minute, limits.requests_per_day)
    return any(limit is not None for limit in (*counted, getattr(limits, "other_per_day", None)))
