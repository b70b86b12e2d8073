"""The effect of one setting: a search with other values of it, everything else as it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from lmaas_sdk.bench.accuracy import Score, ordered_tasks, score_of
from lmaas_sdk.bench.cells import Cell
from lmaas_sdk.bench.configurations import Configuration, black_box
from lmaas_sdk.bench.results import CellResult
from lmaas_sdk.bench.tables import score_words, task_title
from lmaas_sdk.reporting.report_figures import Curve, Figure, Look, Panel
from lmaas_sdk.reporting.report_tables import Column, Table
from lmaas_sdk.tuning.presets import Preset

__all__ = ["SETTINGS", "Setting", "Sweep", "SweepResult", "is_of_a_sweep", "sweep_of"]


@dataclass(frozen=True, slots=True)
class Setting:
    """What may be swept.

    Args:
        field: Of a preset.
        read: Reads a value from the command line.
        values: What is tried where nobody says.
        title: In tables and pictures.
    """

    field: str
    read: Callable[[str], Any]
    values: tuple[Any, ...]
    title: str

    @property
    def is_number(self) -> bool:
        return self.read is int


SETTINGS: Mapping[str, Setting] = MappingProxyType(
    {
        "d": Setting("d", int, (50, 100, 200, 500, 1000), "dimensions of the search, d"),
        "L": Setting("prompt_tokens", int, (5, 10, 20, 50, 100), "prompt tokens, L"),
        "population": Setting("population", int, (5, 10, 20, 30), "population"),
        "projection": Setting("projection", str, ("uniform", "normal"), "projection"),
        "loss": Setting("objective", str, ("ce", "hinge", "metric"), "loss"),
    }
)
"""By the name that the paper's figure 5 and the command line have for it, read-only."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """One setting, its values, and the configuration of each.

    Args:
        name: Of the setting.
        values: In the order of table and picture.
        configurations: One a value.
    """

    name: str
    values: tuple[Any, ...]
    configurations: tuple[Configuration, ...]

    def result(self, cells: Sequence[Cell], done: Sequence[CellResult]) -> SweepResult:
        """What is done of it.

        Args:
            cells: Those of the plan; a value that is the preset's own may have been measured under another name.
            done: All that is done.
        """
        by_key = {one.record["key"]: one for one in done}
        found: dict[int, dict[str, list[CellResult]]] = {}
        wanted: dict[tuple[int, str], int] = {}
        for cell in cells:
            place = self.configurations.index(cell.configuration)
            wanted[place, cell.task.name] = wanted.get((place, cell.task.name), 0) + 1
            if cell.key in by_key:
                found.setdefault(place, {}).setdefault(cell.task.name, []).append(by_key[cell.key])
        scores = tuple(
            {task: score_of(some, wanted[place, task]) for task, some in found.get(place, {}).items()}
            for place in range(len(self.values))
        )
        metrics = {cell.task.name: cell.task.metric for cell in cells}
        return SweepResult(self.name, self.values, ordered_tasks(metrics), metrics, scores)


def sweep_of(name: str, preset: Preset, values: Sequence[Any] | None = None) -> Sweep:
    """The configurations that differ in one setting.

    Args:
        name: d, L, population, projection or loss.
        preset: Everything else.
        values: None: the usual ones.

    Raises:
        ValueError: There is no such setting, or a value is out of its range or there twice.
        TypeError: A value is of another type.
    """
    if name not in SETTINGS:
        raise ValueError(f"a sweep is of {', '.join(SETTINGS)}, not {name!r:.80}")
    setting = SETTINGS[name]
    tried = tuple(setting.values if values is None else values)
    if len(set(tried)) < len(tried) or not tried:
        raise ValueError(f"a sweep tries values, each once, not {list(tried)!r:.120}")
    configurations = tuple(
        black_box(
            replace(preset, **{setting.field: value}),
            name=f"black-box:{preset.name}[{name}={value}]",
            title=f"Black-Box Tuning ({preset.name}, {name} = {value})",
        )
        for value in tried
    )
    return Sweep(name, tried, configurations)


def is_of_a_sweep(configuration: str) -> bool:
    """Whether a configuration of this name is one of a sweep, which has a table of its own."""
    return configuration.endswith("]")


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What a sweep came to.

    Args:
        name: Of the setting.
        values: In order.
        tasks: In order.
        metrics: By task.
        scores: By task, for each value; what is missing is not in it.
    """

    name: str
    values: tuple[Any, ...]
    tasks: tuple[str, ...]
    metrics: Mapping[str, str]
    scores: tuple[Mapping[str, Score], ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "setting": self.name,
            "values": list(self.values),
            "tasks": {
                task: [scores[task].to_dict() if task in scores else None for scores in self.scores]
                for task in self.tasks
            },
        }

    def table(self) -> Table:
        """A row a value, a column a task."""
        columns = (
            Column(self.name, SETTINGS[self.name].is_number),
            *(Column(task_title(task, self.metrics[task]), True) for task in self.tasks),
            Column("seeds", True),
            Column("tokens of a search", True),
        )
        rows = tuple(
            (str(value), *(score_words(scores.get(task)) for task in self.tasks), *_spent(list(scores.values())))
            for value, scores in zip(self.values, self.scores, strict=True)
        )
        return Table(f"Effect of the {SETTINGS[self.name].title}", columns, rows)

    def figure(self) -> Figure:
        """The mean, and one standard deviation to either side, over the values: a panel a task."""
        setting = SETTINGS[self.name]
        places = [float(value) if setting.is_number else at for at, value in enumerate(self.values, 1)]
        named = ", ".join(f"{at}: {value}" for at, value in enumerate(self.values, 1))
        label = setting.title if setting.is_number else named
        panels = tuple(Panel(task_title(task), label, self._curves(task, places)) for task in self.tasks)
        return Figure(f"sweep-{self.name}", f"Test metric by {setting.title}", panels)

    def _curves(self, task: str, places: Sequence[float]) -> tuple[Curve, ...]:
        found = [(at, scores[task]) for at, scores in zip(places, self.scores, strict=True) if task in scores]
        found.sort(key=lambda one: one[0])
        x = tuple(at for at, _ in found)
        kinds = (
            ("mean over seeds", 0, Look(0, width=2, marker="o")),
            ("plus one standard deviation", 1, Look(5, 1, 1)),
            ("minus one standard deviation", -1, Look(5, 2, 1)),
        )
        curves = [
            Curve(label, x, tuple(score.mean + by * (score.std or 0.0) for _, score in found), look)
            for label, by, look in kinds
        ]
        return tuple(curves) if found else ()


def _spent(scores: Sequence[Score]) -> tuple[str, str]:
    if not scores:
        return "0", "0"
    seeds = sorted({len(score.seeds) for score in scores})
    tokens = sum(score.tokens for score in scores) / len(scores)
    return " to ".join(dict.fromkeys(map(str, (seeds[0], seeds[-1])))), f"{tokens:,.0f}"
