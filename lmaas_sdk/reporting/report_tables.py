"""The tables of a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.money import format_usd
from lmaas_sdk.reporting.report_figures import is_priced
from lmaas_sdk.reporting.report_runs import NamedRun, printable
from lmaas_sdk.reporting.report_words import (
    NOT_RECORDED,
    budget_words,
    cause_words,
    duration,
    number,
    quantity,
    score_words,
)
from lmaas_sdk.tuning.run_record import EstimatedQuantity, RunRecord

__all__ = [
    "Column",
    "Range",
    "Table",
    "dev_table",
    "estimate_table",
    "facts_of",
    "generations_table",
    "spend_table",
    "summary_table",
    "versions_table",
    "waits_table",
    "warnings_table",
]

_QUANTITIES = {
    "calls": "calls",
    "evaluations": "evaluations",
    "attempts": "attempts",
    "tokens": "tokens",
    "cost_usd": "cost",
    "wall_s": "time",
}
_MIDDLE, _LEFT, _WIDTH = 56, 16, 80  # of the picture of a range: between the least and the most of a row


@dataclass(frozen=True, slots=True)
class Column:
    """A column of numbers, words or sentences (`is_prose`), or one that `draws` a "bar" (in %) or a "range"."""

    title: str
    is_number: bool = False
    draws: str = ""
    is_prose: bool = False


@dataclass(frozen=True, slots=True)
class Range:
    """Where an estimate and what became of it lie in a picture 112 wide."""

    low: float
    width: float
    expected: float
    actual: float


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first cell of each row says what the row is about.

    Args:
        caption: What it is.
        columns, rows: What is in it.
        is_long: Whether it scrolls up and down in a box of its own.
        is_compared: Whether its columns are runs, or others of words, which wrap.
    """

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[object, ...], ...]
    is_long: bool = False
    is_compared: bool = False


_SUMMARY: Mapping[str, Callable[[RunRecord], str]] = {
    "read from": lambda run: f"its {run.kind}",
    "task": lambda run: printable(run.task or NOT_RECORDED),
    "model": lambda run: printable(run.model or NOT_RECORDED),
    "preset": lambda run: printable(run.preset or NOT_RECORDED),
    "seed": lambda run: NOT_RECORDED if run.seed is None else str(run.seed),
    "metric": lambda run: printable(run.metric or NOT_RECORDED),
    "tuned prompt, on the test set": lambda run: score_words(run.tuned),
    "manual prompt, on the test set": lambda run: score_words(run.manual),
    "lowest train loss": lambda run: f"{run.generations[-1].lowest_loss:.4f}" if run.generations else "none",
    "evaluations": lambda run: number(run.evaluations),
    "calls": lambda run: number(run.spent.calls),
    "tokens": lambda run: number(run.spent.tokens),
    "cost": lambda run: format_usd(run.spent.nanousd),
    "calls of unknown outcome": lambda run: number(run.unknown_outcomes),
    "budget": budget_words,
    "time": lambda run: duration(run.wall_s),
    "ended by": lambda run: printable(run.stopped or "not ended"),
    "chosen by": lambda run: printable(run.chosen_by or NOT_RECORDED),
}


def facts_of(run: RunRecord) -> tuple[tuple[str, str], ...]:
    """What there is to say of a run in a word."""
    return tuple((name, tell(run)) for name, tell in _SUMMARY.items())


def summary_table(runs: Sequence[NamedRun]) -> Table:
    """The facts of several runs: a column a run."""
    columns = (Column("run"), *(Column(one.name) for one in runs))
    rows = tuple((name, *(tell(one.run) for one in runs)) for name, tell in _SUMMARY.items())
    return Table("What the runs were, found and cost", columns, rows, is_compared=len(runs) > 1)


def generations_table(one: NamedRun, *, priced: bool) -> Table:
    """The numbers behind the pictures of the loss."""
    columns = (Column("generation", True), *_where(priced), *(Column(f"{name} loss", True) for name in _LOSSES))
    rows = tuple(
        (
            str(row.generation + 1),
            number(row.evaluations),
            _spent(row.spent, priced=priced),
            f"{row.elapsed_s:.1f}",
            *(f"{loss:.6g}" for loss in (row.best_loss, row.median_loss, row.lowest_loss)),
        )
        for row in one.run.generations
    )
    return Table(f"{one.name}: train loss by generation", columns, rows, is_long=True)


_LOSSES = ("best", "median", "lowest")


def dev_table(one: NamedRun, *, priced: bool) -> Table:
    """The numbers behind the pictures of the metric."""
    scores = (Column("metric", True), Column("cross entropy", True))
    columns = (Column("generation", True), Column("candidate"), *_where(priced), *scores)
    rows = tuple(
        (
            str(row.generation + 1),
            printable(row.candidate),
            number(row.evaluations),
            _spent(row.spent, priced=priced),
            f"{row.elapsed_s:.1f}",
            *("none" if score is None else f"{score:.6g}" for score in (row.metric, row.cross_entropy)),
        )
        for row in one.run.dev
    )
    return Table(f"{one.name}: every candidate scored on dev", columns, rows, is_long=True)


def _where(priced: bool) -> tuple[Column, ...]:
    return Column("evaluations", True), Column("cost" if priced else "tokens", True), Column("seconds", True)


def _spent(spent: Amounts, *, priced: bool) -> str:
    return format_usd(spent.nanousd) if priced else number(spent.tokens)


def spend_table(one: NamedRun) -> Table:
    """What was paid for what; the bar is the part of the money, or where the model is free of the tokens."""
    priced, spend = is_priced([one]), one.run.spend
    rows = (*sorted(spend.items()), ("total", one.run.spent))
    columns = ("calls", "evaluations", "tokens", "cost")
    share = Column(f"share of {'cost' if priced else 'tokens'}", draws="bar")
    return Table(
        f"{one.name}: spend by purpose",
        (Column("purpose"), *(Column(name, True) for name in columns), share),
        tuple(
            (
                printable(purpose),
                number(paid.calls),
                number(float(paid.evaluations)),
                number(paid.tokens),
                format_usd(paid.nanousd),
                _share(paid, one.run.spent, priced=priced),
            )
            for purpose, paid in rows
        ),
    )


def _share(part: Amounts, whole: Amounts, *, priced: bool) -> float:
    paid, total = (part.nanousd, whole.nanousd) if priced else (part.tokens, whole.tokens)
    return round(100 * min(1.0, max(0.0, paid / total)), 1) if total else 0.0


def waits_table(one: NamedRun) -> Table:
    """How long was waited for what, the longest first; what was not waited for is left out."""
    waited = {cause: seconds for cause, seconds in (one.run.waits or {}).items() if seconds > 0}
    waits = sorted(waited.items(), key=lambda wait: (-wait[1], wait[0]))
    wall_s = one.run.wall_s or 1.0
    columns = (Column("waited for"), Column("time", True), Column("share of time", draws="bar"))
    rows = tuple(
        (printable(cause_words(cause)), duration(seconds), round(100 * min(1.0, seconds / wall_s), 1))
        for cause, seconds in waits
    )
    return Table(f"{one.name}: waits by cause", columns, rows)


def estimate_table(one: NamedRun) -> Table:
    """What was estimated before the run, and what it came to."""
    columns = (
        Column("quantity"),
        *(Column(name, True) for name in ("low", "expected", "high", "actual")),
        Column("within"),
        Column("estimate and actual", draws="range"),
    )
    estimate = one.run.estimate or {}
    names = [*(name for name in _QUANTITIES if name in estimate), *sorted(estimate.keys() - _QUANTITIES.keys())]
    rows = tuple(_estimate_row(name, estimate[name]) for name in names)
    return Table(f"{one.name}: estimate (90 %) against actual", columns, rows)


def _estimate_row(name: str, found: EstimatedQuantity | None) -> tuple[object, ...]:
    title = printable(_QUANTITIES.get(name, name))
    if found is None:
        return (title, "not estimated", "", "", "", "", None)
    shown = [quantity(name, amount) for amount in (found.low, found.expected, found.high)]
    if found.actual is None:
        return (title, *shown, "not known", "not known", None)
    within = "yes" if found.is_within else "no, above" if found.actual > found.high else "no, below"
    return (title, *shown, quantity(name, found.actual), within, _range(found, found.actual))


def _range(found: EstimatedQuantity, actual: float) -> Range:
    least, most = min(found.low, actual), max(found.high, actual)

    def at(amount: float) -> float:
        return round(_LEFT + _WIDTH * (amount - least) / (most - least), 1) if most > least else _MIDDLE

    low, high = at(found.low), at(found.high)
    return Range(low - 1, round(high - low + 2, 1), at(found.expected), at(actual))


def warnings_table(runs: Sequence[NamedRun]) -> Table:
    """What the runs warned of."""
    rows = tuple((one.name, printable(warning)) for one in runs for warning in one.run.warnings)
    return Table("What there is to know besides", (Column("run"), Column("note", is_prose=True)), rows)


def versions_table(runs: Sequence[NamedRun]) -> Table:
    """What computed: a column a run."""
    names = sorted({name for one in runs for name in one.run.versions})
    columns = (Column("part"), *(Column(one.name, is_prose=True) for one in runs))
    rows = tuple(
        (printable(name), *(printable(one.run.versions.get(name, NOT_RECORDED)) for one in runs)) for name in names
    )
    return Table("Versions", columns, rows, is_compared=len(runs) > 1)
