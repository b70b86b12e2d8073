"""What the tables are to tell: which tasks are above chance, whether black-box tuning beats the manual prompt there,
and whether a cheaper configuration does as well as the paper's.

A task is above chance where model tuning or the prior-calibrated manual prompt, neither of which is what is judged,
beats the majority class by two standard errors: so it is fixed before anything is tuned by calls. It is judged by
accuracy, whatever the metric of the task, for F1 of a constant answer is no chance level.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lmaas_sdk.bench.accuracy import ordered_tasks
from lmaas_sdk.bench.resampling import Difference, Drawn, Paired, difference_of, draws_of
from lmaas_sdk.bench.results import CellResult, RowName

__all__ = ["MARGIN", "AboveChance", "Comparison", "Comparisons", "compare", "comparisons_of"]

MARGIN = 0.01  # a point
_JUDGES = ("model-tuning", "manual-calibrated")
_STANDARD_ERRORS = 2.0
_ROUNDING = 1e-12  # means of the same rows that were added up in another order
_MANUAL = ("manual", "manual-calibrated")
_REFERENCE = "black-box:paper"
_SEARCHES = ("black-box", "deep-black-box")  # methods by calls alone, which are to beat the manual prompt


@dataclass(frozen=True, slots=True)
class AboveChance:
    """Whether something that is not judged beats the majority class on a task.

    Args:
        task: Which.
        judge: The configuration with the largest lead.
        accuracy, majority: Its accuracy on average over seeds, and the part of the most frequent class.
        standard_error: Of the difference: over test rows and over seeds.
    """

    task: str
    judge: str
    accuracy: float
    majority: float
    standard_error: float

    @property
    def lead(self) -> float:
        """The difference in standard errors; of one without any, infinite."""
        difference = self.accuracy - self.majority
        if abs(difference) < _ROUNDING:
            return 0.0
        return difference / self.standard_error if self.standard_error else math.copysign(math.inf, difference)

    @property
    def is_above(self) -> bool:
        return self.lead >= _STANDARD_ERRORS

    def to_dict(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "judge": self.judge,
            "accuracy": self.accuracy,
            "majority": self.majority,
            "standard_error": self.standard_error,
            "is_above": self.is_above,
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two rows, by seed and test row.

    Args:
        first, second: Their names.
        tasks: Those compared, with the seeds that both have.
        by_task: The first minus the second.
        average: On average over these tasks.
        missing: Tasks that one of them lacks.
    """

    first: str
    second: str
    tasks: Mapping[str, tuple[int, ...]]
    by_task: Mapping[str, Difference]
    average: Difference
    missing: tuple[str, ...] = ()

    @property
    def is_better(self) -> bool:
        """Whether the whole interval of the average is above 0."""
        return self.average.low > 0

    @property
    def is_not_inferior(self) -> bool:
        """Whether the whole interval of the average is above minus one point."""
        return self.average.low > -MARGIN

    def to_dict(self) -> dict[str, Any]:
        return {
            "first": self.first,
            "second": self.second,
            "seeds": {task: list(seeds) for task, seeds in self.tasks.items()},
            "by_task": {task: found.to_dict() for task, found in self.by_task.items()},
            "average": self.average.to_dict(),
            "missing": list(self.missing),
            "is_better": self.is_better,
            "is_not_inferior": self.is_not_inferior,
            "margin": MARGIN,
        }


@dataclass(frozen=True, slots=True)
class Comparisons:
    """All of them; what cannot be told yet is not in it.

    Args:
        above_chance: By task.
        against_manual: Every search against the manual prompt, as it is and calibrated, on the tasks above chance.
        against_paper: Every other search against the paper's setting at its largest budget, on all tasks.
    """

    above_chance: tuple[AboveChance, ...] = ()
    against_manual: tuple[Comparison, ...] = ()
    against_paper: tuple[Comparison, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "above_chance": [one.to_dict() for one in self.above_chance],
            "against_manual": [one.to_dict() for one in self.against_manual],
            "against_paper": [one.to_dict() for one in self.against_paper],
        }


_Rows = Mapping[RowName, Sequence[CellResult]]


def comparisons_of(cells: Sequence[CellResult]) -> Comparisons:
    """What can be told of the cells that are done; they are of one model, and of one set of test rows a task."""
    rows: dict[RowName, list[CellResult]] = {}
    for cell in cells:
        rows.setdefault(cell.row, []).append(cell)
    tasks = ordered_tasks(cell.task for cell in cells)
    chance = [found for task in tasks if (found := _chance(rows, task)) is not None]
    above = [one.task for one in chance if one.is_above]
    searches = [row for row, some in rows.items() if some[0].record["method"] in _SEARCHES]
    manual = [row for row in rows if row.configuration in _MANUAL]
    paper = max(
        (row for row in rows if row.configuration == _REFERENCE), key=lambda row: row.evaluations or 0, default=None
    )
    others = [row for row in searches if row != paper]
    return Comparisons(
        tuple(chance),
        tuple(one for row in manual for one in _all_against(rows, searches, row, above)),
        _all_against(rows, others, paper, tasks),
    )


def _all_against(
    rows: _Rows, firsts: Sequence[RowName], second: RowName | None, tasks: Sequence[str]
) -> tuple[Comparison, ...]:
    if second is None:
        return ()
    found = [compare(rows[first], rows[second], tasks) for first in firsts]
    return tuple(one for one in found if one is not None)


def compare(first: Sequence[CellResult], second: Sequence[CellResult], tasks: Sequence[str]) -> Comparison | None:
    """Two rows on those of the tasks that both have, by the seeds that both have.

    Args:
        first, second: The cells of each row.
        tasks: On which.

    Returns:
        None where there is no such task.
    """
    drawn, seeds = dict[str, Drawn](), dict[str, tuple[int, ...]]()
    for task in tasks:
        found = _paired(*({cell.seed: cell for cell in side if cell.task == task} for side in (first, second)))
        if found is not None:
            drawn[task], seeds[task] = draws_of(found[0]), found[1]
    if not drawn:
        return None
    return Comparison(
        str(first[0].row),
        str(second[0].row),
        seeds,
        {task: difference_of([one]) for task, one in drawn.items()},
        difference_of(list(drawn.values())),
        tuple(task for task in tasks if task not in drawn),
    )


_BySeed = Mapping[int | None, CellResult]


def _paired(first: _BySeed, second: _BySeed) -> tuple[Paired, tuple[int, ...]] | None:
    """The predictions of both, seed by seed; one whose seed does not matter has the same for all."""
    if not first or not second:
        return None
    sides, seeds = (first, second), tuple(sorted(_seeds(first) & _seeds(second) or _seeds(first) | _seeds(second)))
    if any(None not in side and not set(seeds) <= side.keys() for side in sides):
        return None
    one = next(iter(first.values()))
    chosen = [[side[None]] if None in side else [side[seed] for seed in seeds] for side in sides]
    first_side, second_side = ([cell.predictions for cell in some] for some in chosen)
    return Paired(one.task, one.metric, one.labels, first_side, second_side), seeds


def _seeds(side: _BySeed) -> set[int]:
    return {seed for seed in side if seed is not None}


def _chance(rows: _Rows, task: str) -> AboveChance | None:
    """The judge with the largest lead; None: none of them was measured."""
    judged = [
        _judged(task, str(row), found)
        for row, cells in rows.items()
        if row.configuration in _JUDGES and (found := [cell for cell in cells if cell.task == task])
    ]
    return max(judged, key=lambda one: one.lead, default=None)


def _judged(task: str, judge: str, cells: Sequence[CellResult]) -> AboveChance:
    labels = cells[0].labels
    is_right = np.stack([cell.predictions == labels for cell in cells]).astype(float)  # (n_seeds, n_rows)
    is_majority = (labels == np.bincount(labels).argmax()).astype(float)
    differences, by_seed = is_right.mean(axis=0) - is_majority, is_right.mean(axis=1)
    variance = float(np.var(differences, ddof=1)) / len(labels) if len(labels) > 1 else 0.0
    if len(cells) > 1:
        variance += float(np.var(by_seed, ddof=1)) / len(cells)
    return AboveChance(task, judge, float(is_right.mean()), float(is_majority.mean()), math.sqrt(variance))
