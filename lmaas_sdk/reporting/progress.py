"""What runs look like while they go on: evaluations, loss, dev, spend, rate, waits, and when they will end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from types import TracebackType
from typing import Self

from rich.console import Console

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.money import format_usd
from lmaas_sdk.outside import outside
from lmaas_sdk.reporting.display import Display
from lmaas_sdk.reporting.outlook import Outlook, calendar_time, per_time, span
from lmaas_sdk.traffic.waits import CAUSES, Cause
from lmaas_sdk.tuning.events import DevScored, Event, GenerationDone, Resumed, RunPlanned, Waiting

__all__ = ["CountProgress", "GroupProgress", "RunProgress"]

_WORTH_A_LINE_S = 2.0  # waits that are shorter are not told one by one,
_PART_WORTH_A_LINE = 0.1  # nor are those that are short beside the time that has gone by
_UNITS = ("calls", "tokens", "nanousd")  # evaluations are counted anyway


@dataclass(slots=True, eq=False)
class _Seen:
    """What a run has told so far."""

    total: int | None = None
    done: float = 0
    loss: float | None = None
    dev: float | None = None
    spent: Amounts = field(default_factory=Amounts)
    waits: Mapping[Cause, float] = field(default_factory=dict)


class _Progress:
    """Shows the events of runs.

    Args:
        budget: What they spend is shown beside the limit that is nearest.
        console: None: stderr.
        wall: Seconds since 1970; None: the time of day.
        zone: In which the end is told; None: that of this machine.
    """

    def __init__(
        self,
        budget: Budget | None = None,
        console: Console | None = None,
        *,
        wall: Callable[[], float] | None = None,
        zone: tzinfo | None = None,
    ) -> None:
        self._budget, self._zone = budget, zone
        self._outlook = outlook = Outlook(wall or outside().wall)
        self._display = Display("evaluations", console, elapsed_s=lambda: outlook.now_s - outlook.began_s)
        self._runs: dict[str, _Seen] = {}
        self._told_until_s = 0.0

    def __enter__(self) -> Self:
        self._display.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._display.__exit__(kind, error, trace)

    def _take(self, name: str, event: Event) -> None:
        run = self._runs.setdefault(name, _Seen())
        match event:
            case RunPlanned():
                run.total = None if event.generations is None else event.generations * event.population
                self._outlook.goes_on(self._done)  # what came before it was no part of the search
            case DevScored():
                run.dev = run.dev if event.choice.dev is None else event.choice.dev.value
                self._update()
            case GenerationDone():
                run.done, run.spent = event.evaluations, event.spent
                run.loss, run.waits = event.lowest_loss, event.waits
                self._outlook.saw(self._done)
                self._update()
            case Resumed():
                run.done, run.spent = event.evaluations, event.spent
                self._outlook.goes_on(self._done)
                done = f"{event.generations} generations, {event.evaluations:.12g} evaluations"
                self._display.line(f"{_of(name)}resumed after {done}")
            case Waiting():
                self._waits(name, event)

    # -- what is shown

    def _update(self) -> None:
        total = self._total
        self._outlook.total = float("inf") if total is None else total
        self._display.update(self._done, total, self._parts())

    def _parts(self) -> list[str]:
        return [
            self._of_runs(),
            self._loss(),
            self._dev(),
            _spend(self._budget, sum((run.spent for run in self._runs.values()), Amounts())),
            _rate(self._outlook),
            _end(self._outlook, self._zone, left_s=None if self._budget is None else self._budget.remaining_s()),
            self._waited(),
        ]

    @property
    def _done(self) -> float:
        return sum(run.done for run in self._runs.values())

    @property
    def _total(self) -> float | None:
        """What was planned, and more where a run has got what others left."""
        totals = [None if run.total is None else max(run.total, run.done) for run in self._runs.values()]
        known = [total for total in totals if total is not None]
        return sum(known) if len(known) == len(totals) else None

    def _of_runs(self) -> str:
        return f"of {len(self._runs)} runs" if len(self._runs) > 1 else ""

    def _loss(self) -> str:
        losses = [run.loss for run in self._runs.values()]
        return f"loss {losses[0]:.4f}" if len(losses) == 1 and losses[0] is not None else ""

    def _dev(self) -> str:
        """Where each run was when it was looked at last: of several, the best."""
        dev = max(((run.dev, name) for name, run in self._runs.items() if run.dev is not None), default=None)
        if dev is None:
            return ""
        return f"dev {dev[0]:.3f}" + (f" ({dev[1]})" if len(self._runs) > 1 else "")

    def _waited(self) -> str:
        """What was waited for so far; of several runs, by the one that has waited longest."""
        longest = {cause: max(run.waits.get(cause, 0.0) for run in self._runs.values()) for cause in CAUSES}
        told = [f"{cause.replace('_', ' ')} {span(waited_s)}" for cause, waited_s in longest.items() if waited_s >= 1]
        return "waited: " + ", ".join(told) if told else ""

    # -- waits

    def _waits(self, name: str, event: Waiting) -> None:
        outlook = self._outlook
        now_s = outlook.now_s
        until_s = now_s + event.seconds
        outlook.waits(event.seconds, for_quota=event.cause in ("quota", "rate_limit"))
        if self._display.is_live:  # elsewhere lines come by generations
            self._update()
        is_short = event.seconds < max(_WORTH_A_LINE_S, _PART_WORTH_A_LINE * (now_s - outlook.began_s))
        if is_short or until_s < self._told_until_s + _WORTH_A_LINE_S:
            return
        self._told_until_s = until_s
        until = calendar_time(until_s, now_s, self._zone)
        self._display.line(f"{_of(name)}waiting {span(event.seconds)}, until {until}: {event.reason}")


class RunProgress(_Progress):
    """Shows the events of a run; `show` is an `on_event` for `Tuner.fit`.

    Args:
        budget: What it spends is shown beside the limit that is nearest.
        console: None: stderr.
        wall: Seconds since 1970; None: the time of day.
        zone: In which the end is told; None: that of this machine.
    """

    def show(self, event: Event) -> None:
        """Takes one event."""
        self._take("", event)


class GroupProgress(_Progress):
    """Shows the events of several runs as of one; `show` is an `on_event` for `TunerGroup.fit`.

    Args:
        budget, console, wall, zone: As of `RunProgress`.
    """

    def show(self, name: str, event: Event) -> None:
        """Takes one event of one run."""
        self._take(name, event)


class CountProgress:
    """Shows how far something is that is no run and can be counted.

    Args:
        unit: What is counted: "simulated runs".
        total: How many there will be.
        console, wall, zone: As of `RunProgress`.
    """

    def __init__(
        self,
        unit: str,
        total: int,
        console: Console | None = None,
        *,
        wall: Callable[[], float] | None = None,
        zone: tzinfo | None = None,
    ) -> None:
        self._outlook = outlook = Outlook(wall or outside().wall)
        outlook.total, self._total, self._zone = total, total, zone
        self._display = Display(unit, console, elapsed_s=lambda: outlook.now_s - outlook.began_s)

    def __enter__(self) -> Self:
        self._display.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._display.__exit__(kind, error, trace)

    def show(self, done: float, *parts: str) -> None:
        """So many are done; `parts` are what else is to be said."""
        self._outlook.saw(done)
        self._display.update(done, self._total, [*parts, _rate(self._outlook), _end(self._outlook, self._zone)])


def _rate(outlook: Outlook) -> str:
    per_s = outlook.per_s
    return "" if per_s is None else per_time(per_s)


def _end(outlook: Outlook, zone: tzinfo | None, *, left_s: float | None = None) -> str:
    """When it ends: by what is left to do, or by the seconds that are left for it."""
    now_s, ends_s = outlook.now_s, outlook.ends_s
    bounds = [at_s for at_s in (ends_s, None if left_s is None else now_s + left_s) if at_s is not None]
    return f"ends about {calendar_time(min(bounds), now_s, zone)}" if bounds else ""


def _of(name: str) -> str:
    return f"{name}: " if name else ""


def _spend(budget: Budget | None, spent: Amounts) -> str:
    """The spend against the limit that is nearest, of the budget and those above it; without one, money or tokens."""
    nearest: tuple[float, str] | None = None
    for above in () if budget is None else budget.line():
        posted = above.posted
        for unit in _UNITS:
            limit = above.limits[unit]
            if limit:
                amount = max(getattr(posted, unit), getattr(spent, unit))  # others may have spent of it
                told = _amount(unit, amount, int(limit)) + ("" if above is budget else f" ({above.name})")
                nearest = max(nearest or (-1.0, ""), (amount / limit, told), key=lambda one: one[0])
    if nearest is not None:
        return nearest[1]
    return f"spent {format_usd(spent.nanousd)}" if spent.nanousd else f"{spent.tokens:,} tokens"


def _amount(unit: str, amount: int, limit: int) -> str:
    if unit == "nanousd":
        return f"spent {format_usd(amount)} of {format_usd(limit)}"
    return f"{amount:,} of {limit:,} {unit}"
