"""One `Tuner.fit`, from data to result."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.money import usd
from lmaas_sdk.accounting.spend import Spend
from lmaas_sdk.canonical import array_digest
from lmaas_sdk.client import Client
from lmaas_sdk.errors import BackendError, BudgetExceeded, LmaasError, QuotaExceeded
from lmaas_sdk.logs import plain
from lmaas_sdk.outside import outside
from lmaas_sdk.planning.estimated import Estimate
from lmaas_sdk.planning.foreseen import foreseen
from lmaas_sdk.tasks import Dataset
from lmaas_sdk.tuning.deep_subspace import DeepSubspace, Space
from lmaas_sdk.tuning.events import RunPlanned, dev_scored_of, generations_of
from lmaas_sdk.tuning.generation import GenerationScorer
from lmaas_sdk.tuning.horizon import Horizon
from lmaas_sdk.tuning.interruption import Interrupted, unless_stopped
from lmaas_sdk.tuning.journal import Journal
from lmaas_sdk.tuning.journal_place import JournalPlace, opened_journal
from lmaas_sdk.tuning.layers import Layers, deepened, features_cost, layer_std, layers_of, layerwise
from lmaas_sdk.tuning.optimizer import MakeOptimizer, Optimizer, check_is_search
from lmaas_sdk.tuning.persistence import Health
from lmaas_sdk.tuning.plan import Plan, RunCosts, plan_run
from lmaas_sdk.tuning.predictor import Evaluation, Predictor, evaluation
from lmaas_sdk.tuning.preparation import LabelledTexts, effective_budget, prepare, run_costs, will_race
from lmaas_sdk.tuning.presets import Preset
from lmaas_sdk.tuning.prompt import TunedPrompt
from lmaas_sdk.tuning.racing import Racing
from lmaas_sdk.tuning.result import ResultCore, Stopped, TuningResult, limits_in_force
from lmaas_sdk.tuning.resumption import (
    budget_record,
    check_same_settings,
    check_same_versions,
    note_booked,
    restore_spend,
    settings_record,
)
from lmaas_sdk.tuning.run import Run
from lmaas_sdk.tuning.scheduler import Scheduler
from lmaas_sdk.tuning.scheduling import Scheduling
from lmaas_sdk.tuning.selection import Choice, ChosenBy
from lmaas_sdk.tuning.subspace import Subspace
from lmaas_sdk.tuning.surroundings import Surroundings
from lmaas_sdk.tuning.versions import versions_of

__all__ = ["Fit"]

_Data = Mapping[str, LabelledTexts]


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """The settings of one run, and the run.

    Args:
        client: Sends.
        given: The budget that the run was given; None: none.
        preset: The settings of the search, its sizes worked out.
        seed: Of the search and of the subspace.
        scheduling: What to do about the slow and the failed.
        make_optimizer: Of d and a seed.
        is_own_search: Whether that is the user's, and not the preset's.
        place: Where its journal is; None: it keeps none.
        around: What it listens to.
        estimate: What was made of it beforehand; None: it is made before the first call.
        layers: The layers that are searched one after another; None: one prompt is searched, at the embedding output.
    """

    client: Client
    given: Budget | None
    preset: Preset
    seed: int
    scheduling: Scheduling
    make_optimizer: MakeOptimizer
    is_own_search: bool
    place: JournalPlace | None
    around: Surroundings
    estimate: Estimate | None = None
    layers: Layers | None = None

    async def result(self, datasets: Mapping[str, Dataset | None]) -> TuningResult:
        """Runs it.

        Args:
            datasets: train, dev, test and manual (the test set under the manual prompt); None where there is none.

        Raises:
            LmaasError: As `Tuner.fit` says.
        """
        card = self.client.backend.card
        subspace = self.preset.subspace(card, self.seed)
        searched = subspace if self.layers is None else DeepSubspace.provisional(subspace)
        data = await prepare(self.client, searched, datasets=datasets)
        settings = self._settings(subspace, data)
        versions = await asyncio.to_thread(versions_of, card)
        recorded = None if self.place is None else self.place.recorded
        if recorded is None:
            is_raced = will_race(self.client, self.preset, data["train"], given=self.given)
        else:
            is_raced = recorded.races
        racing = Racing() if is_raced else None
        candidates = self.preset.population + self.scheduling.over_ask
        costs = await self._costs(data, candidates=candidates, racing=racing)
        budget = effective_budget(self.given, costs, candidates)
        if recorded is None:
            plan = plan_run(budget, costs)
            header = self._header(
                subspace, settings, versions, plan={"generations": plan.generations, "races": is_raced}
            )
        else:
            check_same_settings(recorded.settings, settings)
            plan, header = costs.plan(recorded.generations), recorded.header
        foresee = partial(
            foreseen,
            self.client,
            self.preset,
            data,
            scheduling=self.scheduling,
            racing=racing,
            costs=costs,
            plan=plan,
            budget=budget,
        )
        # a race is played through, which takes longer than the loop's thread has
        estimate = self.estimate or (await asyncio.to_thread(foresee) if is_raced else foresee())
        async with opened_journal(self.place, header) as journal:
            one = _OneFit(self, data, subspace, settings=settings, versions=versions, journal=journal)
            one.estimate = estimate
            return await one.result(budget, costs, plan, racing=racing, run_id=str(header["run"]))

    async def _costs(self, data: _Data, *, candidates: int, racing: Racing | None) -> RunCosts:
        costs = run_costs(self.client.backend, self.preset, data, candidates=candidates, racing=racing)
        if self.layers is None:
            return costs
        return replace(costs, before=await features_cost(self.client, data["train"]))

    def _settings(self, subspace: Subspace, data: _Data) -> dict[str, Any]:
        settings: dict[str, Any] = settings_record(self.preset, self.scheduling)
        settings |= {"seed": self.seed, "subspace": subspace.digest, "target": self.around.target}
        settings["search"] = "own" if self.is_own_search else "preset"
        settings["data"] = {name: texts.dataset.digest for name, texts in data.items()}
        if self.layers is not None:
            settings["layers"] = self.layers if self.layers == "all" else list(self.layers)
        if self.client.backend.card.capabilities.precise:
            settings["losses"] = "fewer bits than float32"
        return settings

    def _header(
        self, subspace: Subspace, settings: Mapping[str, Any], versions: Mapping[str, str], *, plan: Mapping[str, Any]
    ) -> dict[str, Any]:
        return {
            "run": outside().new_id(),
            "began_at": datetime.fromtimestamp(outside().wall(), UTC).isoformat(timespec="seconds"),
            "settings": settings,
            "subspace": subspace.to_wire(),
            "versions": versions,
            "plan": plan,
            "budget": budget_record(self.given),
            "options": {} if self.place is None else dict(self.place.options),
        }


class _OneFit:
    """A run whose settings, data and journal are there.

    Attributes:
        estimate: What it is expected to come to.
    """

    def __init__(
        self,
        fit: Fit,
        data: _Data,
        subspace: Subspace,
        *,
        settings: dict[str, Any],
        versions: dict[str, str],
        journal: Journal | None,
    ) -> None:
        self._fit, self._data = fit, data
        self._subspace: Space = subspace
        self._settings, self._versions, self._journal = settings, versions, journal
        self._health = Health()
        self._warnings: list[str] = []
        self._is_booked = False  # whether the budget has what the journal has
        self.estimate: Estimate | None = None

    async def result(
        self, budget: Budget, costs: RunCosts, plan: Plan, *, racing: Racing | None, run_id: str
    ) -> TuningResult:
        client = self._fit.client.with_budget(budget)
        try:
            return await self._result(client, costs, plan, racing=racing, run_id=run_id)
        except (LmaasError, asyncio.CancelledError):
            await self._note_left(client)
            raise
        finally:
            if self._is_booked:
                note_booked(client.budget, run_id, client.spend.total)

    async def _note_left(self, client: Client) -> None:
        """Has the journal say what calls cost that were cut short."""
        if self._journal is not None:
            keys, settled = list(client.spend.by_key or ()), client.spend.settled_keys
            await self._journal.left(keys, client.spend.taken(keys), settled=settled)

    async def _result(
        self, client: Client, costs: RunCosts, plan: Plan, *, racing: Racing | None, run_id: str
    ) -> TuningResult:
        fit, budget = self._fit, client.budget
        plan = await self._resumed(client, costs, plan)
        candidates = fit.preset.population + fit.scheduling.over_ask
        fit.around.tell(RunPlanned(plan.generations, candidates))
        aside = await self._set_aside(budget, plan.set_aside)
        horizon = Horizon(budget, aside, costs, generations=plan.generations, candidates=candidates)
        main = self._scheduler(client, run_id)
        side = self._scheduler(client.with_budget(aside, spare=budget), run_id, is_aside=True)
        try:
            await self._learn_layers(side)
            run = Run(
                fit.preset,
                train=self._data["train"],
                dev=self._data.get("dev"),
                scorer=self._scorer(main, racing),
                # where nothing that is counted limits the run, no more was set aside than the test needs
                side_scheduler=main if plan.generations is None else side,
                horizon=horizon,
                around=fit.around,
            )
            stopped = await run.search(self._search)
            side = side.paying_from(client.with_budget(horizon.aside, spare=budget))
            return await self._finished(run, stopped, main=main, side=side)
        finally:
            horizon.aside.release()

    async def _learn_layers(self, scheduler: Scheduler) -> None:
        """Where several layers are searched, asks what is to be known of them."""
        fit, base = self._fit, self._subspace
        if fit.layers is None or isinstance(base, DeepSubspace):
            return
        std = await layer_std(scheduler, self._data["train"])
        space = layers_of(base, fit.layers, std, preset=fit.preset, seed=fit.seed)
        self._subspace, self._data = space, deepened(self._data, space)

    def _scheduler(self, client: Client, run_id: str, *, is_aside: bool = False) -> Scheduler:
        return Scheduler(client, run_id, journal=self._journal, is_aside=is_aside, health=self._health)

    def _search(self) -> Optimizer:
        if isinstance(self._subspace, DeepSubspace):
            return layerwise(self._subspace, self._fit.make_optimizer, self._fit.seed, check_is_search)
        search = self._fit.make_optimizer(self._subspace.d, self._fit.seed)
        check_is_search(search)
        return search

    def _scorer(self, scheduler: Scheduler, racing: Racing | None) -> GenerationScorer:
        fit = self._fit
        return GenerationScorer(
            scheduler,
            self._data["train"],
            objective=fit.preset.objective,
            scheduling=fit.scheduling,
            racing=racing,
            seed=fit.seed,
        )

    async def _resumed(self, client: Client, costs: RunCosts, plan: Plan) -> Plan:
        """Takes over what the journal holds; how far the run goes at least, and what is still to be set aside for it.

        Raises:
            JournalMismatch: The run was begun under other versions or on another engine.
            JournalError: The budget has a part of what was spent already.
            BudgetTooSmall: The budget allows less than was spent already.
        """
        journal, place = self._journal, self._fit.place
        if journal is None or place is None:
            return plan
        client.spend.by_key = {}
        journal.follow(client.budget.ledger)
        if place.recorded is None:
            self._is_booked = True
            return plan
        before = place.recorded.versions
        self._warnings += check_same_versions(before, self._versions, despite=place.despite_changes)
        for others in journal.past.versions:
            self._warnings += check_same_versions(before, others, despite=True)
        is_booked = place.is_booked
        if is_booked is None:
            is_booked = await place.recorded.is_booked_in(client.budget, journal.past)
        await restore_spend(client, journal.past, run=place.recorded.run, is_booked=is_booked)
        self._is_booked = True
        await journal.resumed(self._versions)
        if plan.generations is not None:
            plan = costs.plan(max(plan.generations, journal.past.reached))
        covered = journal.past.covered(None, bills_once=client.backend.card.capabilities.idempotent)
        return replace(plan, set_aside=plan.set_aside.above(covered))

    async def _set_aside(self, budget: Budget, amounts: Amounts) -> Budget:
        """What is not for the search; of a resumed run as much as is left."""
        try:
            return await budget.hold_aside("dev and test", amounts)
        except BudgetExceeded as end:
            if self._journal is None or not self._journal.past.is_resumed:
                raise
            self._warnings.append(f"nothing could be set aside for dev and test: {end}")
            return await budget.hold_aside("dev and test", Amounts())

    async def _finished(self, run: Run, stopped: Stopped, *, main: Scheduler, side: Scheduler) -> TuningResult:
        fit, data, card = self._fit, self._data, main.client.backend.card
        choice, chosen_by = run.chosen
        task = data["train"].dataset.task
        prompt = TunedPrompt(task, self._subspace, choice.z, card.name, card.tokenizer_digest)
        asked = [("test", prompt.Z), ("manual", None)] if stopped != "interrupted" else []
        found = {name: await self._evaluated(run, side, name, Z) for name, Z in asked}
        stopped = "interrupted" if fit.around.stop.is_set() else stopped
        if self._journal is not None:
            await self._note_left(main.client)
            await self._journal.ended(stopped, run.elapsed_s)
        return TuningResult(
            core=await asyncio.to_thread(self._core, run, choice, chosen_by),  # it works out an interval
            prompt=prompt,
            choice=choice,
            chosen_by=chosen_by,
            noise=run.selection.noise.deviation,
            stopped=stopped,
            failure=run.failure,
            test=found.get("test"),
            manual=found.get("manual"),
            spend=main.client.spend,
            budget=limits_in_force(main.client.budget),
            wall_s=run.elapsed_s,
            waits=main.client.waits.seconds(),
            versions=self._versions,
            warnings=tuple(sorted({*run.warnings, *self._warnings})),
            shortened={name: texts.scorable.shortened for name, texts in data.items()},
            history=tuple(run.history),
            predictor=Predictor(main.client.with_budget(fit.given or Budget()), task, prompt),
            estimate=self.estimate,
            actual=self._actual(run, main.client.spend),
        )

    def _actual(self, run: Run, spend: Spend) -> dict[str, float | None]:
        """What the estimate is held against; how often an earlier process has asked, no journal says."""
        total, is_resumed = spend.total, self._fit.place is not None and self._fit.place.recorded is not None
        return {
            "calls": total.calls,
            "evaluations": plain(run.evaluations),
            "attempts": None if is_resumed else spend.attempts,
            "tokens": total.tokens,
            "cost_usd": float(usd(total.nanousd)),
            "wall_s": round(run.elapsed_s, 3),
        }

    async def _evaluated(
        self, run: Run, scheduler: Scheduler, name: str, Z: NDArray[np.float32] | None
    ) -> Evaluation | None:
        """The evaluation that was asked for, if any; what cannot be paid for or answered is left out, and said."""
        texts, stop = self._data.get(name), self._fit.around.stop
        if texts is None or stop.is_set():
            return None
        try:
            # what is scored is part of the label, and so of the key: a run that goes on may choose another prompt
            label = name if Z is None else f"{name} {array_digest(Z)[:8]}"
            logits = await unless_stopped(scheduler.score(texts.scorable, Z, "test", label=label), stop)
        except (BudgetExceeded, QuotaExceeded, BackendError) as end:
            run.warnings.add(f"an evaluation on the test set was not made: {end}")
            return None
        except Interrupted:
            return None
        return evaluation(logits[0], texts.dataset, shortened=texts.scorable.shortened)

    def _core(self, run: Run, choice: Choice, chosen_by: ChosenBy) -> ResultCore:
        return ResultCore(
            settings=self._settings,
            choice=choice.to_dict() | {"chosen_by": chosen_by, "z": array_digest(choice.z)},
            losses=tuple(run.losses),
            curve=tuple(event.to_row() for event in generations_of(run.history)),
            dev=tuple(scored.to_row() for scored in dev_scored_of(run.history)),
            evaluations=plain(run.evaluations),
        )
