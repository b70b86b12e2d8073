"""What a run does about calls that are slow and candidates that fail."""

from __future__ import annotations

import math
import sys
from collections import deque
from dataclasses import dataclass
from typing import Any, Literal, get_args

from lmaas_sdk.seeding import whole_number

__all__ = ["LatencyRecord", "Needs", "Scheduling"]

Stragglers = Literal["wait", "drop", "hedge"]
OnFailure = Literal["drop", "impute", "resample"]
_CHOICES = {"stragglers": get_args(Stragglers), "failed": get_args(OnFailure)}

_LATENCIES = 200
_FEWEST_LATENCIES = 10
_USUAL = 0.9  # the part of the calls whose latency is what is usual
_RANGES: dict[str, tuple[float, float | None]] = {
    "quorum": (0.5, 1.0),
    "slow_factor": (1.0, None),
    "hedge_factor": (1.0, None),
    "hedge_floor_s": (0.0, None),
    "most_hedged": (0.0, 1.0),
}


@dataclass(frozen=True, slots=True)
class Scheduling:
    """Decisions that a run takes while it waits; each that is taken is in the journal.

    Args:
        stragglers: What happens where most of a generation is answered and the rest takes far longer than usual:
            `wait`; `drop`: the generation goes on without (a call is cancelled, and booked as what it may have cost);
            `hedge`: the call is sent once more, beside itself and paid for, and whichever is answered first counts.
        quorum: The part of a generation's candidates that must be answered before the rest may be dropped.
        slow_factor: A call may be dropped when it takes this many times as long as nine in ten calls did.
        hedge_factor: A call is sent again when it takes this many times as long as nine in ten calls did. Where calls
            take about the same time that is none but the stragglers, and where they do not about the slowest 5 %, for
            which Dean and Barroso (2013, "The Tail at Scale") send a second request.
        hedge_floor_s: Seconds that a call has to take before it is sent again, however quick the others are.
        most_hedged: Most calls sent again because they are slow, as a part of all calls of the run so far.
        over_ask: Candidates asked for beyond the population; a generation goes on as soon as a population of them is
            answered. A search that gives none, as `AskTell`, is refused before anything is sent.
        failed: What happens to a candidate that gets no usable answer, tried again though it was: `drop`: the
            optimiser is told without it; `impute`: it is told the worst value of the generation; `resample`: another
            candidate is scored in its place. Where too few are left to be told, the rest are imputed.
        tries: How often a call is sent again, under another key, whose answer was of no use (of the wrong shape, say).
        spares: Candidates held ready for `resample`.

    Raises:
        ValueError: A setting is out of its range; the message names it.
    """

    stragglers: Stragglers = "wait"
    quorum: float = 0.75
    slow_factor: float = 1.1
    hedge_factor: float = 1.5
    hedge_floor_s: float = 0.1
    most_hedged: float = 0.1
    over_ask: int = 0
    failed: OnFailure = "drop"
    tries: int = 2
    spares: int = 4

    def __post_init__(self) -> None:
        for choice, allowed in _CHOICES.items():
            if (value := getattr(self, choice)) not in allowed:
                raise ValueError(f"{choice} is {' or '.join(map(repr, allowed))}, not {value!r:.80}")
        for name in ("over_ask", "tries", "spares"):
            whole_number(name, getattr(self, name), at_least=0)
        for name, (least, most) in _RANGES.items():
            _check_number(name, getattr(self, name), least=least, most=most)

    @property
    def extra(self) -> int:
        """Candidates that the optimiser is asked for beyond its population."""
        return self.over_ask + (self.spares if self.failed == "resample" else 0)

    def late_s(self, usual_s: float) -> float:
        """Seconds from which on a call is a straggler, where nine in ten take `usual_s` at most."""
        if self.stragglers == "hedge":
            return max(self.hedge_factor * usual_s, self.hedge_floor_s)
        return self.slow_factor * usual_s


def _check_number(name: str, number: Any, *, least: float, most: float | None) -> None:
    is_number = isinstance(number, (int, float)) and not isinstance(number, bool)
    if not is_number or not least <= float(number) <= (sys.float_info.max if most is None else most):
        allowed = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} is a finite number, {allowed}, not {number!r:.80}")


@dataclass(frozen=True, slots=True)
class Needs:
    """What an optimiser can go on with.

    Args:
        population: Candidates of a generation.
        min_tell: Fewest values.
        must_have: Candidates that must have one.
    """

    population: int
    min_tell: int
    must_have: frozenset[int] = frozenset()


class LatencyRecord:
    """How long calls took, and so what is usual.

    Attributes:
        calls: Calls of the run, those sent again apart.
        hedged: Calls that were sent again because they were slow.
    """

    def __init__(self) -> None:
        self.calls = self.hedged = 0
        self._latencies_s: deque[float] = deque(maxlen=_LATENCIES)

    def add(self, latency_s: float) -> None:
        """A call took so long, or was given up after so long."""
        self._latencies_s.append(latency_s)

    def take_hedge(self, most: float) -> bool:
        """Whether one more call may be sent again, where so large a part of all may; then it is counted."""
        if self.hedged + 1 > most * self.calls:
            return False
        self.hedged += 1
        return True

    @property
    def usual_s(self) -> float | None:
        """What nine in ten calls took at most; None: too few have been answered to tell."""
        if len(self._latencies_s) < _FEWEST_LATENCIES:
            return None
        ordered = sorted(self._latencies_s)
        return ordered[math.ceil(_USUAL * len(ordered)) - 1]
