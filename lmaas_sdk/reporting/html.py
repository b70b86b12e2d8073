"""Results as HTML for notebooks: tables that need no style sheet, in the colours of whatever surrounds them."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

__all__ = ["html_lines", "html_section", "html_table", "html_text"]

_CELL = "padding: .2em .7em; border-bottom: 1px solid rgba(128, 128, 128, .4)"
_TABLE = "border-collapse: collapse; margin: .5em 0; font-variant-numeric: tabular-nums"
_CAPTION = "text-align: left; font-weight: bold; padding: .2em .7em"


def html_text(text: object) -> str:
    """Any text, with nothing in it that a browser would take for more than text."""
    return html.escape(str(text))


def html_lines(lines: Iterable[str]) -> str:
    """Lines of text as a paragraph; nothing where there are none."""
    escaped = "<br>".join(map(html_text, lines))
    return f"<p>{escaped}</p>" if escaped else ""


def html_section(title: str, *parts: str) -> str:
    """Parts that are HTML under a title that is text, as a group that has that name."""
    name = html_text(title)
    return f'<section aria-label="{name}"><p><strong>{name}</strong></p>{"".join(parts)}</section>'


def html_table(
    table: Table | None = None,
    *,
    head: Sequence[str] = (),
    rows: Iterable[Sequence[object]] = (),
    caption: str = "",
) -> str:
    """A table whose columns and rows have headers that a screen reader finds.

    The first column names the rows, and stands left; numbers stand right.

    Args:
        table: A table for a terminal; its title becomes the caption, its caption a line below.
        head, rows, caption: Where there is no `table`.
    """
    below = ""
    if table is not None:
        head = [_plain(column.header) for column in table.columns]
        cells = ([_plain(cell) for cell in column.cells] for column in table.columns)
        rows = list(zip_longest(*cells, fillvalue=""))
        caption, below = _plain(table.title or ""), _plain(table.caption or "")
    columns = "".join(f'<th scope="col" style="{_style(n)}">{html_text(name)}</th>' for n, name in enumerate(head))
    body = "".join(f"<tr>{_row(row)}</tr>" for row in rows)
    title = f'<caption style="{_CAPTION}">{html_text(caption)}</caption>' if caption else ""
    return (
        f'<div style="overflow-x: auto"><table style="{_TABLE}">{title}'
        f"<thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table></div>{html_lines(below.splitlines())}"
    )


def _row(cells: Sequence[object]) -> str:
    first, *others = cells
    data = "".join(f'<td style="{_style(n)}">{html_text(cell)}</td>' for n, cell in enumerate(others, 1))
    return f'<th scope="row" style="{_style(0)}; font-weight: normal">{html_text(first)}</th>{data}'


def _style(column: int) -> str:
    return f"text-align: {'right' if column else 'left'}; {_CELL}"


def _plain(cell: RenderableType) -> str:
    """What stands in a cell for a terminal, without its markup."""
    return Text.from_markup(cell).plain if isinstance(cell, str) else str(cell)
