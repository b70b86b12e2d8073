"""The page of a report: one HTML file that needs nothing else, no script and no network."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import importlib.resources
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lmaas_sdk.errors import MissingExtra
from lmaas_sdk.reporting.report_figures import Curve, Figure, Level, dev_figure, is_priced, loss_figure
from lmaas_sdk.reporting.report_runs import NamedRun, printable
from lmaas_sdk.reporting.report_svg import HEIGHT, LEFT, WIDTH, DrawnPanel, draw_panel
from lmaas_sdk.reporting.report_tables import (
    Table,
    dev_table,
    estimate_table,
    facts_of,
    generations_table,
    spend_table,
    summary_table,
    versions_table,
    waits_table,
    warnings_table,
)

__all__ = ["Section", "check_can_render", "page_of", "render_page"]

_NO_GENERATION = "No generation was finished."
_NO_DEV = "No candidate was scored on a dev set, or only a journal tells of it, which holds no metric."
_NO_WAITS = "How long was waited, and for what, was not recorded."
_NEVER_WAITED = "Nothing was waited for"
_NO_ESTIMATE = "The run was not estimated before it began, or its file does not say so."


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page under a heading.

    Args:
        title: The heading.
        paragraphs: Text under it.
        facts: A word each.
        panels, legend: Of its figure; none: it has none.
        tables: Under that.
        summary: What the tables are folded away behind; "": they are not.
        is_half: Whether it has another beside it where there is room.
    """

    title: str
    paragraphs: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    panels: tuple[DrawnPanel, ...] = ()
    legend: tuple[Curve | Level, ...] = ()
    tables: tuple[Table, ...] = ()
    summary: str = ""
    is_half: bool = False


def check_can_render() -> None:
    """Refuses to make a page where that is not possible.

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    try:
        import jinja2  # noqa: F401, PLC0415  (optional)
    except ImportError as error:
        raise MissingExtra("a report needs jinja2: pip install 'lmaas-sdk[report]'") from error


def render_page(runs: Sequence[NamedRun]) -> bytes:
    """The page, the same bytes for the same runs.

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    check_can_render()
    return page_of(_title(runs), _introduction(runs), _sections(runs), made_by="report", is_narrow=len(runs) == 1)


def page_of(
    title: str, introduction: Sequence[str], sections: Sequence[Section], *, made_by: str, is_narrow: bool = False
) -> bytes:
    """A page of sections, the same bytes for the same ones.

    Args:
        title, introduction: What stands above them.
        sections: In order.
        made_by: Which command.
        is_narrow: Whether it is as for one run.

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    check_can_render()
    import jinja2  # noqa: PLC0415  (optional)

    files = importlib.resources.files(__package__)
    style = (files / "report.css").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.from_string((files / "report.html.jinja").read_text("utf-8"))
    text = page.render(
        title=title,
        introduction=introduction,
        is_single=is_narrow,
        sections=sections,
        size={"width": WIDTH, "height": HEIGHT, "left": LEFT},
        style=style,
        style_sha256=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        version=importlib.metadata.version("lmaas-sdk"),
        made_by=made_by,
    )
    return text.encode("utf-8")


def _title(runs: Sequence[NamedRun]) -> str:
    if len(runs) > 1:
        return f"Report of {len(runs)} runs"
    return f"Report of the run {runs[0].name}"


def _introduction(runs: Sequence[NamedRun]) -> tuple[str, ...]:
    told = {(printable(one.run.task or "a task"), printable(one.run.model or "a model")) for one in runs}
    is_mixed = not is_priced(runs) and any(one.run.spent.nanousd for one in runs)
    return (
        *(f"{task} on {model}" for task, model in told if len(told) == 1),
        *(["Not every run cost money, so they are compared by tokens."] if is_mixed else []),
    )


def _sections(runs: Sequence[NamedRun]) -> list[Section]:
    priced, notes = is_priced(runs), warnings_table(runs)
    estimates = [(estimate_table(one), one.run.estimate is None) for one in runs]
    return [
        _summary(runs),
        _curves(loss_figure(runs), _NO_GENERATION, {one.name: generations_table(one, priced=priced) for one in runs}),
        _curves(dev_figure(runs), _NO_DEV, {one.name: dev_table(one, priced=priced) for one in runs}),
        Section("Spend by purpose", tables=tuple(spend_table(one) for one in runs), is_half=True),
        _waits(runs),
        _each("Estimate against actual", _NO_ESTIMATE, estimates),
        *([Section("Notes", tables=(notes,))] if notes.rows else []),
        Section("Versions", tables=(versions_table(runs),), summary="What computed it"),
    ]


def _summary(runs: Sequence[NamedRun]) -> Section:
    if len(runs) > 1:
        return Section("Summary", tables=(summary_table(runs),))
    return Section("Summary", facts=facts_of(runs[0].run))


def _curves(figure: Figure, without: str, tables: Mapping[str, Table]) -> Section:
    """A figure with the numbers behind it, by run."""
    missing = [name for name, table in tables.items() if not table.rows]
    if not figure.panels[0].curves:
        return Section(figure.title, (without,))
    return Section(
        figure.title,
        (f"Without such a curve: {', '.join(missing)}.",) if len(tables) > 1 and missing else (),
        panels=tuple(draw_panel(figure.title, panel) for panel in figure.panels),
        legend=tuple(figure.legend),
        tables=tuple(table for table in tables.values() if table.rows),
        summary="The numbers behind these pictures",
    )


def _waits(runs: Sequence[NamedRun]) -> Section:
    """A table a run that has waited, and the names of those that have not."""
    told = [(one.name, waits_table(one)) for one in runs if one.run.waits is not None]
    never = [name for name, table in told if not table.rows]
    said = [f"{_NEVER_WAITED}: {', '.join(never)}." if len(runs) > 1 else f"{_NEVER_WAITED}."] if never else []
    waited = tuple(table for _, table in told if table.rows)
    return Section("Waits by cause", tuple(said) if told else (_NO_WAITS,), tables=waited, is_half=True)


def _each(title: str, without: str, tables: Sequence[tuple[Table, bool]]) -> Section:
    """A table a run, where the run tells of it."""
    told = tuple(table for table, is_missing in tables if not is_missing)
    return Section(title, () if told else (without,), tables=told)
