"""Many simulated runs, for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.table import Table

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.money import format_usd
from lmaas_sdk.planning.jobs import Bound, JobsSimulation, SimulatedJob
from lmaas_sdk.reporting.simulation_tables import shown_duration

__all__ = ["jobs_table"]

_MOST_ROWS = 20  # where there are more jobs, there is a row a priority
_COLUMNS = ("jobs", "priority", "stopped", "generations", "evaluations", "tokens", "cost", "ended", "use / fair share")
_OF_WORDS = ("jobs", "stopped")


def jobs_table(simulation: JobsSimulation) -> Table:
    """A row a job or, of many, a row a priority; one for all; and how near they came to every limit."""
    table = Table(title=f"{len(simulation.jobs)} jobs, simulated from {simulation.began:%Y-%m-%d %H:%M} on")
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name in _OF_WORDS else "right", overflow="fold")
    for name, jobs in _rows(simulation.jobs):
        table.add_row(*_cells(name, jobs))
    table.add_section()
    table.add_row(*_cells("all", simulation.jobs))
    table.caption = _caption(simulation)
    return table


def _rows(jobs: Sequence[SimulatedJob]) -> list[tuple[str, list[SimulatedJob]]]:
    if len(jobs) <= _MOST_ROWS:
        return [(job.name, [job]) for job in jobs]
    by_priority: dict[float, list[SimulatedJob]] = {}
    for job in jobs:
        by_priority.setdefault(job.priority, []).append(job)
    return [(str(len(some)), some) for _, some in sorted(by_priority.items())]


def _cells(name: str, jobs: Sequence[SimulatedJob]) -> list[str]:
    spent = sum((job.spent for job in jobs), Amounts())
    stopped = Counter(job.stopped for job in jobs)
    return [
        name,
        _span(f"{job.priority:g}" for job in sorted(jobs, key=lambda job: job.priority)),
        ", ".join(stop if len(jobs) == 1 else f"{count} {stop}" for stop, count in sorted(stopped.items())),
        _span(str(count) for count in sorted(job.generations for job in jobs)),
        f"{float(spent.evaluations):,g}",
        f"{spent.tokens:,}",
        format_usd(spent.nanousd),
        _span(shown_duration(end_s) for end_s in sorted(job.ended_s for job in jobs if job.ended_s is not None)),
        _ratio(max((job.highest for job in jobs if job.highest is not None), default=None)),
    ]


def _span(values: Iterable[str]) -> str:
    """The first and the last of several, or the only one."""
    several = list(dict.fromkeys(values))
    return " .. ".join(several[:1] + several[1:][-1:]) or "-"


def _ratio(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.3f}"


def _caption(simulation: JobsSimulation) -> str:
    bounds = [_bound(bound) for bound in simulation.bounds]
    waits = [f"{cause} {shown_duration(seconds)}" for cause, seconds in simulation.waits.items()]
    shares = f"at most {simulation.ahead:.2f} turns ahead of a fair share, {simulation.behind:.2f} behind"
    lines = f"the most, of what is allowed: {', '.join(bounds) or '-'}", f"waits: {', '.join(waits) or '-'}", shares
    return "\n".join(lines)


def _bound(bound: Bound) -> str:
    return f"{bound.name} {float(bound.most):,.12g} of {float(bound.limit):,.12g}"
