"""The report of one or several runs: a page, and its curves as PNGs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmaas_sdk.errors import MissingExtra
from lmaas_sdk.reporting.curves import check_can_draw
from lmaas_sdk.reporting.report_figures import dev_figure, loss_figure
from lmaas_sdk.reporting.report_page import check_can_render, render_page
from lmaas_sdk.reporting.report_png import draw_png
from lmaas_sdk.reporting.report_runs import NamedRun, read_runs

__all__ = ["Report", "write_report"]


@dataclass(frozen=True, slots=True)
class Report:
    """A report that was written.

    Args:
        page: The HTML file.
        pictures: The PNGs: the train loss, and where candidates were scored on dev the metric.
        runs: What it is about.
    """

    page: Path
    pictures: tuple[Path, ...]
    runs: tuple[NamedRun, ...]


def write_report(runs: Sequence[str | Path], folder: str | Path) -> Report:
    """Writes `report.html` and its PNGs into a folder, which is made if need be; the same bytes for the same runs.

    Args:
        runs: Run files and journals.
        folder: A report that is there already is replaced.

    Raises:
        MissingExtra: jinja2 or matplotlib is not installed.
        ValueError: There are none, too many, or one twice.
        RunFileError, JournalError: One of them cannot be read.
        OSError: Nothing can be written there.
    """
    _check_extra()
    found, folder = read_runs(runs), Path(folder)
    page = render_page(found)
    pictures = {figure.key: draw_png(figure) for figure in (loss_figure(found), dev_figure(found)) if figure.legend}
    folder.mkdir(parents=True, exist_ok=True)
    paths = {folder / "report.html": page} | {folder / f"report-{key}.png": png for key, png in pictures.items()}
    for path, content in paths.items():
        path.write_bytes(content)
    first, *others = paths
    return Report(first, tuple(others), tuple(found))


def _check_extra() -> None:
    check_can_render()
    try:
        check_can_draw()
    except MissingExtra as missing:
        raise MissingExtra("a report needs matplotlib: pip install 'lmaas-sdk[report]'") from missing
