"""What a simulation looks like while it goes on: which run is played, how far its calendar is, when all are done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lmaas_sdk.planning.simulate import SimulatedMoment
from lmaas_sdk.planning.simulation import told_setting
from lmaas_sdk.reporting.progress import CountProgress
from lmaas_sdk.tuning.events import Event, GenerationDone, RunPlanned

__all__ = ["JobsMoments", "RunMoments"]


class RunMoments:
    """Tells a display of `simulate` and `sweep`; `show` is an `on_moment`.

    Args:
        progress: Counts simulated runs.
        seeds: Of the runs, of each setting.
        compare: Whether runs are played once more with nothing in their way, which then is half of the work.
    """

    def __init__(self, progress: CountProgress, seeds: Sequence[int], *, compare: bool = True) -> None:
        self._progress, self._seeds = progress, list(seeds)
        self._before = -1  # runs that are done: all that were begun but the one under way
        self._planned: int | None = None
        self._part = 0.5 if compare else 1.0

    def show(self, moment: SimulatedMoment) -> None:
        """Takes one moment."""
        match moment.event:
            case RunPlanned(generations, population):
                self._before += not moment.is_unlimited
                self._planned = None if generations is None else generations * population
                self._progress.show(self._done(moment, 0), self._run(moment))
            case GenerationDone(evaluations=evaluations, lowest_loss=loss):
                at = "" if moment.is_unlimited else f"played until {moment.at:%Y-%m-%d %H:%M}"
                self._progress.show(self._done(moment, evaluations), self._run(moment), at, f"loss {loss:.4f}")

    def _done(self, moment: SimulatedMoment, evaluations: float) -> float:
        """Runs, and the part of the one under way; the same with nothing in its way comes after it."""
        part = min(1.0, evaluations / self._planned) if self._planned else 0.0
        return self._before + round(self._part * (part + moment.is_unlimited), 2)

    def _run(self, moment: SimulatedMoment) -> str:
        number = self._seeds.index(moment.seed) + 1
        run = f"{_setting(moment.setting)}seed {moment.seed} ({number} of {len(self._seeds)})"
        return f"{run} with nothing in its way" if moment.is_unlimited else run


class JobsMoments:
    """Tells a display of `simulate_jobs`; `show` is an `on_event`.

    Args:
        progress: Counts evaluations.
    """

    def __init__(self, progress: CountProgress) -> None:
        self._progress = progress
        self._by_job: dict[str, float] = {}
        self._done = 0.0

    def show(self, name: str, event: Event) -> None:
        """Takes one event of one job."""
        if isinstance(event, GenerationDone):
            self._done += event.evaluations - self._by_job.get(name, 0)
            self._by_job[name] = event.evaluations
            self._progress.show(self._done, f"{len(self._by_job):,} jobs under way or done")


def _setting(setting: Mapping[str, object]) -> str:
    return "".join(f"{name} {value}, " for name, value in told_setting(setting).items())
