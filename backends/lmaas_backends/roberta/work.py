"""What a server needs of an engine: calls as units of work, and threads that compute them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.backend import FeatureQuery, ModelCard, Registration, ScoreQuery
from lmaas_sdk.texts import TextSet
from lmaas_sdk.tuning.subspace import Subspace

__all__ = ["Step", "SynchronousEngine", "Work", "WorkLanes"]

_Reply_co = TypeVar("_Reply_co", covariant=True)
Step = Callable[[], None]


class Work(Protocol[_Reply_co]):
    """A checked query as units, which are prepared on the engine's thread and computed on any."""

    @property
    def units(self) -> tuple[int, ...]:
        """Positions of each unit; at least one unit."""
        ...

    def flops(self, unit: int) -> int:
        """Floating point operations of a unit: those that the answer needs, as `flops` counts them."""
        ...

    def prepare(self, unit: int) -> Step:
        """Makes a unit ready; what is returned computes it. Units are best prepared in their order."""
        ...

    def reply(self) -> _Reply_co:
        """The answer, once every unit was computed.

        Raises:
            InvalidQuery: Numbers overflowed.
        """
        ...


class WorkLanes(Protocol):
    """Threads that compute units side by side."""

    @property
    def count(self) -> int:
        """How many."""
        ...

    @property
    def places(self) -> int:
        """Units that are best under way at once: one for every thread, and one that is ready for whichever ends."""
        ...

    def submit(self, step: Step) -> Future[None]:
        """Runs a step as soon as a thread is free."""
        ...


class SynchronousEngine(Protocol):
    """An engine; all of it but its lanes is used from one thread."""

    @property
    def card(self) -> ModelCard: ...

    @property
    def lanes(self) -> WorkLanes: ...

    def register(self, texts: TextSet, subspace: Subspace | None = None) -> Registration: ...

    def upload(self, array: NDArray[np.float32]) -> str: ...

    def soft_prompts(self, subspace: Subspace, Z: NDArray[np.float32]) -> NDArray[np.float32]: ...

    def job(self, query: ScoreQuery | FeatureQuery) -> Work[Any]: ...
