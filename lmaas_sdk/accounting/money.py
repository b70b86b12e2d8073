"""Money as integers: one unit is a nano-dollar, so no sum ever rounds."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal, InvalidOperation

__all__ = ["NANOUSD_PER_USD", "ceil_div", "format_usd", "nanousd", "usd"]

NANOUSD_PER_USD = 1_000_000_000


def nanousd(amount_usd: str | int | Decimal) -> int:
    """Nano-dollars in an amount of dollars, rounded up: `nanousd("5.00") == 5_000_000_000`.

    Raises:
        TypeError: A float was given; write the amount as a string instead, so that it means exactly what it says.
        ValueError: Not a finite amount of at least 0.
    """
    if isinstance(amount_usd, (float, bool)):
        raise TypeError(f"an amount of money is a string, int or Decimal, not {amount_usd!r}: write usd='{amount_usd}'")
    try:
        amount = Decimal(amount_usd)
    except InvalidOperation as error:
        raise ValueError(f"not an amount in dollars: {amount_usd!r} (write it as '5.00')") from error
    if not amount.is_finite() or amount < 0:
        raise ValueError(f"an amount in dollars is finite and not negative, not {amount_usd!r}")
    return int((amount * NANOUSD_PER_USD).to_integral_value(ROUND_CEILING))


def usd(amount_nanousd: int) -> Decimal:
    """Dollars in an amount of nano-dollars, exactly."""
    return Decimal(amount_nanousd) / NANOUSD_PER_USD


def format_usd(amount_nanousd: int) -> str:
    """Dollars for people, exact, with at least two decimals: `$0.0042`, `$5.00`."""
    whole, _, fraction = f"{usd(amount_nanousd):.9f}".partition(".")
    return f"${whole}.{fraction[:2]}{fraction[2:].rstrip('0')}"


def ceil_div(numerator: int, denominator: int) -> int:
    """The quotient rounded up, in integers."""
    return -(-numerator // denominator)
