"""A figure of a report as a PNG: the same curves as on the page, for slides and papers."""

from __future__ import annotations

import io
import textwrap
import warnings
from typing import TYPE_CHECKING, Any

from lmaas_sdk.reporting.curves import check_can_draw
from lmaas_sdk.reporting.report_figures import Figure, Look, Panel
from lmaas_sdk.reporting.report_svg import span_of, width_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.layout_engine import LayoutEngine

__all__ = ["draw_png"]

_COLOURS = ("#0b5394", "#b4500b", "#2b7030", "#8a1a9c", "#b3261e", "#5c646d")  # the page's own, on white
_DASHES = ("-", (0, (5, 2)), (0, (1.5, 2)), (0, (6, 2, 1.5, 2)))
_WIDTH_IN, _PANEL_IN, _LEGEND_ROW_IN = 12.5, 3.6, 0.26
_IN_A_ROW = 4
_Y_LABEL_CHARACTERS = 32  # a line of a label beside the axis, which is about 2.5 inches high


def draw_png(figure: Figure) -> bytes:
    """The panels side by side on white, the legend below them.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    check_can_draw()
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  (optional and slow to import)
    from matplotlib.figure import Figure as Canvas  # noqa: PLC0415

    rows = -(-len(figure.legend) // _IN_A_ROW)
    canvas = Canvas(figsize=(_WIDTH_IN, _PANEL_IN + rows * _LEGEND_ROW_IN), layout=_layout())
    FigureCanvasAgg(canvas)
    is_by_task = any(panel.task for panel in figure.panels)
    (row,) = canvas.subplots(1, len(figure.panels), sharey=not is_by_task, squeeze=False)
    for axes, panel in zip(row, figure.panels, strict=True):
        _draw(axes, panel)
    title = textwrap.fill(figure.title, _Y_LABEL_CHARACTERS, break_on_hyphens=False)
    canvas.axes[0].set_ylabel(title, parse_math=False)
    handles, labels = canvas.axes[0].get_legend_handles_labels()
    legend = canvas.legend(handles, labels, loc="outside lower center", ncols=_IN_A_ROW, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)  # a run may be called $x$
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)  # a name in a script without a font
        canvas.savefig(out, format="png", dpi=130, metadata={"Software": None})
    return out.getvalue()


def _layout() -> LayoutEngine:
    from matplotlib.layout_engine import ConstrainedLayoutEngine  # noqa: PLC0415  (optional and slow to import)

    return ConstrainedLayoutEngine(wspace=0.05)  # else the last number of an axis touches the first of the next


def _draw(axes: Axes, panel: Panel) -> None:
    for level in panel.levels:
        axes.axhline(level.y, label=_label(level.label), **_style(level.look))
    for curve in panel.curves:
        axes.plot(curve.x, curve.y, label=_label(curve.label), marker=curve.look.marker, ms=4, **_style(curve.look))
    axes.set_xlabel(panel.x_label)
    axes.set_title(panel.task, parse_math=False)
    axes.set_xlim(*(width_of(panel) if panel.names else (0, None)))
    if panel.names:
        axes.set_xticks(range(1, len(panel.names) + 1), labels=panel.names, parse_math=False)
    axes.set_ylim(*span_of(panel))
    axes.grid(visible=True, alpha=0.3)


def _style(look: Look) -> dict[str, Any]:
    return {"color": _COLOURS[look.colour], "ls": _DASHES[look.dash], "lw": look.width}


def _label(name: str) -> str:
    """matplotlib leaves labels that begin with an underscore out of its legend."""
    return f"\N{ZERO WIDTH SPACE}{name}" if name.startswith("_") else name
