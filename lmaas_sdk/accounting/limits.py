"""What a budget allows: limits as they are given, and as the books keep them."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

from lmaas_sdk.accounting.money import nanousd
from lmaas_sdk.accounting.quantities import Limits

if TYPE_CHECKING:
    from lmaas_sdk.accounting.budget import Budget

__all__ = ["checked_fractions", "checked_limits", "checked_name", "limits_of"]


def checked_limits(
    calls: int | None, evaluations: int | Fraction | None, tokens: int | None, usd: str | int | Decimal | None
) -> Limits:
    """The limits that a caller gave, money in nano-dollars.

    Raises:
        ValueError: One is negative.
        TypeError: One has the wrong type.
    """
    return (
        _checked_count("calls", calls),
        _checked_part("evaluations", evaluations),
        _checked_count("tokens", tokens),
        None if usd is None else nanousd(usd),
    )


def _checked_part(name: str, amount: int | Fraction | None) -> int | Fraction | None:
    """A count that may be exact to a part, as what is left of another may be."""
    if not isinstance(amount, Fraction):
        return _checked_count(name, amount)
    if amount < 0:
        raise ValueError(f"{name} is at least 0, not {amount}")
    return amount


def limits_of(budget: Budget) -> Limits:
    """The limits of a budget that is there, without its wall time."""
    limits = budget.limits
    return (limits["calls"], limits["evaluations"], limits["tokens"], limits["nanousd"])  # type: ignore[return-value]


def checked_name(name: str) -> str:
    """A name that can stand in a path.

    Raises:
        ValueError: It is empty or holds a "/".
    """
    if not name or "/" in name:
        raise ValueError(f'a budget\'s name is not empty and holds no "/": {name!r}')
    return name


def checked_fractions(fractions: Iterable[float]) -> tuple[Fraction, ...]:
    """Parts of a limit, smallest first, exactly as they are written.

    Raises:
        ValueError: One is not above 0 and at most 1.
    """
    checked = sorted({Fraction(str(fraction)) for fraction in fractions})
    for fraction in checked:
        if not 0 < fraction <= 1:
            raise ValueError(f"warn_at holds parts of a limit, above 0 and at most 1, not {float(fraction)}")
    return tuple(checked)


def _checked_count(name: str, limit: int | None) -> int | None:
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(f"{name} is a whole number or None, not {limit!r}")
    if limit < 0:
        raise ValueError(f"{name} is at least 0, not {limit}")
    return limit
