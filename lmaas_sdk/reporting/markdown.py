"""A table of a report as Markdown."""

from __future__ import annotations

from lmaas_sdk.reporting.report_tables import Table

__all__ = ["markdown_table"]


def markdown_table(table: Table) -> str:
    """The table, its caption above it in bold; numbers stand right."""
    titles = [_cell(column.title) for column in table.columns]
    rules = ["---:" if column.is_number else "---" for column in table.columns]
    rows = [titles, rules, *([_cell(cell) for cell in row] for row in table.rows)]
    return "\n".join([f"**{_cell(table.caption)}**", "", *("| " + " | ".join(row) + " |" for row in rows)])


def _cell(value: object) -> str:
    """One line, and nothing in it that ends a cell."""
    return " ".join(str(value).split()).replace("|", "\\|")
