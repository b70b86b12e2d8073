"""What a run found and cost, for people: a few lines, tables, a notebook's HTML."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.money import format_usd
from lmaas_sdk.reporting.estimate_tables import comparison_html, comparison_line
from lmaas_sdk.reporting.html import html_lines, html_section, html_table
from lmaas_sdk.reporting.outlook import span
from lmaas_sdk.tuning.predictor import Evaluation

if TYPE_CHECKING:
    from lmaas_sdk.tuning.group_result import GroupResult
    from lmaas_sdk.tuning.result import TuningResult

__all__ = ["accuracy_table", "estimate_lines", "group_html", "result_html", "result_lines", "spend_table"]


def result_lines(result: TuningResult) -> list[str]:
    """The essentials, a line each."""
    return [_title(result), *_found(result), *_circumstances(result)]


def _title(result: TuningResult) -> str:
    return f"{result.prompt.task.name} on {result.prompt.model}"


def _found(result: TuningResult) -> list[str]:
    metric, choice = result.prompt.task.metric, result.choice
    tests = [("tuned prompt", result.test), ("manual prompt", result.manual)]
    told = ", ".join(f"{name} {_value(found)}" for name, found in tests if found is not None)
    loss = "" if choice.train_loss is None else f", train loss {choice.train_loss:.4f}"
    dev = "" if choice.dev is None else f", dev {metric} {_value(choice.dev)}"
    chosen = f"chosen by {result.chosen_by}: {choice.kind} of generation {choice.generation}{dev}{loss}"
    return [f"test {metric}: {told}", chosen] if told else [chosen]


def _circumstances(result: TuningResult) -> list[str]:
    limit = result.budget["usd"]
    waits = [f"{cause.replace('_', ' ')} {span(s)}" for cause, s in result.waits.items() if s >= 1]
    return [
        f"stopped: {result.stopped}, after {result.evaluations:.12g} evaluations and {span(result.wall_s)}",
        f"spent {_told(result.spent)}" + ("" if limit is None else f" of ${limit:.2f}"),
        *(f"spent before, on its {option}: {_told(spend.total)}" for option, spend in result.sources.items()),
        *(["waited: " + ", ".join(waits)] if waits else []),
        *estimate_lines(result),
        *([] if result.failure is None else [f"the backend failed: {result.failure}"]),
    ]


def _told(spent: Amounts) -> str:
    return f"{spent.calls:,} calls, {spent.tokens:,} tokens, {format_usd(spent.nanousd)}"


def estimate_lines(result: TuningResult) -> list[str]:
    """What the run has come to against what was expected of it; nothing where nothing was."""
    told = "" if result.estimate is None else comparison_line(result.estimate, result.actual)
    return [told] if told else []


def _value(found: Evaluation) -> str:
    ends = "" if found.interval is None else " ({:.1f} .. {:.1f})".format(*(100 * end for end in found.interval))
    return f"{100 * found.value:.1f} %{ends}"


def accuracy_table(result: TuningResult) -> Table:
    """The manual prompt and the tuned one on the test set."""
    table = Table(title=escape(_title(result)))
    table.add_column("prompt")
    table.add_column(f"test {result.prompt.task.metric}", justify="right")
    table.add_column("test texts", justify="right")
    for name, found in (("manual", result.manual), ("tuned", result.test)):
        table.add_row(name, *(("not evaluated", "-") if found is None else (_value(found), str(found.n_texts))))
    return table


def spend_table(result: TuningResult) -> Table:
    """Spend by purpose, and the budget."""
    table = Table(title="spend")
    for column in ("purpose", "calls", "evaluations", "tokens", "cost"):
        table.add_column(column, justify="left" if column == "purpose" else "right")
    for purpose, amounts in (*sorted(result.spend.by_purpose.items()), ("total", result.spent)):
        table.add_row(purpose, *_amount_cells(amounts))
    limits = {unit: limit for unit, limit in result.budget.items() if limit is not None}
    table.caption = "budget: " + (", ".join(f"{unit} {limit}" for unit, limit in limits.items()) or "none")
    return table


def _amount_cells(amounts: Amounts) -> tuple[str, str, str, str]:
    return str(amounts.calls), f"{amounts.evaluations}", f"{amounts.tokens:,}", format_usd(amounts.nanousd)


def result_html(result: TuningResult) -> str:
    """For a notebook: the essentials, the spend, and the estimate against it."""
    lines = html_lines([*_found(result), *_circumstances(result)])
    warnings = html_lines(f"note: {warning}" for warning in result.warnings)
    compared = "" if result.estimate is None else comparison_html(result.estimate, result.actual)
    return html_section(_title(result), lines, html_table(spend_table(result)), compared, warnings)


def group_html(result: GroupResult) -> str:
    """For a notebook: the table of the runs, and why some failed."""
    failures = html_lines(f"{name} failed: {error}" for name, error in result.failures.items())
    return html_table(result.table()) + failures
