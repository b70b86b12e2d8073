"""The figures of a report as values: which curves, over what, in which unit. The page and the PNGs both draw these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lmaas_sdk.accounting.money import NANOUSD_PER_USD
from lmaas_sdk.reporting.report_runs import NamedRun
from lmaas_sdk.tuning.run_record import DevRow, GenerationRow, RunRecord

__all__ = ["COLOURS", "DASHES", "Curve", "Figure", "Level", "Look", "Panel", "dev_figure", "is_priced", "loss_figure"]

COLOURS, DASHES = 6, 4
_Row = GenerationRow | DevRow


@dataclass(frozen=True, slots=True)
class Look:
    """How a curve is drawn: the number of its colour, of its kind of line (0: unbroken), its width (0: no line) and its
    marks."""

    colour: int
    dash: int = 0
    width: float = 1.5
    marker: str = ""


@dataclass(frozen=True, slots=True)
class Curve:
    """One value over another."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    look: Look


@dataclass(frozen=True, slots=True)
class Level:
    """A value that does not change."""

    label: str
    y: float
    look: Look


@dataclass(frozen=True, slots=True)
class Panel:
    """The curves of a figure over one thing.

    Args:
        over: That thing; "": the title of the figure says it.
        x_label: Its unit.
        curves: With x in this unit; there may be none.
        levels: Across the panel.
        names: What stands at x = 1, 2, ... in the place of numbers; none: numbers do.
        task: What it is of, where every panel is of another; "": all are of the same, with the same y.
    """

    over: str
    x_label: str
    curves: tuple[Curve, ...]
    levels: tuple[Level, ...] = ()
    names: tuple[str, ...] = ()
    task: str = ""

    def caption(self, title: str) -> str:
        """What it shows, in a figure of that title."""
        said = f"{title} over {self.over}" if self.over else title
        return f"{said}: {self.task}" if self.task else said


@dataclass(frozen=True, slots=True)
class Figure:
    """The same curves over evaluations, over money or tokens, and over time; or those of a task each.

    Args:
        key: For names of files.
        title: What y is.
        panels: In this order; their curves have the same labels and looks.
    """

    key: str
    title: str
    panels: tuple[Panel, ...]

    @property
    def legend(self) -> list[Curve | Level]:
        """Everything that has a label, once."""
        return [*self.panels[0].curves, *self.panels[0].levels]


def is_priced(runs: Sequence[NamedRun]) -> bool:
    """Whether all runs cost money; else tokens are what they are compared by."""
    return all(one.run.spent.nanousd > 0 for one in runs)


def loss_figure(runs: Sequence[NamedRun]) -> Figure:
    """The train loss: of one run in detail, of several the lowest so far."""
    if len(runs) > 1:
        return _figure(
            "train-loss",
            "Lowest train loss so far",
            runs,
            [
                _Lines(one.name, one.run.generations, lambda row: row.lowest_loss, _look(n))
                for n, one in enumerate(runs)
            ],
        )
    rows = runs[0].run.generations
    lines = [
        _Lines("median of a generation", rows, lambda row: row.median_loss, Look(5, width=1)),
        _Lines("lowest so far", rows, lambda row: row.lowest_loss, Look(1, width=4)),
        _Lines("best of a generation", rows, lambda row: row.best_loss, Look(0)),
    ]
    return _figure("train-loss", "Train loss", runs, lines)


def dev_figure(runs: Sequence[NamedRun]) -> Figure:
    """The metric on dev: of one run of both candidates of a look, of several the better of the two."""
    metrics = {one.run.metric for one in runs if one.run.metric is not None}
    title = f"Dev {metrics.pop()}" if len(metrics) == 1 else "Dev metric"
    if len(runs) > 1:
        lines = [
            _Lines(one.name, _better(one.run), lambda row: row.metric, _look(n, marker="o"))
            for n, one in enumerate(runs)
            if one.run.dev
        ]
        return _figure("dev-metric", title, runs, lines)
    (run,) = (one.run for one in runs)
    scored = [row for row in run.dev if row.metric is not None]
    lines = [
        _Lines(name, [row for row in scored if row.candidate == kind], lambda row: row.metric, look)
        for kind, name, look in (
            ("best", "best of the generation", Look(0, marker="o")),
            ("mean", "mean of the search", Look(2, dash=1, marker="s")),
        )
    ]
    tests = (("test set, manual prompt", run.manual, Look(5, dash=2)), ("test set, tuned prompt", run.tuned, Look(1)))
    levels = tuple(Level(name, score.value, look) for name, score, look in tests if score is not None and scored)
    return _figure("dev-metric", title, runs, lines, levels)


@dataclass(frozen=True, slots=True)
class _Axis:
    """What curves are drawn over.

    Args:
        over: Its name.
        x: Its value in a row.
        units: From which largest value on, what is one of it, and its name; the last fits any.
    """

    over: str
    x: Callable[[_Row], float]
    units: tuple[tuple[float, float, str], ...]


@dataclass(frozen=True, slots=True)
class _Lines:
    """A curve before it is known over what."""

    label: str
    rows: Sequence[GenerationRow] | Sequence[DevRow]
    y: Callable[..., float | None]
    look: Look

    def over(self, x: Callable[[_Row], float], unit: float) -> Curve:
        points = [(x(row) / unit, y) for row in self.rows if (y := self.y(row)) is not None]
        # a line needs two points: of one there is a mark to see, whatever is drawn besides
        look = replace(self.look, marker=self.look.marker or "o") if len(points) == 1 else self.look
        return Curve(self.label, tuple(x for x, _ in points), tuple(y for _, y in points), look)


_EVALUATIONS = _Axis("evaluations", lambda row: row.evaluations, ((0, 1, "evaluations"),))
_TIME = _Axis(
    "time",
    lambda row: row.elapsed_s,
    ((2 * 86400, 86400, "days"), (2 * 3600, 3600, "hours"), (5 * 60, 60, "minutes"), (0, 1, "seconds")),
)
_TOKENS = _Axis(
    "tokens",
    lambda row: row.spent.tokens,
    ((2e6, 1e6, "million tokens"), (2e3, 1e3, "thousand tokens"), (0, 1, "tokens")),
)
_MONEY = _Axis(
    "cost",
    lambda row: row.spent.nanousd / NANOUSD_PER_USD,
    (
        (2e-2, 1, "US dollars"),
        (2e-5, 1e-3, "thousandths of a US dollar"),
        (0, 1e-6, "millionths of a US dollar"),
    ),
)


def _figure(
    key: str, title: str, runs: Sequence[NamedRun], lines: Sequence[_Lines], levels: tuple[Level, ...] = ()
) -> Figure:
    lines = [line for line in lines if line.rows]
    panels = []
    for axis in (_EVALUATIONS, _MONEY if is_priced(runs) else _TOKENS, _TIME):
        largest = max((axis.x(row) for line in lines for row in line.rows), default=0.0)
        unit, label = next((unit, label) for least, unit, label in axis.units if largest >= least)
        panels.append(Panel(axis.over, label, tuple(line.over(axis.x, unit) for line in lines), levels))
    return Figure(key, title, tuple(panels))


def _look(number: int, *, marker: str = "") -> Look:
    """Of a run among others: colours first, then kinds of line."""
    return Look(number % COLOURS, number // COLOURS % DASHES, 2, marker)


def _better(run: RunRecord) -> list[DevRow]:
    """Of each look at dev the candidate with the better metric, the first where they are equal."""
    best: dict[int, DevRow] = {}
    for row in run.dev:
        before = best.get(row.generation)
        if row.metric is not None and (before is None or row.metric > (before.metric or 0.0)):
            best[row.generation] = row
    return list(best.values())
