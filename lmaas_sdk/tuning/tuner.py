"""`await Tuner(backend).fit(train)`: black-box tuning within a budget (Sun et al. 2022)."""

from __future__ import annotations

import asyncio
import importlib.metadata
import platform
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.backend import Backend, Limits
from lmaas_sdk.canonical import array_digest
from lmaas_sdk.client import Client, OnWait
from lmaas_sdk.errors import BackendError, BudgetExceeded, BudgetTooSmall, QuotaExceeded
from lmaas_sdk.tasks import Dataset
from lmaas_sdk.traffic.cache import ReplyCache
from lmaas_sdk.traffic.retry import RetryPolicy
from lmaas_sdk.tuning.events import Event, Listener, RunPlanned, Waiting, dev_scored_of, generations_of
from lmaas_sdk.tuning.optimizer import Optimizer
from lmaas_sdk.tuning.predictor import Evaluation, Predictor, evaluation
from lmaas_sdk.tuning.preparation import LabelledTexts, budget_and_plan, prepare, run_costs
from lmaas_sdk.tuning.presets import Preset, get_preset
from lmaas_sdk.tuning.prompt import TunedPrompt
from lmaas_sdk.tuning.result import ResultCore, Stopped, TuningResult, limits_in_force
from lmaas_sdk.tuning.run import Run
from lmaas_sdk.tuning.scheduler import Scheduler
from lmaas_sdk.tuning.selection import Choice, ChosenBy
from lmaas_sdk.tuning.subspace import Subspace

__all__ = ["Tuner"]

_Data = Mapping[str, LabelledTexts]


class Tuner:
    """Tunes the soft prompt of a model that can only be called.

    Args:
        backend: The model.
        budget: What the run may spend; None: 8000 evaluations and, where the model has a price, no more money than
            they cost.
        preset: Name of a preset, or a `Preset` of your own.
        seed: Of the search and of the subspace.
        retry: When failed attempts are repeated.
        quotas, cache: As of `Client`: limits beside those that the backend tells, and where answers are kept.

    Raises:
        ValueError: The preset is unknown.
        Unsupported: The backend takes no such soft prompts.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        budget: Budget | None = None,
        preset: str | Preset = "paper",
        seed: int = 42,
        retry: RetryPolicy | None = None,
        quotas: str | Limits | Mapping[str, Limits] | None = None,
        cache: ReplyCache | bool = True,
    ) -> None:
        if budget is not None and not isinstance(budget, Budget):
            raise TypeError(f"budget is a Budget, such as Budget(usd='5.00'), not {budget!r}")
        self.backend = backend
        self.budget = budget
        self.preset = get_preset(preset)
        self.seed = seed
        self.subspace: Subspace = self.preset.subspace(backend.card, seed)
        self._retry = retry or RetryPolicy()
        self._quotas, self._cache = quotas, cache
        self._stops: set[asyncio.Event] = set()  # one for every fit that is under way

    async def fit(
        self,
        train: Dataset,
        dev: Dataset | None = None,
        *,
        test: Dataset | None = None,
        compare_manual: bool = False,
        max_wait_s: float | None = None,
        on_event: Listener | None = None,
    ) -> TuningResult:
        """Searches for a prompt until the budget ends, and returns the best one found.

        With a dev set, every `dev_every` generations and at the end the generation's best and the mean of the search
        are scored on it, and the best of these is returned; without one, the candidate with the lowest train loss: of
        the lowest few in float32, where the backend lets the search see fewer bits. The cost of this and of `test` is
        set aside before the first generation.

        Args:
            train: Labelled examples, at least one of each class. They carry their task.
            dev: Others, to choose by.
            test: Others again, which the chosen prompt is evaluated on once, at the end.
            compare_manual: Evaluate the manual prompt on `test` as well.
            max_wait_s: Most seconds a call may wait for the provider's rate limit before the run stops with "quota".
            on_event: Called with every event of the run, on the event loop's thread.

        Returns:
            The result. `stopped` says why it ended. Once a generation is done, a budget or quota that ends is no error,
            and neither is a backend that fails for good: then `stopped` is "interrupted" and `failure` says how.

        Raises:
            BudgetTooSmall: The budget cannot pay for one generation; nothing was sent.
            EmptyClass: A class has no training example.
            TaskError: The data are unusable otherwise; nothing was sent.
            LedgerConflict: The budget is in its ledger with other limits.
            BudgetExceeded, QuotaExceeded, BackendError: It ended before the first generation was done.
        """
        retry = self._retry if max_wait_s is None else replace(self._retry, max_wait_s=max_wait_s)
        datasets = {"train": train, "dev": dev, "test": test, "manual": test if compare_manual else None}
        listen = on_event or _ignore
        client = Client(
            self.backend,
            self.budget or Budget(),
            retry=retry,
            quotas=self._quotas,
            cache=self._cache,
            on_wait=_waiting(listen),
        )
        await client.budget.ready()
        with _clock_of(self.budget), self._stoppable() as stop:
            try:
                return await self._fit(client, datasets, listen=listen, stop=stop)
            except BudgetExceeded as end:
                if isinstance(end, BudgetTooSmall) or client.spend.total.calls:
                    raise
                raise BudgetTooSmall.of(end, "it ended before the first call") from end
            finally:
                await client.budget.ledger.flush()

    def stop(self) -> None:
        """Ends every `fit` that is under way after its generation; the result says "interrupted".

        What has been found is returned; neither dev nor test is looked at any more. From a signal handler of the event
        loop, say. A fit that has done no generation yet does one.
        """
        for stop in self._stops:
            stop.set()

    @contextmanager
    def _stoppable(self) -> Iterator[asyncio.Event]:
        stop = asyncio.Event()
        self._stops.add(stop)
        try:
            yield stop
        finally:
            self._stops.discard(stop)

    async def _fit(
        self, client: Client, datasets: Mapping[str, Dataset | None], *, listen: Listener, stop: asyncio.Event
    ) -> TuningResult:
        data = await prepare(client, self.subspace, datasets=datasets)
        costs = run_costs(self.backend, self.preset, data)
        budget, plan = budget_and_plan(self.budget, costs, self.preset.population)
        listen(RunPlanned(plan.generations, self.preset.population))
        allowance = await budget.hold_aside("dev and test", plan.set_aside)
        try:
            run_id = uuid.uuid4().hex
            main = Scheduler(client.with_budget(budget), run_id)
            side = Scheduler(client.with_budget(allowance, spare=budget), run_id)
            run = Run(
                self.preset,
                train=data["train"],
                dev=data.get("dev"),
                scheduler=main,
                # where nothing that is counted limits the run, no more was set aside than the test needs
                side_scheduler=main if plan.generations is None else side,
                costs=costs,
                generations=plan.generations,
                tell=listen,
                is_stopped=stop.is_set,
            )
            stopped = await run.search(self._make_optimizer)
            return await self._result(run, stopped, data=data, schedulers=(main, side), stop=stop)
        finally:
            allowance.release()

    async def _result(
        self, run: Run, stopped: Stopped, *, data: _Data, schedulers: tuple[Scheduler, Scheduler], stop: asyncio.Event
    ) -> TuningResult:
        main, side = schedulers
        choice, chosen_by = run.chosen
        task, card = data["train"].dataset.task, self.backend.card
        prompt = TunedPrompt(task, self.subspace, choice.z, card.name, card.tokenizer_digest)
        asked = [("test", prompt.Z), ("manual", None)] if stopped != "interrupted" else []
        found = {name: await _evaluate(run, side, (name, data.get(name)), Z=Z, stop=stop) for name, Z in asked}
        return TuningResult(
            core=await asyncio.to_thread(self._core, run, choice, chosen_by, data),  # it works out an interval
            prompt=prompt,
            choice=choice,
            chosen_by=chosen_by,
            noise=run.selection.noise.deviation,
            stopped="interrupted" if stop.is_set() else stopped,
            failure=run.failure,
            test=found.get("test"),
            manual=found.get("manual"),
            spend=main.client.spend,
            budget=limits_in_force(main.client.budget),
            wall_s=run.elapsed_s,
            versions=await asyncio.to_thread(_versions, self.backend),  # it reads files
            warnings=tuple(sorted(run.warnings)),
            shortened={name: texts.scorable.shortened for name, texts in data.items()},
            history=tuple(run.history),
            predictor=Predictor(main.client.with_budget(self.budget or Budget()), task, prompt),
        )

    def _make_optimizer(self) -> Optimizer:
        from lmaas_sdk.tuning.cmaes import PycmaOptimizer  # noqa: PLC0415  (pulls in scipy where it is installed)

        return PycmaOptimizer(
            self.preset.d,
            population=self.preset.population,
            sigma0=self.preset.sigma0,
            diagonal=self.preset.covariance == "diagonal",
            step_size=self.preset.step_size,
            seed=self.seed,
        )

    def _core(self, run: Run, choice: Choice, chosen_by: ChosenBy, data: _Data) -> ResultCore:
        settings = {
            "preset": self.preset.to_dict(),
            "seed": self.seed,
            "subspace": self.subspace.digest,
            "data": {name: texts.dataset.digest for name, texts in data.items()},
        }
        if self.backend.card.capabilities.precise:
            settings["losses"] = "fewer bits than float32"
        return ResultCore(
            settings=settings,
            choice=choice.to_dict() | {"chosen_by": chosen_by, "z": array_digest(choice.z)},
            losses=tuple(run.losses),
            curve=tuple(event.to_row() for event in generations_of(run.history)),
            dev=tuple(scored.to_row() for scored in dev_scored_of(run.history)),
            evaluations=run.evaluations,
        )


async def _evaluate(
    run: Run,
    scheduler: Scheduler,
    asked: tuple[str, LabelledTexts | None],
    *,
    Z: NDArray[np.float32] | None,
    stop: asyncio.Event,
) -> Evaluation | None:
    """The evaluation that was asked for, if any; what cannot be paid for or answered is left out, and said."""
    name, texts = asked
    if texts is None or stop.is_set():
        return None
    try:
        logits = await scheduler.score(texts.scorable, Z, "test", label=name)
    except (BudgetExceeded, QuotaExceeded, BackendError) as end:
        run.warnings.add(f"an evaluation on the test set was not made: {end}")
        return None
    return evaluation(logits[0], texts.dataset, shortened=texts.scorable.shortened)


@contextmanager
def _clock_of(budget: Budget | None) -> Iterator[None]:
    """Wall time counts inside."""
    if budget is None:
        yield
        return
    budget.start()
    try:
        yield
    finally:
        budget.stop()


def _waiting(listen: Listener) -> OnWait:
    return lambda wait_s, error: listen(Waiting(wait_s, str(error) if error is not None else "the quota"))


def _ignore(event: Event) -> None:
    pass


def _versions(backend: Backend) -> dict[str, str]:
    packages = {name: importlib.metadata.version(name) for name in ("lmaas-sdk", "cma", "numpy")}
    return packages | {"python": platform.python_version(), "engine": backend.card.fingerprint}
