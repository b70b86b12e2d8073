"""`await estimate(backend, train)`: from data and a backend to an estimate, without sending a call."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.backend import Backend
from lmaas_sdk.client import Client
from lmaas_sdk.planning.conditions import Conditions
from lmaas_sdk.planning.counted import CountedBackend
from lmaas_sdk.planning.draws import Knowledge
from lmaas_sdk.planning.estimated import Estimate, estimate_of
from lmaas_sdk.planning.learned import History
from lmaas_sdk.planning.probe import Probe, probe_costs, probed
from lmaas_sdk.planning.setting import Setting
from lmaas_sdk.seeding import whole_number
from lmaas_sdk.tasks import Dataset
from lmaas_sdk.traffic.retry import RetryPolicy
from lmaas_sdk.tuning.preparation import prepare
from lmaas_sdk.tuning.presets import DEFAULT_PRESET, Preset, get_preset
from lmaas_sdk.tuning.scheduling import Scheduling

__all__ = ["Estimate", "Estimating", "estimate"]


@dataclass(frozen=True, slots=True, eq=False)
class Estimating:
    """A run that is to be estimated, as a tuner has it.

    Args:
        backend: The model.
        budget: What the run may spend; None: 8000 evaluations.
        preset: The settings of the search.
        seed: Of the subspace.
        scheduling, retry: As of the tuner.
        conditions: What the provider is like.
        probe: Calls that are sent to see how long they take; 0: none.
        history: How earlier attempts ended; None: as `conditions` say.
    """

    backend: Backend
    budget: Budget | None
    preset: Preset
    seed: int
    scheduling: Scheduling
    retry: RetryPolicy
    conditions: Conditions
    probe: int = 0
    history: History | None = None

    async def of(self, datasets: Mapping[str, Dataset | None]) -> Estimate:
        """The estimate for these sets (train, dev, test, manual)."""
        whole_number("probe", self.probe, at_least=0)
        if self.probe and self.conditions.latency is not None:
            raise ValueError("a probe learns the latency, and one is given: leave one of them out")
        counted = _counted(self.backend)
        card, price = counted.card, self.conditions.price
        if price is not None:
            counted = counted.priced(price)
        if self.budget is not None:
            await self.budget.ready()
        subspace = self.preset.subspace(card, self.seed)
        data = await prepare(Client(counted, Budget()), subspace, datasets=datasets)
        setting = Setting(
            backend=counted,
            preset=self.preset.sized(card),
            data=data,
            scheduling=self.scheduling,
            policy=self.retry,
            conditions=self.conditions,
            knowledge=self._knowledge(()),
        )
        if not self.probe:
            return await asyncio.to_thread(estimate_of, setting, self.budget)  # it plays for a second or two
        seen = await self._probed(setting)
        learned = replace(setting, knowledge=self._knowledge(seen.measured_s))
        return await asyncio.to_thread(estimate_of, learned, self.budget, probed=seen.spent)

    def _knowledge(self, measured_s: tuple[float, ...]) -> Knowledge:
        history, latency = self.history, self.conditions.latency
        if not measured_s and latency is None and history is not None:
            measured_s = history.measured_s
        return Knowledge(latency, measured_s, self.conditions.failures, history)

    async def _probed(self, setting: Setting) -> Probe:
        """What calls show; a budget that does not pay for them and a run after them is told before any is sent."""
        client = Client(
            self.backend, self.budget or Budget(), retry=self.retry, quotas=self.conditions.quotas, cache=False
        )
        train, candidates = setting.data["train"], self.preset.population + self.scheduling.over_ask
        costs = probe_costs(client, train, candidates=candidates, calls=self.probe)
        setting.work(self.budget, beside=costs)
        return await probed(client, train, candidates=candidates, calls=self.probe)


def _counted(backend: Backend) -> CountedBackend:
    return backend if isinstance(backend, CountedBackend) else CountedBackend(backend)


async def estimate(  # noqa: PLR0913  (all but three by name)
    backend: Backend,
    train: Dataset,
    dev: Dataset | None = None,
    *,
    test: Dataset | None = None,
    compare_manual: bool = False,
    budget: Budget | None = None,
    evaluations: int | None = None,
    preset: str | Preset = DEFAULT_PRESET,
    seed: int = 42,
    scheduling: Scheduling | None = None,
    retry: RetryPolicy | None = None,
    conditions: Conditions | None = None,
    probe: int = 0,
    history: History | None = None,
) -> Estimate:
    """What a run of `Tuner.fit` will come to.

    Tokens are those of the data, counted by the model's own tokenizer where the backend hands out one that can be read
    here, else by its free registration, else bounded. Nothing is sent but by a probe. Attempts that are refused, and
    those that a server loses at once, are taken to come back at once.

    Args:
        backend: The model, or one `OnPaper`.
        train, dev, test, compare_manual: As of `Tuner.fit`.
        budget: What the run may spend; None: 8000 evaluations.
        evaluations: The same as `Budget(evaluations=...)`.
        preset, seed, scheduling, retry: As of `Tuner`.
        conditions: What the provider is like: another price than the card's, quotas beside the card's, latency,
            failures, and when the run begins.
        probe: So many real calls are sent, one after the other, to learn the latency. The budget pays for them, under
            the purpose `probe`; they are not part of the estimate.
        history: How earlier attempts ended, from `read_history`: failure rates in the place of those of `conditions`
            and, where no latency is given or probed, the latencies.

    Raises:
        BudgetTooSmall: The budget cannot pay for one generation, and the probe before it.
        TaskError: The data are unusable.
        ValueError: A setting is out of its range; both `budget` and `evaluations` are given; or nothing but time
            limits the run, and no latency is known or it is 0.
        QuotaExceeded: The quota lets a call of a generation never through, however long it waits.
        BudgetExceeded, BackendError: A probe was not answered.
    """
    if evaluations is not None and budget is not None:
        raise ValueError("evaluations= is short for a budget: give one of the two")
    if evaluations is not None:
        budget = Budget(evaluations=whole_number("evaluations", evaluations, at_least=1), warn_at=())
    run = Estimating(
        backend,
        budget,
        get_preset(preset),
        seed,
        scheduling or Scheduling(),
        retry or RetryPolicy(),
        conditions or Conditions(),
        probe,
        history,
    )
    return await run.of({"train": train, "dev": dev, "test": test, "manual": test if compare_manual else None})
