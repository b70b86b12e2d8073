"""What is around a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.traffic.waits import BeforeWait
from lmaas_sdk.tuning.events import Event, Waiting
from lmaas_sdk.tuning.interruption import Stop
from lmaas_sdk.tuning.sharing import Sharing

__all__ = ["Surroundings", "clock_of", "telling_waits"]


@dataclass(frozen=True, slots=True, eq=False)
class Surroundings:
    """What a run listens to, and what listens to it.

    Args:
        tell: Takes every event.
        stop: Set when the run should come to an end.
        target: Metric on dev that is enough; None: none is.
        sharing: How it goes with other runs.
    """

    tell: Callable[[Event], None]
    stop: Stop
    target: float | None = None
    sharing: Sharing = field(default_factory=Sharing)


@contextmanager
def clock_of(budget: Budget | None) -> Iterator[None]:
    """Wall time counts inside."""
    if budget is None:
        yield
        return
    budget.start()
    try:
        yield
    finally:
        budget.stop()


def telling_waits(tell: Callable[[Event], None]) -> BeforeWait:
    """What a client calls before a wait: it is told as an event."""
    return lambda wait: tell(Waiting(wait.seconds, wait.reason, wait.cause))
