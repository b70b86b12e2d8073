"""One run: ask, send, tell, look at dev, until something ends it."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, AsyncExitStack
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.errors import BackendError, BudgetExceeded, JournalError, LmaasError, PaymentRequired, QuotaExceeded
from lmaas_sdk.logs import plain
from lmaas_sdk.side_thread import SideThread
from lmaas_sdk.tuning.events import DevScored, GenerationDone, Resumed
from lmaas_sdk.tuning.generation import GenerationScorer, Outcome
from lmaas_sdk.tuning.horizon import Horizon
from lmaas_sdk.tuning.interruption import Interrupted, unless_stopped
from lmaas_sdk.tuning.journal import Moment
from lmaas_sdk.tuning.looks import Looks
from lmaas_sdk.tuning.optimizer import Batch, Optimizer, check_over_ask
from lmaas_sdk.tuning.outlook import Outlook
from lmaas_sdk.tuning.preparation import LabelledTexts, worst_of_generation
from lmaas_sdk.tuning.presets import Preset
from lmaas_sdk.tuning.scheduler import Scheduler
from lmaas_sdk.tuning.scheduling import Needs
from lmaas_sdk.tuning.selection import Choice, ChosenBy, Selection
from lmaas_sdk.tuning.stopping import Plateau, reached
from lmaas_sdk.tuning.surroundings import Surroundings
from lmaas_sdk.tuning.told import Told

if TYPE_CHECKING:
    from lmaas_sdk.tuning.result import Stopped

__all__ = ["Run"]

_WARNINGS_EVERY = 10  # pycma's stop() is not free
_NOT_PRECISE = "the choice is by train losses in fewer bits than float32"
_ENDS = (BudgetExceeded, PaymentRequired, QuotaExceeded, BackendError, JournalError)
_CUT_SHORT = ("interrupted", "quota")
_Asked = Batch | Exception

_T = TypeVar("_T")


class Run:
    """The loop behind `Tuner.fit`.

    Args:
        preset: The settings.
        train, dev: The data; dev may be None.
        scorer: Scores generations.
        side_scheduler: Sends the calls that choose, on dev or training set, paid from what was set aside for them.
        horizon: How far the run goes.
        around: What it listens to.

    Attributes:
        selection: What was found.
        losses: The train losses of each generation; None for a candidate without one.
        history: Every event, in order.
        evaluations: Candidates scored over the training set.
        failure: The error that ended the search, if one did.
        warnings: The optimiser's reasons to stop, and what could not be done.
    """

    def __init__(
        self,
        preset: Preset,
        *,
        train: LabelledTexts,
        dev: LabelledTexts | None,
        scorer: GenerationScorer,
        side_scheduler: Scheduler,
        horizon: Horizon,
        around: Surroundings,
    ) -> None:
        self._preset, self._train = preset, train
        self._scorer, self._scheduler = scorer, scorer.scheduler
        self._horizon, self._around = horizon, around
        self._outlook = Outlook(self._scheduler.client, horizon, around)
        journal = scorer.scheduler.journal
        self._past = None if journal is None else journal.past
        self._before_s = 0.0 if self._past is None else self._past.elapsed_s
        self._began = asyncio.get_running_loop().time()
        self._generation = 0
        self._lowest = np.inf
        self._last: tuple[Choice, Choice] | None = None
        self._asked: _Asked | None = None
        self._plateau = Plateau(preset.plateau, has_dev=dev is not None, rule=preset.choose_by)
        self._end: Stopped | None = None
        self.selection = Selection(preset.choose_by)
        self._looks = Looks(
            side_scheduler,
            train=train,
            dev=dev,
            objective=preset.objective,
            selection=self.selection,
            moment=self._moment,
        )
        self.losses: list[tuple[float | None, ...]] = []
        self.history: list[GenerationDone | DevScored] = []
        self.evaluations: int | Fraction = 0
        self.warnings: set[str] = set()
        self.failure: LmaasError | None = None

    async def search(self, make_optimizer: Callable[[], Optimizer]) -> Stopped:
        """Runs generations until something ends them; what was found stands in the attributes.

        Raises:
            LmaasError: What ended it before the first generation was done.
            ValueError: The search gives no more candidates than its population, and more are asked for.
        """
        with self._thread() as thread:
            optimizer = await thread.run(make_optimizer)
            stopped = await self._generations_until_the_end(thread, optimizer)
        if stopped not in _CUT_SHORT and not self._is_stopped:
            await self._look_once_more()
        await self._compare_precisely(stopped)
        return "interrupted" if self._is_stopped else stopped

    def _thread(self) -> AbstractContextManager[SideThread]:
        """The optimiser's: the journal's, where there is one, as what it is told is written down just before."""
        journal = self._scheduler.journal
        return SideThread("lmaas-optimizer") if journal is None else journal.lending()

    async def _generations_until_the_end(self, thread: SideThread, optimizer: Optimizer) -> Stopped:
        try:
            while await self._goes_on(optimizer):
                await self._one_generation(thread, optimizer)
        except Interrupted:
            return "interrupted"
        except _ENDS as end:
            if self._last is None:
                raise  # there is nothing to return
            return self._ended_by(end)
        return self._end or "budget"

    def _ended_by(self, end: LmaasError) -> Stopped:
        if isinstance(end, QuotaExceeded):
            return "quota"
        if isinstance(end, BudgetExceeded | PaymentRequired):
            return "budget"
        self.failure = end
        return "interrupted"

    @property
    def chosen(self) -> tuple[Choice, ChosenBy]:
        """The candidate to return, and what it was chosen by."""
        if self.selection.chosen is None:
            raise RuntimeError("nothing was scored yet")
        return self.selection.chosen

    @property
    def elapsed_s(self) -> float:
        """Seconds that the run has been running, in this process and in those before."""
        return self._before_s + asyncio.get_running_loop().time() - self._began

    # -- whether to go on

    async def _goes_on(self, optimizer: Optimizer) -> bool:
        if self._last is None or self._is_replayed:
            return True
        self._tell_resumed()
        if self._is_stopped or self._end is not None:
            return False
        if self._past is not None and self._past.keys_of(self._generation):
            return True  # an earlier process began it, and has paid for a part
        return await self._has_budget(optimizer.population_size) and self._outlook.has_time

    async def _has_budget(self, population: int) -> bool:
        scorer, horizon = self._scorer, self._horizon
        candidates, aside = population + scorer.scheduling.over_ask, horizon.aside
        worst = None
        if candidates != horizon.candidates:
            worst = worst_of_generation(
                self._scheduler, self._train, candidates, racing=scorer.racing, seed=scorer.seed
            )
        reaches = await self._outlook.has_budget(self._generation, candidates=candidates, worst=worst)
        if horizon.aside is not aside:
            client = self._scheduler.client
            paying = client.with_budget(horizon.aside, spare=client.budget)
            self._looks.scheduler = self._looks.scheduler.paying_from(paying)
        return reaches

    @property
    def _is_stopped(self) -> bool:
        return self._around.stop.is_set()

    @property
    def _is_replayed(self) -> bool:
        """Whether the next generation is in the journal."""
        return self._past is not None and self._generation in self._past.told

    def _tell_resumed(self) -> None:
        """Once, when what the journal has is done."""
        if self._past is not None and self._past.is_resumed:
            self._past.is_resumed = False
            self._around.tell(Resumed(self._generation, plain(self.evaluations), self._moment().spent))

    # -- one generation

    async def _one_generation(self, thread: SideThread, optimizer: Optimizer) -> None:
        began_s, is_new = self.elapsed_s, not self._is_replayed
        if self._asked is None:
            self._asked = await thread.run(lambda: self._ask(optimizer))
        if isinstance(self._asked, Exception):
            raise self._asked
        batch = self._asked
        if self._last is None:
            check_over_ask(optimizer, batch, self._scorer.scheduling.over_ask)
        needs = Needs(optimizer.population_size, optimizer.min_tell, optimizer.must_have)
        outcome = await self._scored(batch, needs, is_new=is_new)
        learn = partial(self._learn, optimizer, batch, outcome.told)
        mean, sigma, self._asked = await self._scorer.tell(batch.generation, outcome, learn, thread)
        self._generation += 1
        if is_new:
            self._outlook.saw(self.elapsed_s - began_s)
        self._record(batch.generation, outcome, mean, sigma=sigma, is_new=is_new)
        if self._generation % self._preset.dev_every == 0:
            await self._look()
            await self._repeat(batch.generation, outcome)
        self._judge(outcome.told)

    async def _scored(self, batch: Batch, needs: Needs, *, is_new: bool) -> Outcome:
        if not is_new:
            return await self._scorer.score(batch, needs, self._moment)
        return await self._unless_stopped(self._in_turn(batch, needs))

    async def _in_turn(self, batch: Batch, needs: Needs) -> Outcome:
        async with AsyncExitStack() as stack:
            with self._scheduler.client.waits.during("turn"):
                await stack.enter_async_context(self._around.sharing.turn())
            return await self._scorer.score(batch, needs, self._moment)

    async def _unless_stopped(self, work: Coroutine[Any, Any, _T]) -> _T:
        """The first generation is always finished: there has to be something to return."""
        return await work if self._last is None else await unless_stopped(work, self._around.stop)

    def _learn(self, optimizer: Optimizer, batch: Batch, told: Told) -> tuple[NDArray[np.float64], float, _Asked]:
        """Mean and sigma after a generation, and the next one, as the optimizer's thread is at work anyway."""
        optimizer.tell(batch.generation, told.values)
        if batch.generation % _WARNINGS_EVERY == 0:
            self.warnings.update(optimizer.warnings())
        return optimizer.mean, optimizer.sigma, self._ask(optimizer)

    def _ask(self, optimizer: Optimizer) -> _Asked:
        """The next generation, or why there is none: that ends a run only where it comes to it."""
        try:
            return optimizer.ask(self._scorer.scheduling.extra)
        except StopIteration:  # no coroutine can raise it
            return RuntimeError("the search raised StopIteration")
        except Exception as error:
            return error

    def _record(
        self, generation: int, outcome: Outcome, mean: NDArray[np.float64], *, sigma: float, is_new: bool
    ) -> None:
        told, at, scored = outcome.told, outcome.at, outcome.told.scored
        best = min(scored, key=scored.__getitem__)
        choice = Choice(generation, "best", outcome.Z[best].copy(), scored[best])
        self._last = choice, Choice(generation, "mean", mean.astype(np.float32), None)
        self.selection.saw_train(choice)
        self.selection.saw_mean(self._last[1], average_loss=statistics.fmean(scored.values()))
        self.losses.append(tuple(scored.get(index) for index in range(len(outcome.Z))))
        self._lowest = min(self._lowest, scored[best])
        self.evaluations += told.evaluations
        done = GenerationDone(
            generation=generation,
            evaluations=plain(self.evaluations),
            best_loss=scored[best],
            median_loss=statistics.median(scored.values()),
            lowest_loss=self._lowest,
            sigma=sigma,
            missing=len(told.fates),
            spent=at.spent,
            elapsed_s=at.elapsed_s,
            waits=self._scheduler.client.waits.seconds(),
        )
        self._emit(done, is_new=is_new)

    def _judge(self, told: Told) -> None:
        """Notes why there is no need for another generation, if there is none."""
        done = self._generation
        self._plateau.saw_loss(done, self._lowest)
        looked = self._looks.latest if self._looks.at == done else ()
        self._plateau.saw_dev(done, looked)
        if reached(self._around.target, looked):
            self._end = "target"
        elif self._plateau.is_over(done):
            self._end = "plateau"
        elif not told.evaluations and not told.fates:
            self._end = "done"  # every candidate was known, to the bits that are sent

    # -- beside the generations

    async def _look(self) -> None:
        """Scores the generation's best and the mean of the search on dev."""
        if self._last is None or not self._looks.has_dev:
            return
        is_new = self._looks.is_new(self._last[0].generation)
        for scored in await self._unless_stopped(self._looks.score_dev(self._last, done=self._generation)):
            self._emit(scored, is_new=is_new)

    async def _look_once_more(self) -> None:
        """Looks at dev after the last generation. What cannot be paid for or answered is left out, and said."""
        if self._looks.at == self._generation:
            return
        try:
            await self._look()
        except (*_ENDS, Interrupted) as end:
            self.warnings.add(f"the last look at dev was not made: {str(end) or 'the run was stopped'}")

    async def _repeat(self, generation: int, outcome: Outcome) -> None:
        """Scores one candidate again where answers may differ: the last one, which nothing was picked by."""
        if self._scheduler.client.backend.card.capabilities.deterministic:
            return
        index, loss = list(outcome.told.scored.items())[-1]
        await self._unless_stopped(self._looks.repeat(outcome.Z[index].copy(), loss, generation=generation))
        self.evaluations += 1

    async def _compare_precisely(self, stopped: Stopped) -> None:
        """Has float32 decide, where train losses do and the search saw fewer bits; that it cannot be done is said."""
        has_rivals = len(self.selection.lowest) > 1 and self.chosen[1] == "train_loss"
        if not self._scheduler.sees_fewer_bits or not has_rivals:
            return
        why_not: object = "dev was not looked at" if self._looks.has_dev else "the run was cut short"
        if stopped not in _CUT_SHORT and not self._looks.has_dev and not self._is_stopped:
            try:
                self.evaluations += await self._unless_stopped(self._looks.score_again())
            except (*_ENDS, Interrupted) as end:
                why_not = str(end) or why_not
            else:
                return
        self.warnings.add(f"{_NOT_PRECISE}: {why_not}")

    def _moment(self) -> Moment:
        return Moment(self._scheduler.client.spend.total, self.elapsed_s)

    def _emit(self, event: GenerationDone | DevScored, *, is_new: bool) -> None:
        """Notes an event; what the journal has already happened before, and is not told again."""
        self.history.append(event)
        if is_new:
            self._around.tell(event)
