"""An estimate as a table, for people: low, expected and high of every quantity."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from rich.markup import escape
from rich.table import Table

from lmaas_sdk.planning.estimated import QUANTITIES, Estimate
from lmaas_sdk.planning.ranges import Range
from lmaas_sdk.reporting.html import html_lines, html_table

__all__ = ["comparison_html", "comparison_line", "estimate_html", "estimate_table", "range_cells"]

_ENDS = ("low (5 %)", "expected", "high (95 %)")
_NAMES = {"cost_usd": "dollars", "wall_s": "time"}


def estimate_table(found: Estimate, *, title: str | None = None) -> Table:
    """A row a quantity."""
    table = Table(title=escape(title or f"a run on {found.model}"))
    for column in ("", *_ENDS):
        table.add_column(column, justify="right" if column else "left")
    for name in QUANTITIES:
        table.add_row(_NAMES.get(name, name), *range_cells(name, getattr(found, name)))
    if found.quota_days is not None:
        table.add_row("days of quota", *range_cells("days", found.quota_days))
    ends = "" if found.ends is None else f"; it ends about {found.ends.isoformat(sep=' ', timespec='minutes')}"
    table.caption = f"{_made_of(found)}{ends}"
    return table


def _made_of(found: Estimate) -> str:
    early = "" if found.generations.is_exact else "it may end before its budget does"
    if found.draws == 1:
        return early or "nothing is up to chance"
    return f"of {found.draws} runs played through"


def estimate_html(found: Estimate) -> str:
    """For a notebook: the table, how tokens were counted, and what there is to know besides."""
    counted = ", as they will be billed" if found.is_counted else ""
    notes = (f"note: {note}" for note in found.notes)
    return html_table(estimate_table(found)) + html_lines([f"tokens: {found.tokens_by}{counted}", *notes])


def comparison_html(found: Estimate, actual: Mapping[str, float | None]) -> str:
    """For a notebook: every quantity of an estimate beside what it came to; None: nobody knows."""
    rows = [
        (
            _NAMES.get(name, name),
            *range_cells(name, getattr(found, name)),
            "unknown" if came is None else _shown(name, came),
        )
        for name in QUANTITIES
        for came in (actual.get(name),)
    ]
    return html_table(head=("", *_ENDS, "actual"), rows=rows, caption="estimate against actual")


def comparison_line(found: Estimate, actual: Mapping[str, float | None]) -> str:
    """In a line: what came out as an estimate said, and what did not; what nobody knows is left out."""
    compared = {name: one for name, one in found.against(actual).items() if one is not None}
    outside = [name for name, one in compared.items() if one["is_within"] is False]
    within = [_NAMES.get(name, name) for name, one in compared.items() if one["is_within"]]
    told = [f"as estimated: {', '.join(within)}"] if within else []
    for name in outside:
        low, _, high = range_cells(name, getattr(found, name))
        came = _shown(name, actual[name] or 0.0)
        told.append(f"{_NAMES.get(name, name)} {came}, estimated {low if low == high else f'{low} .. {high}'}")
    return "; ".join(told)


def range_cells(name: str, found: Range | None) -> tuple[str, str, str]:
    """Low, expected and high of a quantity, by its name."""
    if found is None:
        return "", "unknown", ""
    low, expected, high = (_shown(name, end) for end in (found.low, found.expected, found.high))
    return low, expected, high


def _shown(name: str, amount: float) -> str:
    if name == "wall_s":
        return str(timedelta(seconds=round(amount))) if amount >= 60 else f"{amount:.1f} s"
    if name == "cost_usd":
        return f"{amount:,.2f}" if amount >= 1 else f"{amount:.6f}"
    return f"{round(amount):,}"
