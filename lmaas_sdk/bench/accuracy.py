"""The paper's first table: what every configuration comes to on every task."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmaas_sdk.bench.configurations import CONFIGURATIONS
from lmaas_sdk.bench.results import CellResult, RowName
from lmaas_sdk.tasks import PAPER_TASKS, TASKS

__all__ = ["AccuracyRow", "AccuracyTable", "Score", "accuracy_of", "of_one_setting", "ordered_tasks", "score_of"]


@dataclass(frozen=True, slots=True)
class Score:
    """A configuration on a task.

    Args:
        values: The metric of each seed, in [0, 1]; of a configuration without seeds one.
        seeds: Those seeds; empty: none matters.
        test_rows: Rows it was taken on.
        limit: Evaluations of a search; None: there was no search.
        evaluations: What the searches spent on average, which may end early; None likewise.
        tokens: Billed for `fit`, on average.
        wanted: How many seeds there are to be; None: nobody said.
    """

    values: tuple[float, ...]
    seeds: tuple[int, ...]
    test_rows: int
    limit: int | None
    evaluations: float | None
    tokens: float
    wanted: int | None = None

    @property
    def mean(self) -> float:
        return statistics.mean(self.values)

    @property
    def std(self) -> float | None:
        """The standard deviation of the sample; None: there is one value."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def is_whole(self) -> bool:
        """Whether no seed is missing."""
        return not self.seeds or self.wanted is None or len(self.seeds) >= self.wanted

    def to_dict(self) -> dict[str, Any]:
        return {
            "mean": self.mean,
            "std": self.std,
            "values": list(self.values),
            "seeds": list(self.seeds),
            "test_rows": self.test_rows,
            "evaluations_limit": self.limit,
            "evaluations": self.evaluations,
            "tokens_of_fit": self.tokens,
            "is_whole": self.is_whole,
        }


@dataclass(frozen=True, slots=True)
class AccuracyRow:
    """A row: scores by task; a task that is missing is not in it.

    Args:
        name: Which.
        title: For people.
        scores: By task.
        is_merged: Whether it has the largest budget of each task, where no budget has all of them.
    """

    name: RowName
    title: str
    scores: Mapping[str, Score]
    is_merged: bool = False

    def average(self, tasks: Sequence[str]) -> float | None:
        """The mean over tasks; None: one of them is missing, or a seed of one."""
        found = [self.scores[task] for task in tasks if task in self.scores]
        if len(found) < len(tasks) or not all(score.is_whole for score in found):
            return None
        return statistics.mean(score.mean for score in found)


@dataclass(frozen=True, slots=True)
class AccuracyTable:
    """The table.

    Args:
        tasks: The columns: those of the paper in its order, then others.
        metrics: By task.
        rows: In the order of the paper.
        notes: What there is to know: what was left out, engines that differ.
    """

    tasks: tuple[str, ...]
    metrics: Mapping[str, str]
    rows: tuple[AccuracyRow, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "tasks": list(self.tasks),
            "metrics": dict(self.metrics),
            "rows": [
                {
                    "configuration": row.name.configuration,
                    "evaluations_limit": row.name.evaluations,
                    "is_merged": row.is_merged,
                    "title": row.title,
                    "average": row.average(self.tasks),
                    "tasks": {task: row.scores[task].to_dict() if task in row.scores else None for task in self.tasks},
                }
                for row in self.rows
            ],
            "notes": list(self.notes),
        }


def ordered_tasks(tasks: Iterable[str]) -> tuple[str, ...]:
    """Those of the paper in its order, then others by name."""
    found = set(tasks)
    return (*(task for task in PAPER_TASKS if task in found), *sorted(found - set(PAPER_TASKS)))


def accuracy_of(cells: Sequence[CellResult], *, wanted: Mapping[tuple[str, str], int] | None = None) -> AccuracyTable:
    """The table of what is done.

    Of a task that was measured on several models, test sets or sizes of the sample those count that most cells have;
    the others are told of in the notes.

    Args:
        cells: What is done.
        wanted: How many seeds there are to be, by row ("black-box:paper@8000") and task; a row or task of it that has
            nothing is a row or column all the same. None: what is there is all.
    """
    kept, notes = of_one_setting(cells)
    plan = wanted or {}
    tasks = ordered_tasks([*(cell.task for cell in kept), *(task for _, task in plan)])
    found: dict[RowName, dict[str, list[CellResult]]] = {}
    for cell in kept:
        found.setdefault(cell.row, {}).setdefault(cell.task, []).append(cell)
    rows = [
        AccuracyRow(
            name,
            _title(name, by_task),
            {task: score_of(some, plan.get((str(name), task))) for task, some in by_task.items()},
        )
        for name, by_task in found.items()
    ]
    rows += _merged(rows, tasks)
    there = {str(name) for name in found}
    rows += [AccuracyRow(name, _titled(_title_of(name), name), {}) for name in _absent(plan, there)]
    metrics = {task: TASKS[task].metric for task in tasks if task in TASKS} | {cell.task: cell.metric for cell in kept}
    return AccuracyTable(tasks, metrics, tuple(sorted(rows, key=_place)), (*notes, *_models(kept), *_engines(kept)))


def of_one_setting(cells: Sequence[CellResult]) -> tuple[list[CellResult], list[str]]:
    """The cells of each task that may stand beside one another, and what is said of those that may not."""
    kept, notes = list[CellResult](), list[str]()
    for task in ordered_tasks(cell.task for cell in cells):
        some = [cell for cell in cells if cell.task == task and cell.value is not None]
        counts = Counter(cell.setting for cell in some)
        usual = max(counts, key=lambda setting: counts[setting], default="")
        kept += [cell for cell in some if cell.setting == usual]
        if others := len(some) - counts[usual]:
            notes.append(f"{task}: {others} cells on another model, other test rows or another size of sample left out")
    return kept, notes


def score_of(cells: Sequence[CellResult], wanted: int | None = None) -> Score:
    """What the cells of one configuration on one task come to."""
    ordered = sorted(cells, key=lambda cell: -1 if cell.seed is None else cell.seed)
    searched = [float(cell.record["evaluations"]) for cell in cells if cell.record["evaluations_limit"] is not None]
    return Score(
        tuple(cell.value for cell in ordered if cell.value is not None),
        tuple(cell.seed for cell in ordered if cell.seed is not None),
        int(cells[0].record["rows"]["test"]),
        cells[0].record["evaluations_limit"],
        statistics.mean(searched) if searched else None,
        statistics.mean(float(cell.record["spend_of_fit"]["total"]["tokens"]) for cell in cells),
        wanted,
    )


def _title(name: RowName, by_task: Mapping[str, Sequence[CellResult]]) -> str:
    return _titled(next(str(cell.record["title"]) for some in by_task.values() for cell in some), name)


def _title_of(name: RowName) -> str:
    """Of a row that has no cell to say it."""
    known = CONFIGURATIONS.get(name.configuration)
    return name.configuration if known is None else known.title


def _titled(title: str, name: RowName) -> str:
    return title if name.evaluations is None else f"{title}, {name.evaluations:,} evaluations"


def _merged(rows: Sequence[AccuracyRow], tasks: Sequence[str]) -> list[AccuracyRow]:
    """A row for each configuration that has several budgets, none of them on all tasks."""
    by_name: dict[str, list[AccuracyRow]] = {}
    for row in sorted(rows, key=lambda row: row.name.evaluations or 0):
        by_name.setdefault(row.name.configuration, []).append(row)
    merged = []
    for configuration, some in by_name.items():
        if len(some) > 1 and not any(set(row.scores) >= set(tasks) for row in some):
            scores = {task: score for row in some for task, score in row.scores.items()}  # the largest comes last
            title = some[-1].title.rpartition(", ")[0] or some[-1].title
            merged.append(AccuracyRow(RowName(configuration, None, ""), f"{title}, its most evaluations", scores, True))
    return merged


def _absent(plan: Mapping[tuple[str, str], int], there: set[str]) -> list[RowName]:
    """Rows of the plan of which nothing is done."""
    names = dict.fromkeys(row for row, _ in plan if row not in there)
    parts = [name.rpartition("@") for name in names]
    return [
        RowName(configuration, int(number), "") if number.isdigit() and configuration else RowName(name, None, "")
        for name, (configuration, _, number) in zip(names, parts, strict=True)
    ]


def _place(row: AccuracyRow) -> tuple[int, str, int, str]:
    names = list(CONFIGURATIONS)
    name = row.name.configuration
    place = names.index(name) if name in names else len(names)
    return place, name, -1 if row.is_merged else row.name.evaluations or 0, row.name.settings


def _models(cells: Sequence[CellResult]) -> list[str]:
    by_model: dict[str, dict[str, None]] = {}
    for cell in cells:
        by_model.setdefault(cell.model, {})[cell.task] = None
    told = "; ".join(f"{', '.join(tasks)} on {model}" for model, tasks in by_model.items())
    return [f"measured on {len(by_model)} models: {told}"] if len(by_model) > 1 else []


def _engines(cells: Sequence[CellResult]) -> list[str]:
    found = sorted({str(cell.record["environment"]["fingerprint"]) for cell in cells})
    return [f"measured on {len(found)} engines: {'; '.join(found)}"] if len(found) > 1 else []
