"""All draws of a run that an estimate is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lmaas_sdk.planning.conditions import Failures, Latency
from lmaas_sdk.planning.learned import History, drawn_latency
from lmaas_sdk.planning.played import Played, play, worked_out
from lmaas_sdk.planning.work import Work
from lmaas_sdk.planning.world import World, has_windows
from lmaas_sdk.seeding import bit_generator

__all__ = ["Knowledge", "draws_of"]

_ATTEMPTS = 80_000  # played in all: about a second
_FEWEST, _MOST = 20, 300


@dataclass(frozen=True, slots=True, eq=False)
class Knowledge:
    """What is known of the provider.

    Args:
        latency: As it is given; None: it is not.
        measured_s: Seconds of attempts, in its place.
        failures: As they are given.
        history: How attempts ended, in their place.
    """

    latency: Latency | None
    measured_s: Sequence[float]
    failures: Failures
    history: History | None

    @property
    def has_latency(self) -> bool:
        """Whether it is known how long answers take."""
        return self.latency is not None or bool(self.measured_s)

    @property
    def takes_time(self) -> bool:
        """Whether answers do."""
        given = self.latency
        return any(self.measured_s) or (given is not None and not given.is_none)

    @property
    def is_certain(self) -> bool:
        """Whether equal attempts fare equally, always."""
        is_constant = not self.measured_s and (self.latency is None or self.latency.is_constant)
        return is_constant and self.history is None and not self.failures.total and not self.failures.outages

    def drawn(self, world: World, generator: np.random.Generator) -> World:
        """The world as it may be."""
        latency, failures = self.latency or Latency(), self.failures
        if self.measured_s:
            latency = drawn_latency(self.measured_s, generator)
        if self.history is not None:
            failures = replace(self.history.drawn(generator), outages=failures.outages)
        return replace(world, latency=latency, failures=failures)


def draws_of(work: Work, world: World, knowledge: Knowledge, *, seed: int) -> list[Played]:
    """Runs as they may go; one, where nothing is up to chance.

    Args:
        work: The steps of the run.
        world: How calls fare, but for what `knowledge` has.
        knowledge: Of latency and failures.
        seed: The same one, the same draws.
    """
    is_certain = knowledge.is_certain and not work.is_raced
    takes_no_time = not knowledge.has_latency and not has_windows(world.limits)
    if is_certain and takes_no_time and work.plan.generations is not None:
        return [worked_out(work, min(work.plan.generations, work.most or work.plan.generations))]

    def draw(number: int) -> Played:
        generator = np.random.Generator(bit_generator(seed, f"estimate/{number}"))
        return play(work, knowledge.drawn(world, generator), generator)

    first = draw(0)
    if is_certain:
        return [first]
    count = min(max(_ATTEMPTS // max(1, first.tally.attempts.total()), _FEWEST), _MOST)
    return [first, *map(draw, range(1, count))]
