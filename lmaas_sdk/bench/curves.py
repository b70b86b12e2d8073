"""How searches went: the best dev metric so far over evaluations, a panel a task."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

from lmaas_sdk.bench.accuracy import ordered_tasks
from lmaas_sdk.bench.results import CellResult
from lmaas_sdk.bench.tables import task_title
from lmaas_sdk.reporting.report_figures import COLOURS, DASHES, Curve, Look, Panel

__all__ = ["dev_panels"]

_Steps = list[tuple[float, float]]


def dev_panels(cells: Sequence[CellResult]) -> tuple[tuple[Panel, ...], tuple[Curve, ...]]:
    """The panels, and what each kind of line stands for."""
    searched = [cell for cell in cells if cell.record.get("dev_curve")]
    names = list(dict.fromkeys(str(cell.row) for cell in searched))
    looks = {name: Look(n % COLOURS, n // COLOURS % DASHES, 2) for n, name in enumerate(names)}
    panels = []
    for task in ordered_tasks(cell.task for cell in searched):
        curves = []
        for name, look in looks.items():
            steps = [_steps(cell) for cell in searched if cell.task == task and str(cell.row) == name]
            if steps:
                curves.append(_mean(name, steps, look))
        panels.append(Panel(f"evaluations, {task_title(task)}", "evaluations", tuple(curves)))
    return tuple(panels), tuple(Curve(name, (), (), look) for name, look in looks.items())


def _steps(cell: CellResult) -> _Steps:
    """The best so far of one search, at each look at dev."""
    found: _Steps = []
    best = -1.0
    for at, value in cell.record["dev_curve"]:
        best = best if value is None else max(best, float(value))
        found.append((float(at), best))
    return found


def _mean(name: str, searches: Sequence[_Steps], look: Look) -> Curve:
    """On average over seeds, from where all have looked; one that ended early stays where it was."""
    first = max(steps[0][0] for steps in searches)
    x = sorted({at for steps in searches for at, _ in steps if at >= first})
    y = tuple(statistics.mean(_at(steps, at) for steps in searches) for at in x)
    return Curve(name, tuple(x), y, look if len(x) > 1 else replace(look, marker="o"))


def _at(steps: _Steps, at: float) -> float:
    return [value for place, value in steps if place <= at][-1]
