"""How an estimate is printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from rich.markup import escape
from rich.table import Table

from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.money import usd
from lmaas_sdk.cli.console import stdout_console
from lmaas_sdk.planning.estimated import QUANTITIES, Estimate
from lmaas_sdk.planning.ranges import Range
from lmaas_sdk.reporting.estimate_tables import estimate_table, range_cells

__all__ = ["Asked", "Shape", "show"]

_WIDTH_OF_A_FILE = 140  # where there is no terminal

Shape = tuple[int, bool, Estimate]
"""Candidates a call, whether there is dev scoring, and what the run then comes to."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked beside the estimate.

    Args:
        models: The run at the prices of these.
        fits_usd, fits: What fits into so much money.
        budget: What reaches the evaluations that were asked for.
        shapes: The run with other numbers of candidates a call.
    """

    models: Mapping[str, Estimate]
    fits_usd: str | None
    fits: Estimate | None
    budget: Budget | None
    shapes: Sequence[Shape]

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON; None where nothing was asked."""
        return {
            "models": {model: found.to_dict()["cost_usd"] for model, found in self.models.items()} or None,
            "fits": None if self.fits is None else self.fits.to_dict(),
            "budget_for": None if self.budget is None else _limits(self.budget),
            "shapes": [_row(*shape) for shape in self.shapes] or None,
        }


def show(found: Estimate, asked: Asked) -> None:
    """Prints tables for people."""
    console = stdout_console(file_width=_WIDTH_OF_A_FILE)
    console.print(estimate_table(found))
    if asked.models:
        console.print(_models_table(asked.models))
    if asked.shapes:
        console.print(_shapes_table(asked.shapes))
    if asked.fits is not None:
        console.print(estimate_table(asked.fits, title=f"what fits into {asked.fits_usd} dollars"))
    if asked.budget is not None:
        limits = {unit: amount for unit, amount in _limits(asked.budget).items() if amount is not None}
        console.print("a budget that reaches that: " + ", ".join(f"{unit} {amount}" for unit, amount in limits.items()))
    counted = ", as they will be billed" if found.is_counted else ""
    console.print(f"tokens: {found.tokens_by}{counted}", soft_wrap=True, highlight=False, markup=False)
    if found.probed is not None:
        console.print(f"the probe took {found.probed.calls} calls and {found.probed.tokens:,} tokens")
    for note in found.notes:
        console.print(f"note: {note}", soft_wrap=True, highlight=False, markup=False)


def _models_table(models: Mapping[str, Estimate]) -> Table:
    table = Table(title="at the price of")
    for column in ("model", "low", "expected", "high"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for model, found in models.items():
        table.add_row(escape(model), *range_cells("cost_usd", found.cost_usd))
    return table


def _shapes_table(shapes: Sequence[Shape]) -> Table:
    table = Table(title="by candidates a call")
    for column in ("candidates a call", "dev scoring", "calls", "days of quota", "time"):
        table.add_column(column, justify="right")
    for candidates, has_dev, found in shapes:
        days = "-" if found.quota_days is None else _expected("days", found.quota_days)
        time = "-" if found.wall_s is None else _expected("wall_s", found.wall_s)
        table.add_row(str(candidates), "yes" if has_dev else "no", _expected("calls", found.calls), days, time)
    return table


def _expected(name: str, found: Range) -> str:
    return range_cells(name, found)[1]


def _limits(budget: Budget) -> dict[str, float | None]:
    limits = budget.limits
    money = limits.pop("nanousd")
    plain: dict[str, float | None] = {unit: None if limit is None else _number(limit) for unit, limit in limits.items()}
    return plain | {"usd": None if money is None else float(usd(int(money)))}


def _number(limit: int | float | Fraction) -> float:
    return int(limit) if limit == int(limit) else float(limit)


def _row(candidates: int, has_dev: bool, found: Estimate) -> dict[str, object]:
    whole = found.to_dict()
    named = {name: whole[name] for name in (*QUANTITIES, "quota_days")}
    return {"candidates_a_call": candidates, "dev": has_dev, **named}
