"""Several prompts tuned within one budget, and used together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.accounting.spend import Spend
from lmaas_sdk.backend import Backend, Limits
from lmaas_sdk.client import Client
from lmaas_sdk.errors import BudgetTooSmall
from lmaas_sdk.methods.black_box import BlackBoxPredictor
from lmaas_sdk.methods.calibrating import Calibrating, Calibration, checked_calibration
from lmaas_sdk.methods.connection import Connection
from lmaas_sdk.methods.ensemble import EnsemblePredictor, best_candidates
from lmaas_sdk.methods.method import task_of
from lmaas_sdk.methods.parts import Parts, noted_parts, recorded_parts
from lmaas_sdk.methods.prompt_choice import asked_as, asked_otherwise, read_templates
from lmaas_sdk.seeding import whole_number
from lmaas_sdk.tasks import Dataset, Task, Template
from lmaas_sdk.traffic.cache import ReplyCache
from lmaas_sdk.traffic.retry import RetryPolicy
from lmaas_sdk.tuning.group import TunerGroup
from lmaas_sdk.tuning.group_result import GroupResult
from lmaas_sdk.tuning.options import check_kinds
from lmaas_sdk.tuning.plan import DEFAULT_EVALUATIONS, RunCosts, plan_run
from lmaas_sdk.tuning.preparation import costs_beforehand, effective_budget
from lmaas_sdk.tuning.presets import DEFAULT_PRESET, Preset, get_preset
from lmaas_sdk.tuning.result import TuningResult
from lmaas_sdk.tuning.tuner import Tuner

__all__ = ["PromptEnsemble"]


class PromptEnsemble:
    """Tunes several prompts, each from a seed of its own, and predicts by the mean of their probabilities.

    Args:
        backend: The model.
        budget: What all members together may spend, shared as in a `TunerGroup`; None, or where it limits nothing that
            is charged: 8000 evaluations. Where it is too small for a generation of each, there are fewer members.
        members: How many runs; their seeds are `seed`, `seed + 1` and so on.
        best: How many prompts of each run, the best on dev: they go out in one call. A run that was cut short before it
            looked at dev gives one.
        templates: Of the members in turn; empty: the task's own.
        calibration: As of `BlackBoxTuning`, for each member by itself.
        preset, seed, journals: As of `TunerGroup`.
        retry, quotas, cache: As of `Client`.

    Raises:
        TypeError: An option is of another type; the message names it.
        ValueError: An option is out of its range or unknown.
        TaskError: A template is unusable.
        Unsupported: The backend takes no such soft prompts.
    """

    name: ClassVar[str] = EnsemblePredictor.name

    def __init__(  # noqa: PLR0913  (all by name)
        self,
        backend: Backend,
        *,
        budget: Budget | None = None,
        members: int = 5,
        best: int = 1,
        templates: Sequence[str | Template] = (),
        calibration: Calibration | None = None,
        preset: str | Preset = DEFAULT_PRESET,
        seed: int = 42,
        journals: str | Path | None = None,
        retry: RetryPolicy | None = None,
        quotas: str | Limits | Mapping[str, Limits] | None = None,
        cache: ReplyCache | bool = True,
    ) -> None:
        check_kinds(journals=journals)
        self._connection = Connection(backend, budget, retry, quotas, cache)
        self.members = whole_number("members", members, at_least=1)
        self.best = whole_number("best", best, at_least=1)
        self.templates = read_templates(templates)
        self.calibration = checked_calibration(calibration)
        self.preset, self.seed, self.journals = get_preset(preset), whole_number("seed", seed), journals
        self.preset.subspace(backend.card, self.seed)  # what the backend cannot do is said now

    async def fit(self, train: Dataset, dev: Dataset | None = None) -> EnsemblePredictor:
        """Tunes the members side by side until the budget ends, and predicts with all that came to a prompt.

        Args:
            train, dev: Examples to tune on, and to choose by.

        Raises:
            BudgetTooSmall: The budget cannot pay for one generation of one member, or not for calibrating all those
                that go on; nothing was sent.
            TaskError: The data are unusable, or a template asks of other fields; nothing was sent.
            ValueError: The best of each run are wanted, and there is no dev set.
            JournalMismatch: The journals are of another number of members.
            LmaasError: Every member has failed; the first one's error.
        """
        task = task_of(train, dev)
        if self.best > 1 and dev is None:
            raise ValueError(f"the {self.best} best prompts of a run are those on dev, and there is no dev set")
        templates = self.templates or (task.template,)
        tasks = [asked_otherwise(task, template=templates[n % len(templates)]) for n in range(self.members)]
        data = [(asked_as(one, train), None if dev is None else asked_as(one, dev)) for one in tasks]
        budget, costs = await self._shared(*data[0])
        planned = await asyncio.to_thread(self._planned)
        data = data[:planned]
        while True:
            try:
                return await self._fitted(task, data, budget, costs if planned is None else None)
            except BudgetTooSmall:
                if planned is not None or len(data) == 1:  # those that were begun are all of its members
                    raise
                data = data[:-1]

    async def _fitted(
        self, task: Task, data: Sequence[tuple[Dataset, Dataset | None]], budget: Budget, costs: RunCosts | None
    ) -> EnsemblePredictor:
        """With as many members as there are data.

        Args:
            costs: Of a member, which equal parts of the budget have to pay for; None: they were begun before.

        Raises:
            BudgetTooSmall: They do not; nothing was sent.
        """
        group = TunerGroup(budget=budget, journals=self.journals)
        async with AsyncExitStack() as stack:
            finish: dict[str, _Finish] = {}
            for number, (train, dev) in enumerate(data):
                name, seed = f"member-{number}", self.seed + number
                finish[name] = await self._finish(stack, budget, train, seed)
                self._add(group, name, seed, train, dev, members=len(data))
            if costs is not None:
                plan_run(budget if len(data) == 1 else Parts(budget, len(data)).part(0), costs)
            result = await group.fit()
            members = [one for name, run in result.items() for one in await finish[name].members(run)]
        return EnsemblePredictor(members, task, beside=_spent_by_others(result))

    def _planned(self) -> int | None:
        """How many members an earlier process had; None: there was none. Blocking."""
        if self.journals is None:
            return None
        paths = [Path(self.journals) / f"member-{number}.journal" for number in range(self.members)]
        return recorded_parts(paths, self.name, self.members, of="members")

    async def _shared(self, train: Dataset, dev: Dataset | None) -> tuple[Budget, RunCosts]:
        """What all members together may spend, and what one takes; 8000 evaluations, where nothing limits that."""
        to = self._connection
        given = to.budget or Budget(evaluations=DEFAULT_EVALUATIONS, warn_at=())
        await given.ready()
        costs = await costs_beforehand(
            Client(to.backend, Budget(), quotas=to.quotas),
            self.preset,
            {"train": train, "dev": dev},
            seed=self.seed,
            given=given,
        )
        return effective_budget(given, costs, self.preset.population, unique=self.journals is None), costs

    async def _finish(self, stack: AsyncExitStack, budget: Budget, train: Dataset, seed: int) -> _Finish:
        """What becomes of a run; what its calibration costs is set aside until the stack ends."""
        calibrating = Calibrating.of(self.calibration, train.task, train.fields, None)
        if calibrating is None:
            return _Finish(self.best)
        tuner = Tuner(self._connection.backend, budget=budget, preset=self.preset, seed=seed)
        aside = await stack.enter_async_context(calibrating.set_aside(tuner, times=self.best))
        return _Finish(self.best, calibrating, aside)

    def _add(
        self, group: TunerGroup, name: str, seed: int, train: Dataset, dev: Dataset | None, *, members: int
    ) -> None:
        to = self._connection
        group.add(
            name,
            to.backend,
            train,
            dev,
            preset=self.preset,
            seed=seed,
            retry=to.retry,
            quotas=to.quotas,
            cache=to.cache,
            options=noted_parts(self.name, self.members, members),
        )


@dataclass(frozen=True, slots=True)
class _Finish:
    """What becomes of a run.

    Args:
        best: How many of its prompts are used.
        calibrating, aside: How they are calibrated, and from what that is paid; None: they are not.
    """

    best: int
    calibrating: Calibrating | None = None
    aside: Budget | None = None

    async def members(self, run: TuningResult) -> list[BlackBoxPredictor]:
        tuned = BlackBoxPredictor(run.predictor, run)
        found = best_candidates(tuned, self.best) if self.best > 1 and run.dev_scored else [tuned]
        if self.calibrating is None or self.aside is None:
            return found
        return [await self.calibrating.calibrated(one, self.aside) for one in found]


def _spent_by_others(result: GroupResult) -> Spend:
    """What runs took that came to nothing; what for, their results do not tell any more."""
    lost = sum((result.spend[name] for name in result.failures if name in result.spend), Amounts())
    return Spend({"train": lost}) if lost != Amounts() else Spend()
