"""Simulations side by side, for people."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from datetime import datetime

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lmaas_sdk.accounting.money import NANOUSD_PER_USD, format_usd
from lmaas_sdk.planning.simulation import SimulatedRun, Simulation, Spread, Sweep, summary_of, told_setting

__all__ = ["as_text", "shown_duration", "simulation_table", "sweep_table"]

_WIDTH = 180
_UNITS = (("d", 86_400.0), ("h", 3600.0), ("min", 60.0))
_OF_WORDS = ("setting", "seed", "ends", "last ends", "stopped", "waits")
# what is shown, and what it is called; the rest of a summary is for programs
_ALWAYS = {
    "days": "day",
    "cost_usd": "cost",
    "tokens": "tokens",
    "evaluations": "evaluations",
    "calls": "calls",
    "attempts": "attempts",
}
_WHERE_KNOWN = {"loss": "loss", "unlimited_loss": "unlimited", "dev": "dev", "unlimited_dev": "unlimited dev"}


def simulation_table(simulation: Simulation) -> Table:
    """A row a seed, and one for all of them."""
    runs, summary = simulation.runs, simulation.summary
    shown = _shown(summary)
    table = _table(
        f"simulated from {_moment(simulation.began)} on", ("seed", "ends", *shown.values(), "stopped", "waits")
    )
    for run in runs:
        values = summary_of([run])
        cells = [_cell(name, values[name].median) if name in values else "-" for name in shown]
        table.add_row(str(run.seed), _moment(run.ended), *cells, run.stopped, _waits(run.waits))
    if len(runs) > 1:
        table.add_section()
        table.add_row("median", "", *(_cell(name, summary[name].median) for name in shown))
        table.add_row("range", "", *(_range(name, summary[name]) for name in shown))
    table.caption = escape("; ".join(f"seed {run.seed}: {run.failure}" for run in runs if run.failure)) or None
    return table


def sweep_table(sweep: Sweep) -> Table:
    """A row a setting, with the median over its seeds."""
    summaries = [simulation.summary for simulation in sweep.simulations]
    shown = _shown(summary_of(_runs(sweep)))
    seeds = len(sweep.simulations[0].runs)
    title = f"simulated from {_moment(sweep.simulations[0].began)} on, {seeds} " + (
        "seed" if seeds == 1 else "seeds: medians"
    )
    table = _table(title, ("setting", "last ends", *shown.values()))
    for setting, simulation, summary in zip(sweep.settings, sweep.simulations, summaries, strict=True):
        last = max(run.ended for run in simulation.runs)
        cells = [_cell(name, summary[name].median) if name in summary else "-" for name in shown]
        table.add_row(escape(_setting(setting)), _moment(last), *cells)
    return table


def as_text(table: Table) -> str:
    """A table as plain lines."""
    out = io.StringIO()
    Console(file=out, width=_WIDTH, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def shown_duration(seconds: float) -> str:
    """Seconds in the largest unit that there is one of."""
    for unit, length_s in _UNITS:
        if seconds >= length_s:
            return f"{seconds / length_s:.1f} {unit}"
    return f"{seconds:.1f} s"


def _table(title: str, columns: Iterable[str]) -> Table:
    table = Table(title=title)
    for name in columns:
        # where a terminal is too narrow for all of a number, it goes on below
        table.add_column(name, justify="left" if name in _OF_WORDS else "right", overflow="fold")
    return table


def _shown(summary: Mapping[str, Spread]) -> dict[str, str]:
    """The columns that there is something to show in."""
    always = {name: title for name, title in _ALWAYS.items() if name != "cost_usd" or summary[name].high}
    return always | {name: title for name, title in _WHERE_KNOWN.items() if name in summary}


def _runs(sweep: Sweep) -> list[SimulatedRun]:
    return [run for simulation in sweep.simulations for run in simulation.runs]


def _cell(name: str, value: float) -> str:
    if name == "cost_usd":
        return format_usd(round(value * NANOUSD_PER_USD))
    if name.endswith("loss"):
        return f"{value:.4f}"
    return f"{100 * value:.1f} %" if name.endswith("dev") else f"{value:,.10g}"


def _range(name: str, spread: Spread) -> str:
    low, high = _cell(name, spread.low), _cell(name, spread.high)
    return low if low == high else f"{low} .. {high}"


def _waits(waits: Mapping[str, float]) -> str:
    return ", ".join(f"{cause} {shown_duration(seconds)}" for cause, seconds in sorted(waits.items())) or "none"


def _moment(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M")


def _setting(setting: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in told_setting(setting).items())
