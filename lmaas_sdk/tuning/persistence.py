"""How long a candidate is asked for where too much fails for the client to try it again."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

import tenacity

from lmaas_sdk.client import Client
from lmaas_sdk.errors import BackendUnavailable, CircuitOpen, OutcomeUnknown, RetryBudgetExhausted
from lmaas_sdk.outside import outside
from lmaas_sdk.traffic.waits import Wait

__all__ = ["FAILS_FAST", "Health", "persistently"]

FAILS_FAST = (RetryBudgetExhausted, CircuitOpen)
_MAY_PASS = (*FAILS_FAST, BackendUnavailable, OutcomeUnknown)
_T = TypeVar("_T")

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0


class Health:
    """When the backend of a run answered last."""

    def __init__(self) -> None:
        self._answered_s = -math.inf

    def saw_answer(self) -> None:
        """It has answered just now."""
        self._answered_s = asyncio.get_running_loop().time()

    @property
    def has_answered(self) -> bool:
        """Whether it ever has."""
        return self._answered_s > -math.inf

    def has_answered_since(self, moment_s: float) -> bool:
        """Whether it has after a moment of the loop's clock."""
        return self._answered_s > moment_s


async def persistently(ask: Callable[[], Awaitable[_T]], client: Client, health: Health) -> _T:
    """What `ask` brings; where that fails, asked for after longer and longer pauses, until the client's patience ends.

    It is no retry of an attempt: every time is a new call, which earns its share of the retry budget. Whether that
    budget ended the last one, an open circuit or its own attempts is luck, so all of them are waited for alike. A
    backend that has worked and now answers nobody is away, and is waited for longer than one that answers others, or
    that never was there.

    Args:
        ask: Asks once.
        client: Says how patient to be, and is told of every wait.
        health: What the backend has answered.

    Raises:
        BackendError: The last failure.
    """
    try:
        return await ask()
    except _MAY_PASS as error:
        failed = error
    began_s = asyncio.get_running_loop().time()  # not before: it may have waited for a quota until tomorrow
    answer: _T = await _controller(client, health, began_s)(_having_failed(failed, ask))
    return answer


def _having_failed(error: BaseException, ask: Callable[[], Awaitable[_T]]) -> Callable[[], Awaitable[_T]]:
    """`ask` for a controller that takes over from the first failure: most calls need none."""
    failures = [error]

    async def again() -> _T:
        if failures:
            raise failures.pop()
        return await ask()

    return again


def _controller(client: Client, health: Health, began_s: float) -> tenacity.AsyncRetrying:
    clock = asyncio.get_running_loop().time
    longest_s = tenacity.wait_exponential(multiplier=_FIRST_PAUSE_S, max=_LONGEST_PAUSE_S)

    def pause_s(state: tenacity.RetryCallState) -> float:
        error = _error(state)
        asked_s = error.retry_after_s if isinstance(error, CircuitOpen) else 0.0
        return max(outside().jitter.uniform(0.0, longest_s(state)), asked_s, 0.05)

    async def sleep(wait_s: float) -> None:
        with client.waits.during("outage"):
            await asyncio.sleep(wait_s)

    def until_s() -> float:
        is_away = health.has_answered and not health.has_answered_since(began_s)
        return began_s + (max(client.outage_s, client.patience_s) if is_away else client.patience_s)

    return tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(_MAY_PASS),
        wait=pause_s,
        stop=lambda state: clock() + state.upcoming_sleep > until_s(),
        before_sleep=lambda state: client.before_wait(Wait(state.upcoming_sleep, "outage", _error(state))),
        sleep=sleep,
        reraise=True,
    )


def _error(state: tenacity.RetryCallState) -> BaseException | None:
    return None if state.outcome is None else state.outcome.exception()
