"""How long things take, as this run has seen: so that a time limit leaves time for what comes after the search."""

from __future__ import annotations

from lmaas_sdk.accounting.amounts import Amounts

__all__ = ["has_time"]

_SLACK = 1.25  # for what comes after the search, which has to end within the limit


def has_time(left_s: float | None, *, elapsed_s: float, spent: Amounts, step: Amounts, after: Amounts) -> bool:
    """Whether one more step, and then what comes after, can be expected to end in time.

    Args:
        left_s: Seconds left; None: no limit.
        elapsed_s, spent: What was done so far, and in what time.
        step: The step.
        after: What comes after.
    """
    if left_s is None or not spent.calls:
        return True
    step_s, after_s = (elapsed_s * _share(amounts, spent) for amounts in (step, after))
    return left_s > step_s + _SLACK * after_s


def _share(amounts: Amounts, spent: Amounts) -> float:
    """The amounts as a multiple of those spent: by tokens, or by calls where these weigh more."""
    by_tokens = amounts.tokens / spent.tokens if spent.tokens else 0.0
    return max(by_tokens, amounts.calls / spent.calls)
