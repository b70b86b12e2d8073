"""Faults to order: which attempt fails, and how."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NoReturn, TypeVar, get_args

import numpy as np

from lmaas_sdk.backend import FeatureReply, ScoreReply
from lmaas_sdk.errors import AttemptTimeout, BackendUnavailable, RateLimited, Retryable, ServerFault
from lmaas_sdk.seeding import raw_words

__all__ = ["Attempt", "Fault", "FaultKind", "Faults", "answer_or_fail"]

FaultKind = Literal["refused", "rate_limit", "server_fault", "timeout", "nan", "wrong_shape", "hang"]
KINDS: tuple[FaultKind, ...] = get_args(FaultKind)
_ARRAYS = {ScoreReply: "logits", FeatureReply: "features"}
_NEVER_CHARGED = ("refused", "rate_limit")
_ALWAYS_CHARGED = ("timeout", "nan", "wrong_shape")
Reply = TypeVar("Reply", ScoreReply, FeatureReply)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request that a fault may strike.

    Args:
        number: Of all requests to this backend, in the order of arrival, from 0.
        key: Its idempotency key.
        nth: Of the requests under that key, from 0.
    """

    number: int
    key: str
    nth: int = 0


@dataclass(frozen=True, slots=True)
class Fault:
    """One failure.

    Args:
        kind: `refused`: `BackendUnavailable`, never computed. `rate_limit`: `RateLimited`, never computed.
            `server_fault`: `ServerFault`. `timeout`: `AttemptTimeout` after the call was computed and charged.
            `nan`, `wrong_shape`: a damaged answer, charged. `hang`: no answer, ever.
        charged: Of `server_fault` and `hang`: whether the call was computed and charged all the same.
        retry_after_s: What `refused`, `rate_limit` and `server_fault` tell the caller to wait.

    Raises:
        ValueError: The kind is unknown, or the wait is negative.
    """

    kind: FaultKind
    charged: bool = False
    retry_after_s: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"a fault is one of {', '.join(KINDS)}, not {self.kind!r}")
        if self.charged and self.kind in _NEVER_CHARGED:
            raise ValueError(f"a call that fails by {self.kind!r} is never charged: leave `charged` out")
        if self.retry_after_s is not None and not self.retry_after_s >= 0:
            raise ValueError(f"retry_after_s is at least 0, not {self.retry_after_s!r}")

    @property
    def computes(self) -> bool:
        """Whether the backend does the work, and charges for it, before the call fails."""
        return self.charged or self.kind in _ALWAYS_CHARGED

    def refusal(self, key: str) -> Retryable | None:
        """What the caller sees when the backend does not take the request up at all; None for other faults."""
        match self.kind:
            case "refused":
                return BackendUnavailable(f"fault on order: no server took {key!r}", retry_after_s=self.retry_after_s)
            case "rate_limit":
                return RateLimited(f"fault on order: 429 for {key!r}", retry_after_s=self.retry_after_s)
            case _:
                return None

    def failure(self, key: str) -> Retryable | None:
        """What the caller sees when the request was taken up and lost; None for other faults."""
        match self.kind:
            case "server_fault":
                return ServerFault(f"fault on order: 503 for {key!r}", retry_after_s=self.retry_after_s)
            case "timeout":
                return AttemptTimeout(f"fault on order: no answer in time for {key!r}")
            case _:
                return None


Order = Fault | FaultKind | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Which attempts fail: by a script, by a rule, or by chance.

    A script rules the attempts that it covers, `plan` the ones after it, and chance those that both leave alone. Chance
    is a pure function of (seed, key, nth attempt under that key): the order in which concurrent calls arrive changes
    nothing.

    ```python
    Faults(script=[None, "server_fault", Fault("rate_limit", retry_after_s=2)])
    Faults(seed=1, server_fault=0.1, timeout=0.05)
    Faults(plan=lambda attempt: "refused" if attempt.nth == 0 else None)
    ```

    Args:
        seed: Of the chances.
        refused, rate_limit, server_fault, timeout, nan, wrong_shape, hang: The chance of each kind; together at most 1.
        script: The fate of attempt 0, 1, ...: a fault, the name of its kind, or None for none.
        plan: Says the fate of an attempt.
        charged: Whether a server fault that is named or drawn, not given as a `Fault`, was charged.

    Raises:
        ValueError: A chance is outside [0, 1], they are above 1 together, or a kind is unknown.
    """

    seed: int = 0
    refused: float = 0.0
    rate_limit: float = 0.0
    server_fault: float = 0.0
    timeout: float = 0.0
    nan: float = 0.0
    wrong_shape: float = 0.0
    hang: float = 0.0
    script: Sequence[Order] = ()
    plan: Callable[[Attempt], Order] | None = None
    charged: bool = False

    def __post_init__(self) -> None:
        for kind in KINDS:
            if not 0 <= getattr(self, kind) <= 1:
                raise ValueError(f"the chance of {kind} is between 0 and 1, not {getattr(self, kind)!r}")
        if sum(self._chances()) > 1 + 1e-9:
            raise ValueError(f"the chances of all kinds are at most 1 together, not {sum(self._chances())}")
        for order in self.script:
            self._fault(order)

    def strikes(self, attempt: Attempt) -> Fault | None:
        """The fault of this attempt, or None."""
        if attempt.number < len(self.script):
            return self._fault(self.script[attempt.number])
        planned = None if self.plan is None else self._fault(self.plan(attempt))
        return planned or self._drawn(attempt)

    def _chances(self) -> list[float]:
        return [getattr(self, kind) for kind in KINDS]

    def _fault(self, order: Order) -> Fault | None:
        if order is None or isinstance(order, Fault):
            return order
        return Fault(order, charged=self.charged and order == "server_fault")

    def _drawn(self, attempt: Attempt) -> Fault | None:
        chances = self._chances()
        if not any(chances):
            return None
        word = raw_words(self.seed, f"fault/{attempt.nth}/{attempt.key}", 1)[0]
        place = int(np.searchsorted(np.cumsum(chances), float(word) / 2.0**64, side="right"))
        return self._fault(KINDS[place]) if place < len(KINDS) else None


async def answer_or_fail(fault: Fault | None, key: str, answer: Callable[[], Awaitable[Reply]]) -> Reply:
    """The answer, unless `fault` says otherwise; `answer` runs only if the call is computed at all.

    Raises:
        BackendError: As the fault says.
    """
    if fault is None:
        return await answer()
    error = fault.refusal(key) or fault.failure(key)
    reply = await answer() if fault.computes else None
    if error is not None:
        raise error
    if reply is None or fault.kind == "hang":
        await _forever()
    return _damaged(reply, fault.kind)


async def _forever() -> NoReturn:
    """Ends only by being cancelled."""
    while True:
        await asyncio.get_running_loop().create_future()


def _damaged(reply: Reply, kind: FaultKind) -> Reply:
    """A copy of the answer with one NaN in it, or one column short."""
    name = _ARRAYS[type(reply)]
    array = getattr(reply, name).copy()
    if kind == "nan":
        array.flat[-1] = np.nan
    else:
        array = array[..., :-1]
    return replace(reply, **{name: array})
