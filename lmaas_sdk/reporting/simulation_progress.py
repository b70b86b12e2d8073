"""What a simulation looks like while it goes on: one line on a terminal, a line a run elsewhere; always on stderr."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.status import Status

from lmaas_sdk.planning.simulate import SimulatedMoment
from lmaas_sdk.planning.simulation import told_setting
from lmaas_sdk.tuning.events import GenerationDone, RunPlanned

__all__ = ["SimulationProgress"]


class SimulationProgress:
    """Says which seed is at work, and how far its calendar is; `show` is an `on_moment`.

    Args:
        seeds: Of the runs.
        console: None: stderr.

    Attributes:
        status: The line of a terminal; None elsewhere.
    """

    def __init__(self, seeds: Sequence[int], console: Console | None = None) -> None:
        self._seeds = list(seeds)
        self._console = console or Console(stderr=True)
        self.status: Status | None = None
        self._planned = ""

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self.status = self._console.status("checking")
            self.status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.status is not None:
            self.status.stop()

    def show(self, moment: SimulatedMoment) -> None:
        """Takes one moment."""
        match moment.event:
            case RunPlanned(generations, population):
                self._planned = "" if generations is None else f"/{generations * population}"
                if self.status is None:
                    self._console.print(f"simulating {self._run(moment)}", highlight=False, soft_wrap=True)
            case GenerationDone() if self.status is not None:
                at = moment.at.strftime("%Y-%m-%d %H:%M")
                done = f"{moment.event.evaluations:g}{self._planned} evaluations, loss {moment.event.lowest_loss:.4f}"
                self.status.update(f"{self._run(moment)}: {at}, {done}")

    def _run(self, moment: SimulatedMoment) -> str:
        number = self._seeds.index(moment.seed) + 1
        run = f"{_setting(moment.setting)}seed {moment.seed} ({number} of {len(self._seeds)})"
        return f"{run} with nothing in its way" if moment.is_unlimited else run


def _setting(setting: Mapping[str, object]) -> str:
    return "".join(f"{name} {value}, " for name, value in told_setting(setting).items())
