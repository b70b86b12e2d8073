"""What an estimate is made of, so that it can be made again for another budget or price."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.prices import Price
from lmaas_sdk.client import Client
from lmaas_sdk.errors import BudgetTooSmall
from lmaas_sdk.outside import outside
from lmaas_sdk.planning.conditions import Conditions, Failures, Latency
from lmaas_sdk.planning.draws import Knowledge, draws_of
from lmaas_sdk.planning.plateau import expected_end
from lmaas_sdk.planning.played import Played
from lmaas_sdk.planning.work import Work, scratch_budget, work_of
from lmaas_sdk.planning.world import World, has_windows
from lmaas_sdk.traffic.concurrency import most_at_once
from lmaas_sdk.traffic.quota import check_ever_fits
from lmaas_sdk.traffic.retry import RetryPolicy
from lmaas_sdk.tuning.plan import RunCosts, plan_run
from lmaas_sdk.tuning.preparation import LabelledTexts, run_costs, will_race
from lmaas_sdk.tuning.presets import Preset
from lmaas_sdk.tuning.racing import Racing
from lmaas_sdk.tuning.scheduling import Scheduling

if TYPE_CHECKING:
    from lmaas_sdk.planning.counted import CountedBackend

__all__ = ["Setting"]


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """A run on counted data, but for its budget.

    Args:
        backend: Has the card, price included; takes no calls.
        preset: The settings of the search, its sizes worked out.
        data: The sets, by name.
        scheduling, policy: As of the tuner.
        conditions: Quotas and the first moment.
        knowledge: Of latency and failures.
        seed: Of the chance.
    """

    backend: CountedBackend
    preset: Preset
    data: Mapping[str, LabelledTexts]
    scheduling: Scheduling
    policy: RetryPolicy
    conditions: Conditions
    knowledge: Knowledge
    seed: int = 0

    @property
    def _candidates(self) -> int:
        return self.preset.population + self.scheduling.over_ask

    @property
    def client(self) -> Client:
        """One that would send the calls."""
        return Client(self.backend, Budget(), quotas=self.conditions.quotas)

    def priced(self, price: Price) -> Setting:
        """The same at another price."""
        return replace(self, backend=self.backend.priced(price))

    def work(self, budget: Budget | None, *, beside: Amounts | None = None) -> Work:
        """The steps of the run within a budget.

        Args:
            budget: None: 8000 evaluations.
            beside: What it has to pay for, too, before the run.

        Raises:
            BudgetTooSmall: It cannot pay for one generation, and for what comes before it.
            QuotaExceeded: The quota lets a call of a generation never through, however long it waits.
            ValueError: Nothing but time limits the run, and none passes; or it would repeat its calls for ever.
        """
        client, preset = self.client, self.preset
        is_raced = will_race(client, preset, self.data["train"], given=budget)
        racing = Racing() if is_raced else None
        costs = run_costs(self.backend, preset, self.data, candidates=self._candidates, racing=racing)
        if budget is not None:
            _check_pays(budget, costs, beside)
        scratch = scratch_budget(budget, costs)
        plan = plan_run(scratch, costs)
        if plan.generations is None and not (self.knowledge.has_latency and self._takes_time):
            raise ValueError("only time limits this run: say how long calls take (a latency above 0, or a probe)")
        work = work_of(
            client,
            self.data,
            racing=racing,
            costs=costs,
            plan=plan,
            budget=scratch,
            population=preset.population,
            over_ask=self.scheduling.over_ask,
        )
        self._check_ends(work)
        return work

    def _check_ends(self, work: Work) -> None:
        self.knowledge.failures.check_ends(self.policy.max_wait_s, work.wall_s)
        limits = self.client.limits("score")
        for ask in work.rungs[0](work.candidates):
            check_ever_fits(ask.worst.tokens, limits)

    @property
    def _takes_time(self) -> bool:
        """Whether time passes, so that a limit of it ends the run."""
        return self.knowledge.takes_time or has_windows(self.client.limits("score"))

    def unlimited(self, generations: int) -> Work:
        """The steps of a run that does so many generations, whatever they take."""
        work = self.work(Budget(evaluations=generations * self._candidates, warn_at=()))
        free = dict.fromkeys(work.free, None)
        return replace(work, free=free, wall_s=None, plan=work.costs.plan(generations), most=generations)

    def draws(self, work: Work) -> list[Played]:
        """The run as it may go."""
        return draws_of(work, self.world, self.knowledge, seed=self.seed)

    @property
    def world(self) -> World:
        """How its calls fare, but for what is known of latency and failures."""
        client, card = self.client, self.backend.card
        began = self.conditions.began
        return World(
            limits=client.limits("score"),
            most_at_once=most_at_once(card),
            policy=self.policy,
            scheduling=self.scheduling,
            bills_once=card.capabilities.idempotent,
            latency=Latency(),
            failures=Failures(),
            began_s=outside().wall() if began is None else began.timestamp(),
        )

    @property
    def may_hedge(self) -> bool:
        """Whether calls may be sent twice, and nobody can tell how many, because no latency is known."""
        return self.scheduling.stragglers == "hedge" and not self.knowledge.has_latency

    @property
    def _at_plateau(self) -> int | None:
        """Generations after which a plateau may end the run at the earliest; None: it has none."""
        if self.preset.plateau is None:
            return None
        return self.preset.plateau + (self.preset.dev_every if "dev" in self.data else 1)

    def at_earliest(self, work: Work) -> Work | None:
        """The run if it ends as early as it may; None: nothing is known to end it before its budget.

        A plateau may, and so may calls that are sent twice, if as many are as the run allows.
        """
        planned, ends = work.plan.generations, [self._at_plateau]
        if planned is not None and self.may_hedge:
            ends.append(max(1, math.floor(planned / (1 + self.scheduling.most_hedged))))
        earliest = min((end for end in ends if end is not None), default=None)
        if earliest is None or (planned is not None and planned <= earliest):
            return None
        return replace(work, most=earliest)

    def expected_end(self, planned: float) -> float:
        """Generations after which a run that the budget pays for so many can be expected to end."""
        earliest = self._at_plateau
        if self.preset.plateau is None or earliest is None:
            return planned
        return expected_end(self.preset.plateau, earliest, planned)


def _check_pays(budget: Budget, costs: RunCosts, beside: Amounts | None) -> None:
    """Has the given budget itself say what it lacks: one that is planned with knows nothing of what is spent.

    Raises:
        BudgetTooSmall: It does not pay for one generation.
    """
    plan_run(budget, costs)
    if beside is not None:
        try:
            plan_run(budget, replace(costs, test=costs.test + beside))
        except BudgetTooSmall as error:
            raise BudgetTooSmall.of(error, "a probe and one generation after it do not fit together") from None
