"""What a run looks like while it goes on: a bar on a terminal, plain lines elsewhere; always on stderr."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.money import format_usd
from lmaas_sdk.tuning.events import DevScored, Event, GenerationDone, Resumed, RunPlanned, Waiting

__all__ = ["RunProgress"]

_LINES_PER_RUN = 20
_WORTH_A_LINE_S = 2.0


class RunProgress:
    """Shows the events of a run; `show` is an `on_event` for `Tuner.fit`.

    Args:
        budget: Its money limit is shown beside the spend.
        console: None: stderr.
    """

    def __init__(self, budget: Budget | None = None, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        money = None if budget is None else budget.limits["nanousd"]
        self._money = None if money is None else format_usd(int(money))
        self._total: int | None = None
        self._generation = -1
        self._dev = ""
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            columns = (TextColumn("evaluations"), MofNCompleteColumn(), BarColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, TextColumn("{task.description}"), console=self._console)
            self._task = self._bar.add_task("waiting for the first generation", total=None)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, event: Event) -> None:
        """Takes one event."""
        match event:
            case RunPlanned():
                self._plan(event)
            case DevScored():
                self._dev = "" if event.choice.dev is None else f"dev {event.choice.dev.value:.3f}"
            case GenerationDone():
                self._advance(event)
            case Resumed():
                done = f"{event.generations} generations, {event.evaluations:g} evaluations"
                self._console.print(f"resumed after {done}", highlight=False)
            case Waiting() if event.seconds >= _WORTH_A_LINE_S:
                self._console.print(f"waiting {event.seconds:.0f} s: {event.reason}", highlight=False, soft_wrap=True)

    def _plan(self, event: RunPlanned) -> None:
        self._total = None if event.generations is None else event.generations * event.population
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, total=self._total)

    def _advance(self, event: GenerationDone) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=event.evaluations, description=self._describe(event))
        elif self._is_due(event):
            total = "?" if self._total is None else self._total
            self._console.print(f"{event.evaluations}/{total} evaluations  {self._describe(event)}", highlight=False)

    def _is_due(self, event: GenerationDone) -> bool:
        """Whether a plain line is due: some twenty of them in a run."""
        done = event.evaluations
        if self._total is None:
            return event.generation % 10 == 0
        step = max(1, self._total // _LINES_PER_RUN)
        before, self._generation = self._generation, int(done // step)
        return self._generation != before or done == self._total

    def _describe(self, event: GenerationDone) -> str:
        parts = [f"loss {event.lowest_loss:.4f}", self._dev, self._spend(event.spent)]
        return "  ".join(part for part in parts if part)

    def _spend(self, spent: Amounts) -> str:
        if not spent.nanousd and self._money is None:
            return f"{spent.tokens:,} tokens"
        limit = "" if self._money is None else f" of {self._money}"
        return f"spent {format_usd(spent.nanousd)}{limit}"
