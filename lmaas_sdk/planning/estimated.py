"""What a run will come to, before it starts: calls, tokens, money and time, each from low to high."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.money import NANOUSD_PER_USD, usd
from lmaas_sdk.accounting.price_sources import find_price
from lmaas_sdk.accounting.price_tables import PriceTable
from lmaas_sdk.accounting.prices import Price
from lmaas_sdk.planning.figures import Figures, OfPurpose, between, figures_of
from lmaas_sdk.planning.played import Played
from lmaas_sdk.planning.ranges import Range
from lmaas_sdk.planning.setting import Setting
from lmaas_sdk.planning.work import Work
from lmaas_sdk.planning.world import World, has_windows
from lmaas_sdk.seeding import whole_number

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["QUANTITIES", "Estimate", "estimate_of"]

QUANTITIES = ("calls", "evaluations", "attempts", "tokens", "cost_usd", "wall_s")
_SLACK = {"wall_s": 0.001, "cost_usd": 1e-9}  # results give seconds to the millisecond, money to the nano-dollar
_ONLY_QUOTA = "no latency is known: the time is what the quota alone takes, and answers come on top"
_PLATEAU = (
    "a plateau may end the run early: low is the earliest end, high that of the budget, "
    "and expected goes by the runs measured in benchmarks/results/default_preset.json"
)
_HEDGED = (
    "no latency is known, so nobody can tell how many calls are sent twice because they are slow: "
    "low is with as many as may be, expected with none"
)
_UNFAILED = "it was made by the run itself: without time, and without failures, as it knows of none"
_FREE = "the model's card has no price: it is free"
_RESTARTS = "a restart doubles the population, which is not foreseen"


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """What a run will come to; every range holds it with a chance of 90 %, and what cannot vary has no width.

    Args:
        model: The model's name.
        calls: Attempts that may have reached the backend, as a budget counts them.
        evaluations: Candidates scored over the training set.
        attempts: HTTP requests, those that nobody took or that met a 429 included.
        tokens: Billed tokens.
        cost_usd: Dollars, 0 where the card of a real model has no price; None: no price is known.
        wall_s: Seconds of `fit`. None: neither latency nor quota is known. With a quota alone it is the time that this
            takes if answers take none, which `notes` say: a lower bound.
        generations: Whole ones.
        by_purpose: The same by purpose.
        quota_days: Days on which calls are made, under a quota a day; None: there is none.
        began: The first moment.
        notes: What it does not know.
        tokens_by: How tokens were counted.
        is_counted: Whether these are the counts that will be billed; else they are bounds, or what was given.
        draws: Runs that it is made of; 1: nothing is up to chance, but where it may end early.
        probed: What a probe has cost; it is not part of the run.
    """

    model: str
    calls: Range
    evaluations: Range
    attempts: Range
    tokens: Range
    cost_usd: Range | None
    wall_s: Range | None
    generations: Range
    by_purpose: Mapping[str, OfPurpose]
    quota_days: Range | None
    began: datetime.datetime
    notes: tuple[str, ...]
    tokens_by: str
    is_counted: bool
    draws: int
    probed: Amounts | None
    _setting: Setting = field(repr=False)
    _budget: Budget | None = field(repr=False)

    @property
    def ends(self) -> datetime.datetime | None:
        """When it can be expected to end; None: that cannot be told, or is beyond the calendar."""
        if self.wall_s is None:
            return None
        try:
            return self.began + datetime.timedelta(seconds=self.wall_s.expected)
        except OverflowError:
            return None

    def fits(
        self,
        *,
        usd: str | int | Decimal | None = None,
        calls: int | None = None,
        evaluations: int | None = None,
        tokens: int | None = None,
        wall_s: float | None = None,
    ) -> Estimate:
        """The same run within another budget: `estimate.fits(usd="5.00").evaluations`.

        Raises:
            BudgetTooSmall: It does not pay for one generation.
            ValueError: No limit is given, one is negative, or there is one of money and no price, or a free model.
        """
        if usd is calls is evaluations is tokens is wall_s is None:
            raise ValueError("say what it has to fit into: usd=, calls=, evaluations=, tokens= or wall_s=")
        if usd is not None and self._setting.backend.card.price is None:
            why = "no price is known" if self.cost_usd is None else "the model costs nothing"
            raise ValueError(f"{why}, so any amount will do: give a price (--price), or ask an estimate of `priced`")
        budget = Budget(usd=usd, calls=calls, evaluations=evaluations, tokens=tokens, wall_s=wall_s, warn_at=())
        return estimate_of(self._setting, budget, probed=self.probed)

    def budget_for(self, evaluations: int) -> Budget:
        """A budget that reaches so many evaluations, with the dev scoring and the test that come with them.

        Each of its limits is the high end of what they take, so that failures within the estimate are paid for.
        """
        setting = self._setting
        generations = -(-whole_number("evaluations", evaluations, at_least=1) // setting.preset.population)
        work = setting.unlimited(generations)
        found = figures_of(setting.draws(work), setting.backend.price)
        least, total = work.costs.total(generations), found.total
        cost_usd = None if setting.backend.card.price is None else total.cost_usd
        money = None if cost_usd is None else max(least.nanousd, round(cost_usd.high * NANOUSD_PER_USD))
        return Budget(
            calls=max(least.calls, math.ceil(total.calls.high)),
            evaluations=max(math.ceil(least.evaluations), math.ceil(found.charged.high)),
            tokens=max(least.tokens, math.ceil(total.tokens.high)),
            usd=None if money is None else _usd(money),
            warn_at=(),
        )

    def priced(
        self, models: Sequence[str], *, on: datetime.date | None = None, tables: Sequence[PriceTable] = ()
    ) -> dict[str, Estimate]:
        """The same run at the price of other models, by name, as if their tokens were counted alike.

        Args:
            models: Names that `find_price` knows.
            on: The day the prices are to hold on; None: today.
            tables: One's own prices.

        Raises:
            UnknownPrice: One has no price on that day.
        """
        prices = {model: find_price(model, tables=tables, on=on) for model in models}
        return {model: self._at(price, model) for model, price in prices.items()}

    def _at(self, price: Price, model: str) -> Estimate:
        setting = self._setting.priced(price)
        return estimate_of(setting, self._budget, probed=self.probed, model=model)

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON: each quantity as low, expected and high; None where it cannot be told."""
        named = {name: _plain(getattr(self, name)) for name in (*QUANTITIES, "generations", "quota_days")}
        return {
            "model": self.model,
            **named,
            "by_purpose": {purpose: found.to_dict() for purpose, found in self.by_purpose.items()},
            "began": self.began.isoformat(timespec="seconds"),
            "ends": None if self.ends is None else self.ends.isoformat(timespec="seconds"),
            "tokens_by": self.tokens_by,
            "is_counted": self.is_counted,
            "draws": self.draws,
            "probed": None if self.probed is None else self.probed.to_dict(),
            "notes": list(self.notes),
        }

    def against(self, actual: Mapping[str, float | None]) -> dict[str, dict[str, float | bool | None] | None]:
        """How a run compares with it.

        Args:
            actual: What each of the quantities came to; None, or not there: nobody knows.
        """
        return {name: _compared(getattr(self, name), actual.get(name), _SLACK.get(name, 0.0)) for name in QUANTITIES}

    def table(self) -> Table:
        """A row a quantity, for people: `rich.print(estimate.table())`."""
        from lmaas_sdk.reporting.estimate_tables import estimate_table  # noqa: PLC0415  (only people need it)

        return estimate_table(self)

    def _repr_html_(self) -> str:
        """The table and its notes, for a notebook."""
        from lmaas_sdk.reporting.estimate_tables import estimate_html  # noqa: PLC0415  (only people need it)

        return estimate_html(self)

    def __str__(self) -> str:
        shown = [f"{name} {_shown(getattr(self, name))}" for name in QUANTITIES]
        return f"{self.model}: " + ", ".join(shown)


def estimate_of(
    setting: Setting, budget: Budget | None, *, probed: Amounts | None = None, model: str | None = None
) -> Estimate:
    """The estimate of a run on counted data; sends nothing and asks nobody.

    Args:
        setting: The run.
        budget: What it may spend; None: 8000 evaluations.
        probed: What a probe has cost.
        model: What to call the model; None: as its card does.

    Raises:
        BudgetTooSmall: The budget cannot pay for one generation.
        ValueError: Nothing but time limits the run, and no latency is known.
    """
    work = setting.work(budget)
    draws = setting.draws(work)
    early = setting.at_earliest(work)
    return from_draws(setting, budget, draws, early=_early(setting, early), probed=probed, model=model)


def _early(setting: Setting, work: Work | None) -> list[Played]:
    return [] if work is None else setting.draws(work)


def from_draws(
    setting: Setting,
    budget: Budget | None,
    draws: Sequence[Played],
    *,
    early: Sequence[Played],
    probed: Amounts | None,
    model: str | None,
    is_timed: bool = True,
) -> Estimate:
    """Puts it together.

    Args:
        setting, budget, probed, model: As of `estimate_of`.
        draws: The run as it may go.
        early: The same, if it ends as early as it may; empty: it does not end early.
        is_timed: Whether quotas were played through.
    """
    price, world = setting.backend.price, setting.world
    found = figures_of(draws, price)
    if early:
        found = _ending_early(setting, figures_of(early, price), found)
    times = is_timed and (setting.knowledge.has_latency or has_windows(world.limits))
    wall_s, total = found.wall_s if times else None, found.total
    return Estimate(
        model=model or setting.backend.card.name,
        calls=total.calls,
        evaluations=found.evaluations,
        attempts=total.attempts,
        tokens=total.tokens,
        cost_usd=total.cost_usd,
        wall_s=wall_s,
        generations=found.generations,
        by_purpose=found.by_purpose,
        quota_days=_days(total.calls, wall_s, world),
        began=datetime.datetime.fromtimestamp(world.began_s, datetime.UTC),
        notes=_notes(setting, has_time=times, planned=found.generations.high, is_timed=is_timed),
        tokens_by=setting.backend.method,
        is_counted=setting.backend.is_exact,
        draws=len(draws),
        probed=probed,
        _setting=setting,
        _budget=budget,
    )


def _ending_early(setting: Setting, early: Figures, found: Figures) -> Figures:
    """What is expected is that of the end that is expected, in proportion to generations."""
    earliest, planned = early.generations.expected, found.generations.expected
    part = (setting.expected_end(planned) - earliest) / (planned - earliest) if planned > earliest else 1.0
    return between(early, found, part=min(max(part, 0.0), 1.0))


def _notes(setting: Setting, *, has_time: bool, planned: float, is_timed: bool) -> tuple[str, ...]:
    told = (
        (_ONLY_QUOTA, has_time and not setting.knowledge.has_latency),
        (_UNFAILED, not is_timed),
        (_PLATEAU, setting.expected_end(planned) < planned),
        (_HEDGED, setting.may_hedge),
        (_RESTARTS, setting.preset.restarts > 0),
        (_FREE, setting.backend.card.price is None and setting.backend.price is not None),
    )
    return tuple(note for note, holds in told if holds)


def _days(calls: Range, wall_s: Range | None, world: World) -> Range | None:
    """Days that so many calls are spread over: as the quota takes, or more where something else holds them up."""
    a_day = world.limits.requests_per_day
    if not a_day:
        return None

    def days(count: float, elapsed_s: float) -> int:
        return max(math.ceil(count / a_day), _day_of(elapsed_s, world))

    if wall_s is None:
        wall_s = Range.exactly(0.0)
    ends = zip((calls.low, calls.expected, calls.high), (wall_s.low, wall_s.expected, wall_s.high), strict=True)
    return Range(*(days(count, elapsed_s) for count, elapsed_s in ends))


def _day_of(elapsed_s: float, world: World) -> int:
    """Which day it is after so many seconds; the first is 1."""
    if world.limits.day_time_zone is None:
        return int(elapsed_s // 86_400) + 1
    zone = ZoneInfo(world.limits.day_time_zone)
    began, then = (datetime.datetime.fromtimestamp(world.began_s + s, zone).date() for s in (0.0, elapsed_s))
    return (then - began).days + 1


def _usd(amount_nanousd: int) -> Decimal:
    return usd(amount_nanousd)


def _plain(found: Range | None) -> dict[str, float] | None:
    return None if found is None else found.to_dict()


def _compared(found: Range | None, actual: float | None, slack: float) -> dict[str, float | bool | None] | None:
    if found is None:
        return None
    is_within = None if actual is None else found.low - slack <= actual <= found.high + slack
    return {**found.to_dict(), "actual": actual, "is_within": is_within}


def _shown(found: Range | None) -> str:
    if found is None:
        return "unknown"
    if found.is_exact:
        return f"{found.expected:,.10g}"
    return f"{found.expected:,.6g} ({found.low:,.6g} .. {found.high:,.6g})"
