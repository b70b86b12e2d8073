"""What is around a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from lmaas_sdk.tuning.events import Event
from lmaas_sdk.tuning.interruption import Stop
from lmaas_sdk.tuning.sharing import Sharing

__all__ = ["Surroundings"]


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
