"""Many runs on one quota and one budget, simulated: what was asked, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from typing import TYPE_CHECKING

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.tasks import Dataset
from lmaas_sdk.tuning.presets import DEFAULT_PRESET, Preset

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Bound", "JobsSimulation", "SimulatedJob", "TuningJob"]


@dataclass(frozen=True, slots=True, eq=False)
class TuningJob:
    """A run as it is added to a `TunerGroup`.

    Args:
        name: Of its own.
        train, dev: As of `Tuner.fit`.
        preset, seed: As of `Tuner`.
        priority: Its part of budget and quota, in relation to those of the others.
    """

    name: str
    train: Dataset
    dev: Dataset | None = None
    preset: str | Preset = DEFAULT_PRESET
    seed: int = 42
    priority: float = 1.0


@dataclass(frozen=True, slots=True)
class SimulatedJob:
    """What came of one.

    Args:
        name, priority: As given.
        stopped: Why it ended, as of `TuningResult`; or "failed".
        failure: What the error said that ended it, if one did.
        generations: That it did.
        spent: All that was posted for it.
        ended_s: Seconds from the start to the end of its last call; None: it had none.
        used: What it was served while it wanted something, in units of the quota (see `JobsSimulation`).
        fair: What a fair server would have served it meanwhile.
        highest, lowest: The largest and the smallest use / fair share, at all moments from where the share pays for
            five turns, each a generation and the look at dev after it; None: it never did.
        ahead, behind: The most turns that it was ahead of its fair share, and behind.
        waits: Seconds by what for: "turn" (the others' turns), "quota" (until a call of its turn may go out), "retry".
    """

    name: str
    priority: float
    stopped: str
    failure: str | None
    generations: int
    spent: Amounts
    ended_s: float | None
    used: float
    fair: float
    highest: float | None
    lowest: float | None
    ahead: float
    behind: float
    waits: Mapping[str, float]

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        kept = ("name", "priority", "stopped", "failure", "generations", "ended_s", "used", "fair")
        told: dict[str, object] = {name: getattr(self, name) for name in kept}
        told |= {name: getattr(self, name) for name in ("highest", "lowest", "ahead", "behind")}
        return told | {"spent": self.spent.to_dict(), "waits": dict(sorted(self.waits.items()))}


@dataclass(frozen=True, slots=True)
class Bound:
    """A limit of the budget or of the provider, and how near to it they came.

    Args:
        name: "evaluations", "requests_per_minute"; as `Budget` and `Limits` call it.
        limit: What is allowed.
        most: The most that was spent and on its way at any moment; or sent in any minute or on any day.
    """

    name: str
    limit: int | Fraction
    most: int | Fraction

    @property
    def over(self) -> int | Fraction:
        """By how much it was exceeded: 0."""
        return max(0, self.most - self.limit)

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {"limit": _plain(self.limit), "most": _plain(self.most), "over": _plain(self.over)}


@dataclass(frozen=True, eq=False)
class JobsSimulation:
    """What came of all of them.

    Use is in units of the quota that binds: seconds of a minute's quota, of requests or tokens, whichever a call takes
    more of; requests, where there is a quota of a day alone; tokens, where there is none.

    Args:
        jobs: In the order in which they were given.
        began: The first moment.
        elapsed_s: Seconds from there to the end of the last.
        bounds: Of the budget and of the quota, counted from the ledger's entries alone.
        billed: What the provider counted on its side: attempts (taken up), limited (429s), tokens, nanousd.
    """

    jobs: tuple[SimulatedJob, ...]
    began: datetime
    elapsed_s: float
    bounds: tuple[Bound, ...]
    billed: Mapping[str, int]

    def _repr_html_(self) -> str:
        """The table, for a notebook."""
        from lmaas_sdk.reporting.html import html_table  # noqa: PLC0415  (only people need it)

        return html_table(self.table())

    def __str__(self) -> str:
        from lmaas_sdk.reporting.simulation_tables import as_text  # noqa: PLC0415  (only people need it)

        return as_text(self.table())

    @property
    def ended(self) -> datetime:
        """The last moment."""
        return self.began + timedelta(seconds=self.elapsed_s)

    @property
    def spent(self) -> Amounts:
        """By all of them."""
        return sum((job.spent for job in self.jobs), Amounts())

    @property
    def highest(self) -> float | None:
        """The largest use / fair share that any of them had while others wanted something too."""
        return max((job.highest for job in self.jobs if job.highest is not None), default=None)

    @property
    def lowest(self) -> float | None:
        """The smallest."""
        return min((job.lowest for job in self.jobs if job.lowest is not None), default=None)

    @property
    def ahead(self) -> float:
        """The most turns that any of them was ahead of its fair share."""
        return max(job.ahead for job in self.jobs)

    @property
    def behind(self) -> float:
        """The most turns that any of them was behind."""
        return max(job.behind for job in self.jobs)

    @property
    def waits(self) -> dict[str, float]:
        """Seconds by what for, of all together."""
        total: Counter[str] = Counter()
        for job in self.jobs:
            total.update(job.waits)
        return dict(sorted(total.items()))

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        compared = sum(job.highest is not None for job in self.jobs)
        shares = {name: getattr(self, name) for name in ("highest", "lowest", "ahead", "behind")}
        return {
            "began": self.began.isoformat(),
            "ended": self.ended.isoformat(),
            "elapsed_s": self.elapsed_s,
            "spent": self.spent.to_dict(),
            "billed": dict(self.billed),
            "bounds": {bound.name: bound.to_dict() for bound in self.bounds},
            "shares": shares | {"compared": compared},
            "waits": self.waits,
            "jobs": [job.to_dict() for job in self.jobs],
        }

    def table(self) -> Table:
        """For people: `rich.print(simulation.table())`."""
        from lmaas_sdk.reporting.jobs_table import jobs_table  # noqa: PLC0415  (only people need it)

        return jobs_table(self)


def _plain(amount: int | Fraction) -> int | float:
    return amount if isinstance(amount, int) else float(amount)
