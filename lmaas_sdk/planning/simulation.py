"""What came of simulations: when they end, what they cost, how good their prompts are."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.money import usd
from lmaas_sdk.planning.scenario import Scenario
from lmaas_sdk.tuning.result import Stopped

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Quality", "SimulatedRun", "Simulation", "Spread", "Sweep", "summary_of", "told_setting"]


@dataclass(frozen=True, slots=True)
class Quality:
    """How good the best that a search found is.

    Args:
        loss: The lowest train loss.
        dev: The metric on dev of the candidate that was chosen; None without a dev set.
    """

    loss: float
    dev: float | None = None

    def to_dict(self) -> dict[str, float | None]:
        return {"loss": self.loss, "dev": self.dev}


@dataclass(frozen=True, slots=True)
class SimulatedRun:
    """One seed's run.

    Args:
        seed: Its seed.
        began, ended: In the time zone of the quota.
        elapsed_s: Seconds between them.
        stopped: Why it ended, as of `TuningResult`.
        failure: What the error said that ended it, if one did.
        spent: All that was posted: calls that may have reached the provider, evaluations, tokens, money.
        evaluations: Candidates that the search learned from, and those scored again.
        calls: Logical calls that were sent.
        attempts: Requests for them, those that were refused included.
        waits: Seconds in which at least one call waited, by cause.
        found: What it found; None: it ended before its first generation was done.
        unlimited: What a run of the same seed finds with nothing in its way; None: that was not asked for.
    """

    seed: int
    began: datetime
    ended: datetime
    elapsed_s: float
    stopped: Stopped
    failure: str | None
    spent: Amounts
    evaluations: int | float
    calls: int
    attempts: int
    waits: Mapping[str, float]
    found: Quality | None
    unlimited: Quality | None

    @property
    def day(self) -> int:
        """The calendar day that it ended on; the one it began on is 1."""
        return (self.ended.date() - self.began.date()).days + 1

    @property
    def behind(self) -> float | None:
        """How much higher its loss is than that of the unlimited run."""
        return None if self.found is None or self.unlimited is None else self.found.loss - self.unlimited.loss

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "seed": self.seed,
            "ended": self.ended.isoformat(),
            "day": self.day,
            "elapsed_s": self.elapsed_s,
            "stopped": self.stopped,
            "failure": self.failure,
            "spent": self.spent.to_dict(),
            "cost_usd": float(usd(self.spent.nanousd)),
            "evaluations": self.evaluations,
            "calls": self.calls,
            "attempts": self.attempts,
            "waits": dict(sorted(self.waits.items())),
            "found": None if self.found is None else self.found.to_dict(),
            "unlimited": None if self.unlimited is None else self.unlimited.to_dict(),
            "behind": self.behind,
        }


@dataclass(frozen=True, slots=True)
class Spread:
    """A quantity over all seeds."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Of at least one value."""
        known = sorted(values)
        return cls(known[0], statistics.median(known), known[-1])

    def to_dict(self) -> dict[str, float]:
        return {"low": self.low, "median": self.median, "high": self.high}


@dataclass(frozen=True, eq=False)
class Simulation:
    """A scenario, played with several seeds.

    Args:
        scenario: What was played.
        began: The first moment of every run.
        runs: One a seed, in the order of the seeds.
    """

    scenario: Scenario
    began: datetime
    runs: tuple[SimulatedRun, ...] = field(repr=False)

    @property
    def summary(self) -> dict[str, Spread]:
        """Median and range of every quantity over the seeds; one that no run has is left out."""
        return summary_of(self.runs)

    def table(self) -> Table:
        """A row a seed, for people: `rich.print(simulation.table())`."""
        from lmaas_sdk.reporting.simulation_tables import simulation_table  # noqa: PLC0415  (only people need it)

        return simulation_table(self)

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON; the same for the same scenario, first moment and seeds."""
        return {
            "scenario": self.scenario.to_dict(),
            "began": self.began.isoformat(),
            "runs": [run.to_dict() for run in self.runs],
            "summary": {name: spread.to_dict() for name, spread in self.summary.items()},
        }

    def _repr_html_(self) -> str:
        """The table, for a notebook."""
        from lmaas_sdk.reporting.html import html_table  # noqa: PLC0415  (only people need it)

        return html_table(self.table())

    def __str__(self) -> str:
        from lmaas_sdk.reporting.simulation_tables import as_text  # noqa: PLC0415  (only people need it)

        return as_text(self.table())


@dataclass(frozen=True, eq=False)
class Sweep:
    """A scenario, played with several values of some of its settings.

    Args:
        settings: Of every simulation, by name, in order.
        simulations: As many.
    """

    settings: tuple[Mapping[str, object], ...]
    simulations: tuple[Simulation, ...] = field(repr=False)

    def table(self) -> Table:
        """A row a setting, for people."""
        from lmaas_sdk.reporting.simulation_tables import sweep_table  # noqa: PLC0415  (only people need it)

        return sweep_table(self)

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        both = zip(self.settings, self.simulations, strict=True)
        return {"sweep": [{"setting": told_setting(setting), **simulation.to_dict()} for setting, simulation in both]}

    def _repr_html_(self) -> str:
        """The table, for a notebook."""
        from lmaas_sdk.reporting.html import html_table  # noqa: PLC0415  (only people need it)

        return html_table(self.table())

    def __str__(self) -> str:
        from lmaas_sdk.reporting.simulation_tables import as_text  # noqa: PLC0415  (only people need it)

        return as_text(self.table())


def summary_of(runs: Iterable[SimulatedRun]) -> dict[str, Spread]:
    """Median and range of every quantity of some runs; one that none of them has is left out."""
    columns: dict[str, list[float]] = {}
    for run in runs:
        found, unlimited = run.found, run.unlimited
        row: dict[str, float | None] = {
            "days": float(run.day),
            "elapsed_s": run.elapsed_s,
            "cost_usd": float(usd(run.spent.nanousd)),
            "tokens": float(run.spent.tokens),
            "evaluations": float(run.evaluations),
            "calls": float(run.calls),
            "attempts": float(run.attempts),
            "loss": None if found is None else found.loss,
            "dev": None if found is None else found.dev,
            "unlimited_loss": None if unlimited is None else unlimited.loss,
            "unlimited_dev": None if unlimited is None else unlimited.dev,
            "behind": run.behind,
        }
        for name, value in row.items():
            if value is not None:
                columns.setdefault(name, []).append(value)
    return {name: Spread.of(values) for name, values in columns.items()}


def told_setting(setting: Mapping[str, object]) -> dict[str, object]:
    """The values of a setting as they are told: those that are no plain ones by their name, or in words."""
    return {name: _plain(value) for name, value in setting.items()}


def _plain(value: object) -> object:
    return value if value is None or isinstance(value, str | int | float) else str(getattr(value, "name", value))
