"""Calls that are played through, and which of them are late, as `tuning/volley.py` has it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from lmaas_sdk.planning.work import Ask
from lmaas_sdk.tuning.scheduling import LatencyRecord, Scheduling

__all__ = ["Call", "Lateness"]


@dataclass(slots=True, eq=False)
class Call:
    """A call that has to be answered.

    Attributes:
        tries, failures: Attempts since the tuner asked for it, and those that failed otherwise than by a 429.
        pauses: How often the tuner has asked for it again.
        is_lost: Whether the outcome of an earlier attempt is unknown.
        is_held: Whether the next attempt is paid for.
        is_out: Whether an attempt is under way; `number`, `ticket`, `fate` and `is_probe` are that one's.
        waited_s, waited_before_s: For 429s, and what others had waited for the quota when it came to the gate.
        twin: The call that was sent for the same beside it, because the first of the two was late.
        was_late: Whether it was found late, so that it is not sent again for that.
    """

    ask: Ask
    began_s: float
    tries: int = 0
    failures: int = 0
    pauses: int = 0
    is_lost: bool = False
    is_held: bool = True
    is_out: bool = False
    number: int = 0
    ticket: str = ""
    fate: str = ""
    is_probe: bool = False
    sent_s: float = math.inf
    waited_s: float = 0.0
    waited_before_s: float = 0.0
    is_answered: bool = False
    is_over: bool = False
    twin: Call | None = field(default=None, repr=False)
    was_late: bool = False

    @property
    def has_other(self) -> bool:
        """Whether another call may still be answered in its place."""
        return self.twin is not None and not self.twin.is_over


class Lateness:
    """Which calls of generations are late.

    Args:
        scheduling: What a run does about them.
    """

    def __init__(self, scheduling: Scheduling) -> None:
        self._scheduling, self._record = scheduling, LatencyRecord()
        self._late_after_s: float | None = None  # None: to be worked out again

    def add_calls(self, count: int) -> None:
        """So many go out."""
        self._record.calls += count

    def add(self, latency_s: float) -> None:
        """One took so long, or was given up after so long."""
        self._record.add(latency_s)
        self._late_after_s = None

    @property
    def late_after_s(self) -> float:
        """Seconds from which on a call is late; infinite while nobody can tell."""
        if self._late_after_s is None:
            usual_s = self._record.usual_s
            self._late_after_s = math.inf if usual_s is None else self._scheduling.late_s(usual_s)
        return self._late_after_s

    def next_s(self, calls: Sequence[Call]) -> float:
        """When the first of these will be late that was not yet."""
        sent_s = (call.sent_s for call in calls if not (call.is_over or call.was_late))
        return min(sent_s, default=math.inf) + self.late_after_s

    def found(self, calls: Sequence[Call], now_s: float) -> list[Call]:
        """Those that are late now and were not before; they are told once."""
        late_s = self.late_after_s
        late = [call for call in calls if not (call.is_over or call.was_late) and call.sent_s + late_s <= now_s]
        for call in late:
            call.was_late = True
        return late

    def take_hedge(self) -> bool:
        """Whether one more may be sent again; then it is counted."""
        return self._record.take_hedge(self._scheduling.most_hedged)

    def give_hedge_back(self) -> None:
        """It could not be paid for."""
        self._record.hedged -= 1
