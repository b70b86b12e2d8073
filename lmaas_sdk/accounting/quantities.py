"""The four units as bare tuples: what the books add and compare thousands of times a second."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TypeAlias

from lmaas_sdk.accounting.amounts import Amounts

__all__ = [
    "NO_LIMITS",
    "ZERO",
    "Limits",
    "Quantities",
    "added",
    "as_amounts",
    "is_over",
    "less",
    "quantities",
    "unspent",
]

# In the order of UNITS: calls, evaluations, tokens, nanousd.
Quantities: TypeAlias = tuple[int, int | Fraction, int, int]
Limits: TypeAlias = tuple[int | None, int | Fraction | None, int | None, int | None]

ZERO: Quantities = (0, 0, 0, 0)
NO_LIMITS: Limits = (None, None, None, None)

_MOST = 10**27  # a quintillion dollars in nano-dollars: what is more is a mistake, and no file need hold it


def quantities(amounts: Amounts) -> Quantities:
    """The units of `amounts`.

    Raises:
        ValueError: One is negative, beyond 10^27, or no whole number; evaluations may be a Fraction.
    """
    calls, evaluations, tokens, nanousd = amounts.calls, amounts.evaluations, amounts.tokens, amounts.nanousd
    if (
        not type(calls) is type(tokens) is type(nanousd) is int  # bool is none
        or type(evaluations) not in (int, Fraction)
        or not (0 <= calls <= _MOST and 0 <= evaluations <= _MOST and 0 <= tokens <= _MOST and 0 <= nanousd <= _MOST)
    ):
        raise ValueError(
            f"amounts to reserve, set aside or post are whole numbers from 0 to 10^27, not {amounts!r:.300}"
        )
    return calls, evaluations, tokens, nanousd


def as_amounts(row: Sequence[int | Fraction]) -> Amounts:
    """The other way round."""
    return Amounts(*row)  # type: ignore[arg-type]  # only evaluations are ever fractions


def added(one: Quantities, other: Quantities) -> Quantities:
    """The sum, unit by unit."""
    return (one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] + other[3])


def less(one: Quantities, other: Quantities) -> Quantities:
    """The difference, unit by unit."""
    return (one[0] - other[0], one[1] - other[1], one[2] - other[2], one[3] - other[3])


def unspent(aside: Limits, posted: Quantities) -> Quantities:
    """What is left of an amount set aside, unit by unit; more than all of it spent leaves nothing, never a debt."""
    left = [0 if limit is None else max(0, limit - used) for limit, used in zip(aside, posted, strict=True)]
    return (int(left[0]), left[1], int(left[2]), int(left[3]))


def is_over(row: Quantities, most: Quantities) -> bool:
    """Whether any unit is more than allowed."""
    return row[0] > most[0] or row[1] > most[1] or row[2] > most[2] or row[3] > most[3]
