"""What a process takes from outside: the time of day, names that are new, and chance; a simulation brings its own."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from lmaas_sdk.seeding import raw_words

__all__ = ["Outside", "of_a_simulation", "outside", "within_outside"]


@dataclass(frozen=True, slots=True, eq=False)
class Outside:
    """Where these come from.

    Args:
        wall: Seconds since 1970.
        new_id: A name that nothing else has: 32 hexadecimal digits.
        jitter: What waits are drawn from, so that those who failed together do not come back together.
    """

    wall: Callable[[], float]
    new_id: Callable[[], str]
    jitter: random.Random


_REAL = Outside(time.time, lambda: uuid.uuid4().hex, random.SystemRandom())
_current: ContextVar[Outside] = ContextVar("outside", default=_REAL)


def outside() -> Outside:
    """What holds here: the real world or, in a simulation and all tasks that it starts, its own."""
    return _current.get()


@contextmanager
def within_outside(world: Outside) -> Iterator[None]:
    """What happens inside takes place in this world; tasks started there stay in it."""
    token = _current.set(world)
    try:
        yield
    finally:
        _current.reset(token)


def of_a_simulation(*, began_s: float, clock: Callable[[], float], seed: int) -> Outside:
    """A world that repeats itself.

    Args:
        began_s: Its first moment, in seconds since 1970.
        clock: Seconds since then.
        seed: Of its names and its chance.
    """
    words = raw_words(seed, "outside/1", 3)
    names, jitter = random.Random(int(words[0])), random.Random(int(words[1]))  # noqa: S311  (no secrets)
    return Outside(lambda: began_s + clock(), lambda: f"{names.getrandbits(128):032x}", jitter)
