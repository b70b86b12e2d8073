"""How long a candidate is asked for where too much fails for the client to try it again."""

from __future__ import annotations

import asyncio

import tenacity

from lmaas_sdk.client import Client
from lmaas_sdk.errors import BackendUnavailable, CircuitOpen, OutcomeUnknown, RetryBudgetExhausted

__all__ = ["FAILS_FAST", "persistent"]

FAILS_FAST = (RetryBudgetExhausted, CircuitOpen)
_MAY_PASS = (*FAILS_FAST, BackendUnavailable, OutcomeUnknown)

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0


def persistent(client: Client) -> tenacity.AsyncRetrying:
    """A controller for one candidate: it asks again after longer and longer pauses, until the client's patience ends.

    It is no retry of an attempt: every time is a new call, which earns its share of the retry budget. Whether that
    budget ended the last one, an open circuit or its own attempts is luck, so all of them are waited for alike.

    Args:
        client: Says how patient to be, and is told of every wait.
    """
    clock = asyncio.get_running_loop().time
    until_s = clock() + client.patience_s
    jittered = tenacity.wait_random_exponential(multiplier=_FIRST_PAUSE_S, max=_LONGEST_PAUSE_S)

    def pause_s(state: tenacity.RetryCallState) -> float:
        error = _error(state)
        asked_s = error.retry_after_s if isinstance(error, CircuitOpen) else 0.0
        return max(float(jittered(state)), asked_s, 0.05)

    return tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(_MAY_PASS),
        wait=pause_s,
        stop=lambda state: clock() + state.upcoming_sleep > until_s,
        before_sleep=lambda state: client.before_wait(state.upcoming_sleep, _error(state)),
        sleep=asyncio.sleep,
        reraise=True,
    )


def _error(state: tenacity.RetryCallState) -> BaseException | None:
    return None if state.outcome is None else state.outcome.exception()
