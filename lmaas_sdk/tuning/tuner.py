"""`await Tuner(backend).fit(train)`: black-box tuning within a budget (Sun et al. 2022)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from lmaas_sdk.accounting.budget import Budget
from lmaas_sdk.backend import Backend, Limits
from lmaas_sdk.client import Client
from lmaas_sdk.errors import BudgetExceeded, BudgetTooSmall
from lmaas_sdk.planning.conditions import Conditions
from lmaas_sdk.planning.estimate import Estimating
from lmaas_sdk.planning.estimated import Estimate
from lmaas_sdk.planning.learned import History
from lmaas_sdk.seeding import whole_number
from lmaas_sdk.tasks import Dataset
from lmaas_sdk.traffic.cache import ReplyCache
from lmaas_sdk.traffic.quota_presets import quotas_of
from lmaas_sdk.traffic.retry import RetryPolicy
from lmaas_sdk.traffic.waits import BeforeWait
from lmaas_sdk.tuning.events import Event, Listener, Waiting
from lmaas_sdk.tuning.fitting import Fit
from lmaas_sdk.tuning.interruption import Stop
from lmaas_sdk.tuning.journal import Durability, check_durability
from lmaas_sdk.tuning.journal_place import JournalPlace
from lmaas_sdk.tuning.layers import Layers
from lmaas_sdk.tuning.listening import Listening, RunEvents
from lmaas_sdk.tuning.optimizer import MakeOptimizer, Optimizer
from lmaas_sdk.tuning.options import check_backend, check_cache, check_factory, check_kinds, plain_options
from lmaas_sdk.tuning.preparation import check_comparison
from lmaas_sdk.tuning.presets import DEFAULT_PRESET, Preset, get_preset
from lmaas_sdk.tuning.result import TuningResult
from lmaas_sdk.tuning.resumption import Recorded
from lmaas_sdk.tuning.scheduling import Scheduling
from lmaas_sdk.tuning.searches import make_optimizer
from lmaas_sdk.tuning.sharing import Sharing
from lmaas_sdk.tuning.stopping import checked_target
from lmaas_sdk.tuning.surroundings import Surroundings

__all__ = ["Tuner", "one_of_several"]


class Tuner:
    """Tunes the soft prompt of a model that can only be called.

    Args:
        backend: The model.
        budget: What the run may spend; None: 8000 evaluations and, where the model has a price, no more money than
            they cost.
        preset: Name of a preset, or a `Preset` of your own.
        seed: Of the search and of the subspace.
        scheduling: What to do about calls that are slow and candidates that fail.
        optimizer: Makes the search of its dimension and a seed, in the place of the preset's own.
        journal: A file that does not exist yet: the run is written there, and `Tuner.resume` goes on with it.
        durability: When the journal waits for the disk: after each `generation`, `always`, or `never`; see `Journal`.
        retry: When failed attempts are repeated.
        quotas, cache: As of `Client`: limits beside those that the backend tells, and where answers are kept.
        options: Kept in the journal for whoever resumes it, as they are; plain values for JSON.

    Attributes:
        layers: Searched one after another, as `DeepBlackBoxTuning` says; None: one prompt, at the embedding output.

    Raises:
        TypeError: An option is of another type; the message names it.
        ValueError: The preset, the durability or a quota is unknown.
        Unsupported: The backend takes no such soft prompts.
    """

    def __init__(  # noqa: PLR0913  (all by name)
        self,
        backend: Backend,
        *,
        budget: Budget | None = None,
        preset: str | Preset = DEFAULT_PRESET,
        seed: int = 42,
        scheduling: Scheduling | None = None,
        optimizer: MakeOptimizer | None = None,
        journal: str | Path | None = None,
        durability: Durability = "generation",
        retry: RetryPolicy | None = None,
        quotas: str | Limits | Mapping[str, Limits] | None = None,
        cache: ReplyCache | bool = True,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        check_backend(backend)
        check_kinds(budget=budget, scheduling=scheduling, journal=journal, retry=retry)
        check_factory(optimizer)
        check_durability(durability)
        check_cache(cache)
        quotas_of(quotas, "score")
        plain = plain_options(options)
        self.backend = backend
        self.budget = budget
        self.preset = get_preset(preset)
        self.seed = whole_number("seed", seed)
        self.preset.subspace(backend.card, seed)  # what the backend cannot do is said now
        self.layers: Layers | None = None
        self._scheduling = scheduling or Scheduling()
        self._optimizer = optimizer
        self._place = None if journal is None else JournalPlace(Path(journal), durability, options=plain)
        self._retry = retry or RetryPolicy()
        self._quotas, self._cache = quotas, cache
        self._sharing = Sharing()
        self._stops: set[Stop] = set()  # one for every fit that is under way

    @classmethod
    def resume(  # noqa: PLR0913  (all by name)
        cls,
        journal: str | Path,
        backend: Backend,
        *,
        budget: Budget | None = None,
        optimizer: MakeOptimizer | None = None,
        durability: Durability = "generation",
        despite_changes: bool = False,
        retry: RetryPolicy | None = None,
        quotas: str | Limits | Mapping[str, Limits] | None = None,
        cache: ReplyCache | bool = True,
    ) -> Tuner:
        """A tuner whose `fit`, given the same data, goes on with the run of a journal.

        It ends with the `core` and the prompt of a run that nobody interrupted, byte for byte, and pays for nothing
        that was answered before. What was on its way when the run ended is asked for under the same key, which a
        provider that honours keys bills once; where it does not, the ledger has it as an unknown outcome.

        Args:
            journal: The file.
            backend: The model.
            budget: The run's; it may be larger than it was, and what the journal says was spent counts. In memory: a
                fresh one, or that of this process that has the run's spend already, which is not counted again. None:
                one like the run's in memory, if that was in no ledger file.
            optimizer: As it was given when the run began.
            durability: As of `Tuner`.
            despite_changes: Go on although packages or the engine are not those that the run began with; the result
                says so, as it may differ.
            retry, quotas, cache: As of `Tuner`.

        Raises:
            JournalError: The file cannot be read, or the budget was in a ledger file and none is given.
        """
        check_kinds(journal=journal)
        path = Path(journal)
        recorded = Recorded(path)
        tuner = cls(
            backend,
            budget=recorded.budget() if budget is None else budget,
            preset=recorded.preset,
            seed=recorded.seed,
            scheduling=recorded.scheduling,
            optimizer=optimizer,
            durability=durability,
            retry=retry,
            quotas=quotas,
            cache=cache,
        )
        tuner.layers = recorded.layers
        tuner._place = JournalPlace(path, durability, recorded, despite_changes)
        return tuner

    async def fit(  # noqa: PLR0913  (all but two by name)
        self,
        train: Dataset,
        dev: Dataset | None = None,
        *,
        test: Dataset | None = None,
        compare_manual: bool = False,
        max_wait_s: float | None = None,
        target: float | None = None,
        on_event: Listener | None = None,
        estimate: Estimate | None = None,
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
            compare_manual: Evaluate the manual prompt on `test` as well, which then has to be there.
            max_wait_s: Most seconds a call may wait for the provider's rate limit before the run stops with "quota".
            target: The run ends when a look at dev comes up to this value of the metric; None: it never does.
            on_event: Called with every event of the run, in order, on the event loop's thread. An async function is
                awaited, one event after the other, while the run goes on; `fit` returns when it has taken them all.
            estimate: From `estimate`, for the result to be held against; None: one is worked out.

        Returns:
            The result. `stopped` says why it ended. Once a generation is done, a budget or quota that ends is no error,
            and neither is a backend that fails for good: then `stopped` is "interrupted" and `failure` says how.

        Raises:
            BudgetTooSmall: The budget cannot pay for one generation; nothing was sent.
            EmptyClass: A class has no training example.
            TaskError: The data are unusable otherwise; nothing was sent.
            ValueError: `target` is no finite number, there is no dev set to reach it on, no test set to compare on, or
                the search gives no more candidates than its population, and `over_ask` more are asked for.
            LedgerConflict: The budget is in its ledger with other limits.
            JournalError: The journal cannot be kept or gone on with; the type says why. Nothing was sent.
            BudgetExceeded, QuotaExceeded, BackendError: It ended before the first generation was done.
            Exception: What `on_event` raised: it ends the run as a cancellation does, so that all is booked.
        """
        target = checked_target(target, has_dev=dev is not None)
        check_comparison(compare_manual=compare_manual, has_test=test is not None)
        if estimate is not None and not isinstance(estimate, Estimate):
            raise TypeError(f"estimate is what `await tuner.estimate(train)` gives, not {estimate!r:.80}")
        retry = self._patience(max_wait_s)
        datasets = {"train": train, "dev": dev, "test": test, "manual": test if compare_manual else None}
        if on_event is None:
            return await self._fitted(datasets, target, retry, _ignore, estimate=estimate)
        listening = Listening(on_event)
        return await listening.during(self._fitted(datasets, target, retry, listening.tell, estimate=estimate))

    def events(
        self,
        train: Dataset,
        dev: Dataset | None = None,
        *,
        test: Dataset | None = None,
        compare_manual: bool = False,
        max_wait_s: float | None = None,
        target: float | None = None,
        estimate: Estimate | None = None,
    ) -> RunEvents[Event, TuningResult]:
        """The same run, to iterate over.

            async with tuner.events(train, dev) as run:
                async for event in run:
                    ...
            result = run.result

        The run ends with the block: to `break` cancels it, while `stop()` has it come to an end with a result. It goes
        on while an event is looked at; events that nobody has looked at yet are kept.

        Args:
            train, dev, test, compare_manual, max_wait_s, target, estimate: As of `fit`. What that raises, iterating
                does.
        """
        return RunEvents(
            lambda tell: self.fit(
                train,
                dev,
                test=test,
                compare_manual=compare_manual,
                max_wait_s=max_wait_s,
                target=target,
                on_event=tell,
                estimate=estimate,
            )
        )

    async def _fitted(
        self,
        datasets: Mapping[str, Dataset | None],
        target: float | None,
        retry: RetryPolicy,
        tell: Callable[[Event], None],
        *,
        estimate: Estimate | None,
    ) -> TuningResult:
        client = Client(
            self.backend,
            self.budget or Budget(),
            retry=retry,
            quotas=self._quotas,
            cache=self._cache,
            on_wait=_waiting(tell),
            in_flight=self._sharing.in_flight,
        )
        await client.budget.ready()
        with _clock_of(self.budget), self._stoppable() as stop:
            fit = self._fit(client, Surroundings(tell, stop, target, self._sharing), estimate)
            try:
                return await fit.result(datasets)
            except BudgetExceeded as end:
                if isinstance(end, BudgetTooSmall) or client.spend.total.calls:
                    raise
                raise BudgetTooSmall.of(end, "it ended before the first call") from end
            finally:
                await client.budget.ledger.flush()

    async def estimate(  # noqa: PLR0913  (all but two by name)
        self,
        train: Dataset,
        dev: Dataset | None = None,
        *,
        test: Dataset | None = None,
        compare_manual: bool = False,
        max_wait_s: float | None = None,
        conditions: Conditions | None = None,
        probe: int = 0,
        history: History | None = None,
    ) -> Estimate:
        """What `fit` on these data will come to, without sending a call; see `lmaas_sdk.estimate`.

        Args:
            train, dev, test, compare_manual, max_wait_s: As of `fit`.
            conditions, probe, history: As of `lmaas_sdk.estimate`; without quotas, the tuner's hold.

        Raises:
            BudgetTooSmall: The budget cannot pay for one generation.
            TaskError: The data are unusable.
            ValueError: A setting is out of its range, or nothing but time limits the run and no latency is known.
            BudgetExceeded, BackendError: A probe was not answered.
        """
        given = conditions or Conditions()
        run = Estimating(
            self.backend,
            self.budget,
            self.preset,
            self.seed,
            self._scheduling,
            self._patience(max_wait_s),
            given if given.quotas is not None else replace(given, quotas=self._quotas),
            probe,
            history,
        )
        return await run.of({"train": train, "dev": dev, "test": test, "manual": test if compare_manual else None})

    def _patience(self, max_wait_s: float | None) -> RetryPolicy:
        return self._retry if max_wait_s is None else replace(self._retry, max_wait_s=max_wait_s)

    def _fit(self, client: Client, around: Surroundings, estimate: Estimate | None) -> Fit:
        return Fit(
            client,
            given=self.budget,
            preset=self.preset.sized(self.backend.card),
            seed=self.seed,
            scheduling=self._scheduling,
            make_optimizer=self._optimizer or self._own_optimizer,
            is_own_search=self._optimizer is not None,
            place=self._place,
            around=around,
            estimate=estimate,
            layers=self.layers,
        )

    def _own_optimizer(self, d: int, seed: int) -> Optimizer:
        return make_optimizer(self.preset, d, seed)

    def stop(self) -> None:
        """Ends every `fit` that is under way after its generation; the result says "interrupted".

        What is under way gets ten seconds to be answered. What has been found is returned; neither dev nor test is
        looked at any more. From a signal handler of the event loop, say. A fit that has done no generation yet does
        one.
        """
        for stop in self._stops:
            stop.set()

    @contextmanager
    def _stoppable(self) -> Iterator[Stop]:
        stop = Stop()
        self._stops.add(stop)
        try:
            yield stop
        finally:
            self._stops.discard(stop)


def one_of_several(tuner: Tuner, sharing: Sharing, *, budget: Budget, place: JournalPlace | None) -> Tuner:
    """The same tuner, in the place that a `TunerGroup` gives it.

    Args:
        tuner: As it was added.
        sharing: How it goes with the others.
        budget: Its share.
        place: Where its journal is kept; None: nowhere.
    """
    other = copy.copy(tuner)
    other._sharing, other.budget, other._place, other._stops = sharing, budget, place, set()
    return other


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


def _waiting(tell: Callable[[Event], None]) -> BeforeWait:
    return lambda wait: tell(Waiting(wait.seconds, wait.reason, wait.cause))


def _ignore(event: Event) -> None:
    pass
