"""Pictures of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lmaas_sdk.accounting.money import NANOUSD_PER_USD
from lmaas_sdk.errors import MissingExtra
from lmaas_sdk.tuning.events import GenerationDone
from lmaas_sdk.tuning.result import TuningResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["check_can_draw", "draw_run"]

_LEGEND_ROOM = 0.3  # below the curves, as a part of their height
_BLUE, _ORANGE, _GREEN, _GREY = "#0b5394", "#c55a11", "#38761d", "#666666"


def check_can_draw() -> None:
    """Refuses to draw where that is not possible.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401, PLC0415  (optional and slow to import)
    except ImportError as error:
        raise MissingExtra("a picture needs matplotlib: pip install 'lmaas-sdk[plot]'") from error


def draw_run(result: TuningResult, path: str | Path) -> Path:
    """A PNG of loss, accuracy and spend over evaluations.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    check_can_draw()
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  (optional and slow to import)
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(12, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    loss, accuracy, spend = figure.subplots(1, 3)
    generations = result.generations
    _draw_loss(loss, generations)
    _draw_accuracy(accuracy, result, generations)
    _draw_spend(spend, result)
    for axes in (loss, accuracy, spend):
        axes.set_xlabel("evaluations")
        axes.grid(visible=True, alpha=0.3)
    figure.suptitle(f"{result.prompt.task.name} on {result.prompt.model}", parse_math=False)
    path = Path(path)
    figure.savefig(path, dpi=130, metadata={"Software": None})
    return path


def _draw_loss(axes: Axes, generations: list[GenerationDone]) -> None:
    x = [event.evaluations for event in generations]
    axes.plot(x, [event.median_loss for event in generations], color=_GREY, lw=1, label="median of a generation")
    axes.plot(x, [event.best_loss for event in generations], color=_BLUE, lw=1, label="best of a generation")
    axes.plot(x, [event.lowest_loss for event in generations], color=_ORANGE, lw=1.8, label="lowest so far")
    axes.set_title("train loss")
    axes.legend(fontsize=8)


def _draw_accuracy(axes: Axes, result: TuningResult, generations: list[GenerationDone]) -> None:
    evaluations = {event.generation: event.evaluations for event in generations}
    for kind, colour, marker in (("best", _BLUE, "o"), ("mean", _GREEN, "s")):
        scored = [choice for choice in result.dev_scored if choice.kind == kind and choice.dev is not None]
        x = [evaluations[choice.generation] for choice in scored]
        y = [choice.dev.value for choice in scored if choice.dev is not None]
        axes.plot(x, y, color=colour, marker=marker, ms=3, lw=1, label=f"dev, {kind}")
    for found, colour, name in ((result.manual, _GREY, "manual"), (result.test, _ORANGE, "tuned")):
        if found is not None:
            axes.axhline(found.value, color=colour, ls="--", lw=1.5, label=f"test, {name}: {100 * found.value:.1f} %")
    axes.set_title(result.prompt.task.metric)
    low, high = axes.get_ylim()
    axes.set_ylim(low - _LEGEND_ROOM * (high - low), high)
    axes.legend(fontsize=8, loc="lower right", ncols=2)


def _draw_spend(axes: Axes, result: TuningResult) -> None:
    priced = result.spent.nanousd > 0
    evaluations: list[float] = [0]
    spent = [0.0]
    for event in result.history:
        if isinstance(event, GenerationDone):
            evaluations.append(event.evaluations)
        else:
            evaluations.append(evaluations[-1])
        spent.append(event.spent.nanousd / NANOUSD_PER_USD if priced else float(event.spent.tokens))
    axes.plot(evaluations, spent, color=_BLUE, lw=1.5, label="spent")
    limit = result.budget["usd" if priced else "tokens"]
    if isinstance(limit, (int, float)):
        axes.axhline(limit, color=_ORANGE, ls="--", lw=1.5, label="budget")
    axes.set_title("spend in US dollars" if priced else "spend in tokens")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)
