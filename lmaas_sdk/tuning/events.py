"""What a run tells while it goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.traffic.waits import Cause
from lmaas_sdk.tuning.selection import Choice

__all__ = [
    "DevScored",
    "Event",
    "GenerationDone",
    "Listener",
    "Resumed",
    "RunPlanned",
    "Waiting",
    "dev_scored_of",
    "generations_of",
]


@dataclass(frozen=True, slots=True)
class RunPlanned:
    """Before the first call: how far the budget reaches.

    Args:
        generations: Most generations; None: only time limits them.
        population: Candidates of each.
    """

    generations: int | None
    population: int


@dataclass(frozen=True, slots=True)
class Resumed:
    """What the journal of a run holds is done again, and cost nothing; from here on it is new.

    Args:
        generations: Generations that it holds.
        evaluations: Candidates that they scored.
        spent: Everything posted so far.
    """

    generations: int
    evaluations: int | float
    spent: Amounts


@dataclass(frozen=True, slots=True)
class GenerationDone:
    """A generation was scored and told.

    Args:
        generation: 0, 1, ...
        evaluations: Candidates scored on the training set so far.
        best_loss, median_loss: Train loss within this generation.
        lowest_loss: Train loss, the lowest so far.
        sigma: Step size.
        missing: Candidates without a loss of their own: they failed, were too slow, or a race dropped them.
        spent: Everything posted so far.
        elapsed_s: Seconds since the run began.
        waits: Seconds that went into waits so far, by cause, as in `TuningResult.waits`.
    """

    generation: int
    evaluations: int | float
    best_loss: float
    median_loss: float
    lowest_loss: float
    sigma: float
    missing: int
    spent: Amounts
    elapsed_s: float
    waits: Mapping[Cause, float] = field(default_factory=dict, compare=False)

    def to_row(self) -> dict[str, float]:
        """The part that repeats byte for byte: no spend, no time."""
        names = ("generation", "evaluations", "best_loss", "median_loss", "lowest_loss", "sigma", "missing")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class DevScored:
    """A candidate was scored on the dev set; `spent` and `elapsed_s` as in `GenerationDone`."""

    choice: Choice
    spent: Amounts
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """A call is about to wait.

    A wait for other runs of a group is not told, as nobody knows how long it will be; `TuningResult.waits` has it.

    Args:
        seconds: How long, at most.
        reason: What it waits for, in words: the error of the attempt before.
        cause: The same as a name: "quota" (the client's own count of the quota), "rate_limit" (a 429), "retry" (backoff
            after another failure), "outage" (the tuner asks a backend again that is away).
    """

    seconds: float
    reason: str
    cause: Cause


History = Sequence[GenerationDone | DevScored]


def generations_of(history: History) -> list[GenerationDone]:
    """The generations of a run, in order."""
    return [event for event in history if isinstance(event, GenerationDone)]


def dev_scored_of(history: History) -> list[Choice]:
    """The candidates that were scored on the dev set, in order."""
    return [event.choice for event in history if isinstance(event, DevScored)]


Event = RunPlanned | Resumed | GenerationDone | DevScored | Waiting
"""Whatever a run tells."""
Listener = Callable[[Event], Awaitable[None] | None]
"""Takes every event of a run, on the event loop's thread: `fit(on_event=)`."""
