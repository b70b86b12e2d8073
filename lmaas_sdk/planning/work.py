"""What a run sends, step by step, as it is known before the first call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial

from lmaas_sdk.accounting.amounts import UNITS, Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.money import usd
from lmaas_sdk.accounting.spend import Purpose
from lmaas_sdk.calls import n_texts_of
from lmaas_sdk.client import Client
from lmaas_sdk.tuning.parts import Part, blank
from lmaas_sdk.tuning.plan import DEFAULT_EVALUATIONS, Plan, RunCosts, is_limited
from lmaas_sdk.tuning.preparation import LabelledTexts
from lmaas_sdk.tuning.racing import Racing, rungs
from lmaas_sdk.tuning.scheduler import Scheduler
from lmaas_sdk.tuning.selection import MOST_RESCORED

__all__ = ["Ask", "Step", "Work", "scratch_budget", "work_of"]

_AT_A_LOOK = 2  # the generation's best and the mean


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """One call of a run.

    Args:
        purpose: What for.
        worst: What it takes.
        pairs: Texts under candidates that it asks about.
        candidates: How many it scores.
    """

    purpose: Purpose
    worst: Amounts
    pairs: int
    candidates: int


Step = tuple[Ask, ...]
"""Calls that go out together."""


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """The steps of a run, and how often each is taken.

    Args:
        rungs: Scoring so many candidates of a generation: one such step, or one for each rung of a race.
        candidates: Of a generation.
        look: Scoring two candidates on the dev set; empty without one.
        repeat: Scoring a candidate again, where a backend does not repeat itself.
        again: Scoring the best of 2, 3, ... generations again, where the search sees fewer bits; empty: not done.
        test, manual: What comes at the end.
        costs: The same in amounts.
        plan: How far the budget reaches.
        free: What it has of each unit; None: no limit.
        wall_s: Its limit of time; None: none.
        population: Candidates that a generation has to have.
        most: Generations that it does at most, whatever it may spend; None: as many as it can.
    """

    rungs: tuple[Callable[[int], Step], ...]
    candidates: int
    look: Step
    repeat: Step
    again: tuple[Step, ...]
    test: Step
    manual: Step
    costs: RunCosts
    plan: Plan
    free: Mapping[str, int | Fraction | None]
    wall_s: float | None
    population: int
    most: int | None = None

    @property
    def is_raced(self) -> bool:
        """Whether what a generation takes is up to chance."""
        return len(self.rungs) > 1

    def again_after(self, generations: int) -> Step:
        """Scoring the best of so many generations again; a single one has no rival."""
        steps = self.again[: max(0, generations - 1)]
        return steps[-1] if steps else ()


def work_of(  # noqa: PLR0913  (made in one place)
    client: Client,
    data: Mapping[str, LabelledTexts],
    *,
    racing: Racing | None,
    costs: RunCosts,
    plan: Plan,
    budget: Budget,
    population: int,
    over_ask: int = 0,
) -> Work:
    """The steps of a run on data that are counted.

    Args:
        client: Would send them.
        data: The sets, by name.
        racing: How a generation is raced; None: it is not.
        costs, plan: As the run works them out.
        budget: What it may spend.
        population: Candidates of a generation.
        over_ask: Candidates beyond these.
    """
    scheduler = Scheduler(client, "planning")
    train = data["train"]

    def step(name: str, candidates: int, purpose: Purpose, rows: tuple[int, ...] | None = None) -> Step:
        return _step(scheduler, data[name], candidates, purpose, rows=rows) if name in data else ()

    candidates = population + over_ask
    of_race = [None] if racing is None else list(rungs(racing, train.dataset.labels, seed=0, generation=0))
    is_again = scheduler.sees_fewer_bits and "dev" not in data
    return Work(
        rungs=tuple(cache(partial(step, "train", purpose="train", rows=rows)) for rows in of_race),
        candidates=candidates,
        look=step("dev", _AT_A_LOOK, "dev"),
        repeat=() if client.backend.card.capabilities.deterministic else step("train", 1, "train"),
        again=tuple(step("train", count, "train") for count in range(2, MOST_RESCORED + 1)) if is_again else (),
        test=step("test", 1, "test"),
        manual=step("manual", 1, "test"),
        costs=costs,
        plan=plan,
        free={unit: budget.least_free(unit) for unit in UNITS},
        wall_s=_least_wall_s(budget),
        population=population,
    )


def scratch_budget(given: Budget | None, costs: RunCosts) -> Budget:
    """A budget in memory with what is left of the given one, so that planning leaves no trace in a ledger.

    Without one, or with one that limits nothing that is charged here: 8000 evaluations, as of `Tuner`.
    """
    left = {unit: None if given is None else given.least_free(unit) for unit in UNITS}
    wall_s = None if given is None else _least_wall_s(given)
    nothing_binds = given is None or (not is_limited(given, costs) and wall_s is None)
    evaluations = left["evaluations"]
    return Budget(
        calls=_whole(left["calls"]),
        evaluations=DEFAULT_EVALUATIONS if nothing_binds else _whole(evaluations),
        tokens=_whole(left["tokens"]),
        usd=None if left["nanousd"] is None else usd(int(left["nanousd"])),
        wall_s=wall_s,
        name="budget" if given is None else given.name,
        warn_at=(),
    )


def _whole(amount: int | Fraction | None) -> int | None:
    return None if amount is None else int(amount)


def _least_wall_s(budget: Budget) -> float | None:
    limits = [float(limit) for above in budget.line() if (limit := above.limits["wall_s"]) is not None]
    return min(limits, default=None)


def _step(
    scheduler: Scheduler, texts: LabelledTexts, candidates: int, purpose: Purpose, *, rows: tuple[int, ...] | None
) -> Step:
    Z = blank(texts.scorable.subspace, candidates, apart=purpose != "train")
    return tuple(map(_ask, scheduler.parts(texts.scorable, Z, purpose, label="planning", rows=rows)))


def _ask(part: Part) -> Ask:
    query, candidates = part.call.query, part.candidates.stop - part.candidates.start
    return Ask(part.call.purpose, part.call.worst, candidates * (n_texts_of(query) or 0), candidates)
