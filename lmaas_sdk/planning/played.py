"""A run as it may go: worked out where nothing is up to chance, else played through once for every draw of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.planning.funds import Funds
from lmaas_sdk.planning.traffic import Ended, Tally, Traffic
from lmaas_sdk.planning.work import Ask, Step, Work
from lmaas_sdk.planning.world import World
from lmaas_sdk.tuning.pace import spare_s

__all__ = ["Played", "play", "worked_out"]

_CUT_SHORT = ("interrupted", "quota")
# Of a generation that is raced, the part that goes on to each next rung: with the usual rungs .67 .. .86 of the tokens,
# around the .72 .. .81 that benchmarks/racing.py measured; and by how much generations differ. In the first seven of
# each of its runs fewer went on, .71 and not .79 on average, as candidates differ more before a search closes in; of
# other presets and models nobody knows, so what is drawn goes from no fewer to more than that.
_FEWEST_ON, _MOST_ON, _DIFFER = 0.70, 0.88, 0.05
_FIRST, _MOST_FEWER = 7, 0.12


@dataclass(frozen=True, slots=True)
class Played:
    """What a run came to.

    Args:
        tally: What was sent.
        evaluations: Candidates that were scored.
        generations: Those that were done.
        wall_s: Seconds.
        stopped: As of a result.
    """

    tally: Tally
    evaluations: float
    generations: int
    wall_s: float
    stopped: str


def worked_out(work: Work, generations: int) -> Played:
    """The run if every call is answered at once and at the first attempt.

    Args:
        work: Its steps.
        generations: How many it does.
    """
    tally, every = Tally(), work.costs.dev_every
    regular = generations // every
    counts = [(rung(work.candidates), generations) for rung in work.rungs]
    counts += [(work.look, -(-generations // every)), (work.repeat, regular)]
    counts += [(work.again_after(generations), 1), (work.test, 1), (work.manual, 1)]
    evaluations: float | Fraction = 0
    for step, count in counts:
        for ask in step:
            tally.billed[ask] += count
            tally.attempts[ask.purpose] += count
            evaluations += ask.worst.evaluations * count
    return Played(tally, float(evaluations), generations, 0.0, "budget")


def play(work: Work, world: World, generator: np.random.Generator) -> Played:
    """The run once.

    Args:
        work: Its steps.
        world: How calls fare.
        generator: Gives the chance.
    """
    one = _OneRun(work, world, generator)
    stopped = one.search()
    return Played(one.traffic.tally, float(one.evaluations), one.done, one.traffic.now_s, stopped)


@dataclass(slots=True, eq=False)
class _OneRun:
    """Attributes: as of `Played`, while it goes on."""

    work: Work
    world: World
    generator: np.random.Generator
    traffic: Traffic = field(init=False)
    funds: Funds = field(init=False)
    done: int = 0
    evaluations: int | Fraction = 0
    longest_s: float = 0.0
    looked_at: int = 0
    _goes_on_in_a_race: float = 1.0
    _fewer_at_first: float = 0.0

    def __post_init__(self) -> None:
        until_s = math.inf if self.work.wall_s is None else self.work.wall_s
        self.traffic = Traffic(self.world, self.generator, until_s=until_s)
        self.funds = Funds(self.work.free, self.work.costs, self.work.plan)
        if self.work.is_raced:
            self._goes_on_in_a_race = self.generator.uniform(_FEWEST_ON, _MOST_ON)
            self._fewer_at_first = self.generator.uniform(0.0, _MOST_FEWER)

    def search(self) -> str:
        """Everything, as `Run.search` and what comes after it do."""
        stopped = self._generations()
        if stopped not in _CUT_SHORT and self.looked_at != self.done:
            self._beside(self.work.look)
        if stopped not in _CUT_SHORT:
            again = self.work.again_after(self.done)
            self.evaluations += sum(ask.worst.evaluations for ask in self._beside(again))
        if stopped != "interrupted":
            self._beside(self.work.test)
            self._beside(self.work.manual)
        return stopped

    def _generations(self) -> str:
        try:
            while not self.done or self._goes_on:
                self._one_generation()
        except Ended as end:
            return str(end)
        return "budget"

    @property
    def _goes_on(self) -> bool:
        most = self.work.most
        return (most is None or self.done < most) and self.funds.reaches(self.done) and self._has_time

    def _one_generation(self) -> None:
        began_s = self.traffic.now_s
        self._scored_all()
        self.done += 1
        self.longest_s = max(self.longest_s, self.traffic.now_s - began_s)
        if self.done % self.work.costs.dev_every == 0:
            self._aside(self.work.look)
            self.looked_at = self.done
            self.evaluations += sum(ask.worst.evaluations for ask in self._aside(self.work.repeat))

    def _scored_all(self) -> None:
        """A generation, or its race: that is paid for before it begins, and what it saves comes back."""
        left = self.work.costs.generation
        self.funds.for_search(left)
        try:
            for rung in self._rungs():
                answered = self.traffic.volley(rung, self.funds.for_search, wanted=self._wanted(rung))
                left = left - (_worst(rung) if self.work.is_raced else left) + self.traffic.unused
                self.evaluations += sum(ask.worst.evaluations for ask in answered)
        finally:
            self.funds.give_back(left)

    def _wanted(self, rung: Step) -> float:
        """Candidates with which the generation goes on."""
        scheduling = self.world.scheduling
        if scheduling.over_ask:
            return self.work.population
        candidates = sum(ask.candidates for ask in rung)
        return scheduling.quorum * candidates if scheduling.stragglers == "drop" else math.inf

    def _rungs(self) -> tuple[Step, ...]:
        """The steps of a generation, with as many candidates in each rung of a race as this draw has it."""
        rungs, candidates = self.work.rungs, self.work.candidates
        if not self.work.is_raced:
            return (rungs[0](candidates),)
        usual = self._goes_on_in_a_race - (self._fewer_at_first if self.done < _FIRST else 0.0)
        goes_on = min(max(usual + _DIFFER * self.generator.standard_normal(), 0.5), 1.0)
        return tuple(rung(max(1, round(candidates * goes_on**number))) for number, rung in enumerate(rungs))

    def _beside(self, step: Step) -> list[Ask]:
        """What comes after the search: what cannot be paid for or answered is left out."""
        try:
            return self._aside(step)
        except Ended:
            return []

    def _aside(self, step: Step) -> list[Ask]:
        if not step:
            return []
        is_main = self.work.plan.generations is None and step[0].purpose != "test"
        pay: Callable[[Amounts], None] = self.funds.for_search if is_main else self.funds.aside
        pay(_worst(step))
        return self.traffic.volley(step, self.funds.for_search if is_main else self.funds.aside_again)

    @property
    def _has_time(self) -> bool:
        work, left_s = self.work, self.work.wall_s
        spare = spare_s(
            None if left_s is None else left_s - self.traffic.now_s,
            generation_s=self.longest_s,
            generation=work.costs.generation,
            after=work.costs.after,
            slots=self.world.limits.concurrency or self.world.most_at_once,
        )
        return spare is None or spare > 0


def _worst(step: Step) -> Amounts:
    return sum((ask.worst for ask in step), Amounts())
