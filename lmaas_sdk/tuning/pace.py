"""How long things take, as this run has seen: so that a time limit leaves time for what comes after the search."""

from __future__ import annotations

from collections.abc import Iterable

from lmaas_sdk.accounting.amounts import Amounts

__all__ = ["spare_s"]

_SLACK = 1.25  # for what comes after the search, which has to end within the limit


def spare_s(
    left_s: float | None,
    *,
    generation_s: float,
    generation: Amounts,
    after: Iterable[Amounts],
    slots: int,
    servers: int = 1,
) -> float | None:
    """Seconds beyond those that one more generation, and then what comes after, can be expected to take.

    It begins only if there are any. None: time is not limited.

    Args:
        left_s: Seconds left; None: no limit.
        generation_s: Seconds of the longest generation so far.
        generation: What a generation takes.
        after: What each of the steps takes that come after the search, one behind the other.
        slots: Calls that go side by side.
        servers: How many compute side by side, each a call of its own.
    """
    if left_s is None:
        return None
    shares = (_share(step, generation, slots, servers) for step in after if step.calls)
    return left_s - generation_s * (1 + _SLACK * sum(shares))


def _share(step: Amounts, generation: Amounts, slots: int, servers: int) -> float:
    """A step as a multiple of a generation: by a server's tokens, or by rounds of calls where these weigh more."""
    rounds = -(-step.calls // slots) / -(-generation.calls // slots)
    return max(rounds, _each(step, servers) / _each(generation, servers) if generation.tokens else 0.0)


def _each(step: Amounts, servers: int) -> float:
    """Tokens of each server that a step's calls keep busy."""
    return step.tokens / min(servers, step.calls)
