"""The effect of one setting: a search with other values of it, everything else as it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from lmaas_sdk.bench.accuracy import ordered_tasks, score_of
from lmaas_sdk.bench.cells import Cell
from lmaas_sdk.bench.configurations import Configuration, black_box
from lmaas_sdk.bench.results import CellResult, RowName
from lmaas_sdk.bench.sweep_results import SweepResult
from lmaas_sdk.bench.sweep_settings import SETTINGS
from lmaas_sdk.tuning.presets import Preset

__all__ = ["Sweep", "sweep_of"]


@dataclass(frozen=True, slots=True)
class Sweep:
    """One setting, its values, and the configuration of each.

    Args:
        name: Of the setting.
        base: What is varied: "black-box:paper".
        values: In the order of table and picture.
        configurations: One a value.
    """

    name: str
    base: str
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
        bases = {str(RowName(self.base, cell.evaluations, "")): None for cell in cells}
        models = {str(cell.model["name"]): None for cell in cells}
        return SweepResult(
            self.name, ", ".join(bases), self.values, ordered_tasks(metrics), metrics, scores, tuple(models)
        )


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
    base = black_box(preset)
    configurations = tuple(
        base if getattr(preset, setting.field) == value else _varied(preset, name, value) for value in tried
    )
    return Sweep(name, base.name, tried, configurations)


def _varied(preset: Preset, name: str, value: Any) -> Configuration:
    """The configuration with another value; one with the preset's own is that of the preset, in every table."""
    base = f"black-box:{preset.name}"
    configuration = black_box(
        replace(preset, **{SETTINGS[name].field: value}),
        name=f"{base}[{name}={value}]",
        title=f"Black-Box Tuning ({preset.name}, {name} = {value})",
    )
    return replace(configuration, swept=(name, base))
