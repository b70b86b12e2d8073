"""What sweeps came to, as a table and a picture each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from lmaas_sdk.bench.accuracy import Score, of_one_setting, ordered_tasks, score_of
from lmaas_sdk.bench.results import CellResult, RowName
from lmaas_sdk.bench.sweep_settings import SETTINGS
from lmaas_sdk.bench.tables import score_words, spent_words, task_title
from lmaas_sdk.canonical import digest
from lmaas_sdk.reporting.report_figures import Curve, Figure, Look, Panel
from lmaas_sdk.reporting.report_tables import Column, Table
from lmaas_sdk.tuning.presets import Preset

__all__ = ["SweepResult", "sweeps_in"]

_MOST_OF_A_NAME = 16
_LINES = (
    ("mean over seeds", 0, Look(0, width=2, marker="o")),
    ("plus one standard deviation", 1, Look(5, 1, 1)),
    ("minus one standard deviation", -1, Look(5, 2, 1)),
)
_POINTS = (
    ("mean over seeds", 0, Look(0, width=0, marker="o")),
    ("plus one standard deviation", 1, Look(5, width=0, marker="s")),
    ("minus one standard deviation", -1, Look(1, width=0, marker="s")),
)
_USUAL = {setting.name: setting.default for setting in fields(Preset)}


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What a sweep came to.

    Args:
        name: Of the setting.
        base: The configuration that is varied, with its evaluations: "black-box:paper@2000".
        values: In order.
        tasks: In order.
        metrics: By task.
        scores: By task, for each value; what is missing is not in it.
        models: On which it was measured.
        notes: What was left out.
    """

    name: str
    base: str
    values: tuple[Any, ...]
    tasks: tuple[str, ...]
    metrics: Mapping[str, str]
    scores: tuple[Mapping[str, Score], ...]
    models: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "setting": self.name,
            "base": self.base,
            "models": list(self.models),
            "values": list(self.values),
            "tasks": {
                task: [scores[task].to_dict() if task in scores else None for scores in self.scores]
                for task in self.tasks
            },
        }

    def tables(self) -> list[Table]:
        """The effect, and what each cell of that stands for: a row a value, a column a task."""
        title = f"the {SETTINGS[self.name].title}, on {self.base}"
        return [
            Table(f"Effect of {title}", self._columns(), self._rows(score_words)),
            Table(f"Budget, seeds and test rows: {title}", self._columns(), self._rows(spent_words)),
        ]

    def _columns(self) -> tuple[Column, ...]:
        titles = [*(task_title(task, self.metrics[task]) for task in self.tasks), "tokens of a search"]
        return Column(self.name, SETTINGS[self.name].is_number), *(Column(title, True) for title in titles)

    def _rows(self, say: Callable[[Score | None], str]) -> tuple[tuple[str, ...], ...]:
        return tuple(
            (str(value), *(say(scores.get(task)) for task in self.tasks), _tokens(scores.values()))
            for value, scores in zip(self.values, self.scores, strict=True)
        )

    def figure(self) -> Figure:
        """The mean, and one standard deviation to either side, in points over the values: a panel a task."""
        setting = SETTINGS[self.name]
        names = () if setting.is_number else tuple(f"{value}"[:_MOST_OF_A_NAME] for value in self.values)
        panels = tuple(
            Panel("", setting.title, self._curves(task), names=names, task=task_title(task, self.metrics[task]))
            for task in self.tasks
        )
        name = f"sweep-{self.name}-{re.sub('[^a-z0-9]+', '-', self.base.lower())}"
        return Figure(name, f"Test metric in points of {self.base} by {setting.title}", panels)

    def _curves(self, task: str) -> tuple[Curve, ...]:
        """Lines over numbers; words lie beside one another without anything between them."""
        is_number = SETTINGS[self.name].is_number
        places = [float(value) if is_number else at for at, value in enumerate(self.values, 1)]
        found = [(at, scores[task]) for at, scores in zip(places, self.scores, strict=True) if task in scores]
        found.sort(key=lambda one: one[0])
        x = tuple(at for at, _ in found)
        curves = [
            Curve(label, x, tuple(100 * (score.mean + by * (score.std or 0.0)) for _, score in found), look)
            for label, by, look in (_LINES if is_number else _POINTS)
        ]
        return tuple(curves) if found else ()


def sweeps_in(done: Iterable[CellResult]) -> list[SweepResult]:
    """All sweeps that were measured, each on one model.

    A value that is the preset's own is measured as no part of a sweep; what there is of it on the same tasks with the
    same seeds counts.

    Args:
        done: All that is done.
    """
    done = list(done)
    found: dict[tuple[Any, ...], list[CellResult]] = {}
    for cell in done:
        if cell.swept is not None:
            found.setdefault(_apart_from(cell.swept[0], cell), []).append(cell)
    results = []
    for rest, swept in found.items():
        (name, base), places = swept[0].swept or ("", ""), {(cell.task, cell.seed) for cell in swept}
        alike = [cell for cell in done if (cell.task, cell.seed) in places and _apart_from(name, cell) == rest]
        row = RowName(base, swept[0].record["evaluations_limit"], "")
        results.append(_result_of(name, str(row), alike))
    return results


def _apart_from(name: str, cell: CellResult) -> tuple[Any, ...]:
    """What the cells of a sweep have in common."""
    record = cell.record
    rest = {setting: value for setting, value in record["settings"].items() if setting != SETTINGS[name].field}
    return name, record["method"], digest([rest, record["model"]]), record["evaluations_limit"]


def _result_of(name: str, base: str, cells: Sequence[CellResult]) -> SweepResult:
    cells, notes = of_one_setting(cells)
    setting, by_place = SETTINGS[name], dict[Any, dict[str, list[CellResult]]]()
    for cell in cells:
        value = cell.record["settings"].get(setting.field, _USUAL[setting.field])
        by_place.setdefault(value, {}).setdefault(cell.task, []).append(cell)
    values = sorted(by_place, key=None if setting.is_number else setting.place)
    tasks = ordered_tasks(cell.task for cell in cells)
    wanted = {task: max(len(found.get(task, [])) for found in by_place.values()) for task in tasks}
    return SweepResult(
        name,
        base,
        tuple(values),
        tasks,
        {cell.task: cell.metric for cell in cells},
        tuple({task: score_of(some, wanted[task]) for task, some in by_place[value].items()} for value in values),
        tuple(dict.fromkeys(cell.model for cell in cells)),
        tuple(f"{name} of {base}: {note}" for note in notes),
    )


def _tokens(scores: Iterable[Score]) -> str:
    found = [score.tokens for score in scores]
    return f"{sum(found) / len(found):,.0f}" if found else "0"
