"""Several runs side by side, for people."""

from __future__ import annotations

from rich.table import Table

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.money import format_usd
from lmaas_sdk.tuning.group_result import GroupResult
from lmaas_sdk.tuning.predictor import Evaluation
from lmaas_sdk.tuning.result import TuningResult

__all__ = ["group_table"]

_COLUMNS = ("run", "stopped", "dev", "test", "manual", "evaluations", "tokens", "cost")
_OF_WORDS = _COLUMNS[:2]


def group_table(result: GroupResult) -> Table:
    """A row a run, the failed ones included, and one for all of them."""
    limits = {unit: limit for unit, limit in result.budget.items() if limit is not None}
    caption = "budget: " + (", ".join(f"{unit} {limit}" for unit, limit in limits.items()) or "none")
    table = Table(title=f"{len(result.spend)} runs", caption=caption)
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name in _OF_WORDS else "right", overflow="fold")
    for name, spent in result.spend.items():
        table.add_row(name, *_found(result.get(name)), *_spent(spent))
    table.add_section()
    table.add_row("total", f"{len(result.failures)} failed", "", "", "", *_spent(result.spent))
    return table


def _found(run: TuningResult | None) -> tuple[str, str, str, str]:
    if run is None:
        return "failed", "-", "-", "-"
    return run.stopped, _value(run.choice.dev), _value(run.test), _value(run.manual)


def _value(evaluation: Evaluation | None) -> str:
    return "-" if evaluation is None else f"{100 * evaluation.value:.1f} %"


def _spent(amounts: Amounts) -> tuple[str, str, str]:
    return f"{float(amounts.evaluations):g}", f"{amounts.tokens:,}", format_usd(amounts.nanousd)
