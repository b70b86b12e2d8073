"""A run as it is kept: what it found and cost, and how it went; no prompt, no backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lmaas_sdk.accounting.amounts import Amounts

__all__ = ["DevRow", "EstimatedQuantity", "GenerationRow", "RunRecord", "ScoredOnTest"]


@dataclass(frozen=True, slots=True)
class GenerationRow:
    """A generation: what `GenerationDone` says; `sigma` is None where it is not known."""

    generation: int
    evaluations: int | float
    best_loss: float
    median_loss: float
    lowest_loss: float
    sigma: float | None
    spent: Amounts
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class DevRow:
    """A candidate that was scored on dev.

    Args:
        generation: Of which it is.
        candidate: `best`: the generation's best by train loss; `mean`: the centre of the search after it.
        evaluations: Candidates scored on the training set by then.
        metric: The task's metric; None: it has no finite value.
        cross_entropy: Mean cross entropy over the label words; None likewise.
        spent, elapsed_s: As in `GenerationRow`.
    """

    generation: int
    candidate: str
    evaluations: int | float
    metric: float | None
    cross_entropy: float | None
    spent: Amounts
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class ScoredOnTest:
    """The metric on the test set, and its 95 % interval where there is one."""

    value: float
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class EstimatedQuantity:
    """A quantity as it was estimated before the run, and as it came; None: nobody knows."""

    low: float
    expected: float
    high: float
    actual: float | None
    is_within: bool | None


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run, read from its run file or from its journal. What a journal does not hold is None or empty.

    Args:
        kind: Which of the two it was read from.
        task, model, metric, preset: By name.
        seed: Of the search and the subspace.
        stopped: Why it ended; None: it has not, as far as its journal says.
        chosen_by: What the prompt was chosen by.
        evaluations: Candidates that the search learned from.
        manual, tuned: On the test set.
        spend: By purpose.
        unknown_outcomes: Attempts that are in `spend` at their worst case.
        budget: The limits of the run, by unit; None: no limit.
        wall_s: Seconds from start to end.
        waits: Seconds of the last process in which something waited, by cause; None: that was not recorded.
        estimate: By quantity; None: there was none. A quantity is None where it could not be estimated.
        warnings: What the run said, and what the file does not hold.
        versions: Packages, and the engine's fingerprint.
        generations, dev: In order.
    """

    kind: Literal["run file", "journal"]
    task: str | None
    model: str | None
    metric: str | None
    preset: str | None
    seed: int | None
    stopped: str | None
    chosen_by: str | None
    evaluations: int | float
    manual: ScoredOnTest | None
    tuned: ScoredOnTest | None
    spend: Mapping[str, Amounts]
    unknown_outcomes: int
    budget: Mapping[str, float | None]
    wall_s: float
    waits: Mapping[str, float] | None
    estimate: Mapping[str, EstimatedQuantity | None] | None
    warnings: tuple[str, ...]
    versions: Mapping[str, str]
    generations: tuple[GenerationRow, ...] = field(repr=False)
    dev: tuple[DevRow, ...] = field(repr=False)

    @property
    def spent(self) -> Amounts:
        """All that it cost."""
        return sum(self.spend.values(), Amounts())
