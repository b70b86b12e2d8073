"""What a run that is one of several asks the others for."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from lmaas_sdk.accounting.amounts import Amounts

__all__ = ["InFlight", "More", "Sharing", "Turn"]

Turn = Callable[[], AbstractAsyncContextManager[None]]
More = Callable[[Amounts], Coroutine[Any, Any, bool]]
InFlight = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True, eq=False)
class Sharing:
    """How a run goes with others that share its backend and its budget.

    Args:
        turn: Entered around every generation.
        more: Asked for another generation's worst case where the budget reaches no further; returns, when there is more
            in it or none will come, which of the two it is. None: nobody leaves anything.
        in_flight: Entered while an attempt is with the backend.
    """

    turn: Turn = nullcontext
    more: More | None = None
    in_flight: InFlight = nullcontext
