"""Money as integers: one unit is a nano-dollar, so no sum ever rounds."""

from __future__ import annotations

import re
from decimal import MAX_EMAX, MIN_EMIN, ROUND_CEILING, Context, Decimal

__all__ = ["NANOUSD_PER_USD", "ceil_div", "format_usd", "nanousd", "usd"]

NANOUSD_PER_USD = 1_000_000_000
_MOST_DIGITS = 18  # of whole dollars: more is a slip of the keyboard, and 1e999999 would take for ever
# Decimal itself also reads blanks, underscores and the digits of all scripts, which are slips or worse in an amount.
_AMOUNT = re.compile(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")

# The caller's decimal context (its precision, its traps) must not decide what an amount is.
_UPWARDS = Context(prec=60, rounding=ROUND_CEILING, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[])


def nanousd(amount_usd: str | int | Decimal) -> int:
    """Nano-dollars in an amount of dollars, rounded up: `nanousd("5.00") == 5_000_000_000`.

    Raises:
        TypeError: A float was given; write the amount as a string instead, so that it means exactly what it says.
        ValueError: Not a finite amount from 0 up to 10^18 dollars.
    """
    if isinstance(amount_usd, bool) or not isinstance(amount_usd, (str, int, Decimal)):
        raise TypeError(f"an amount of money is a string, int or Decimal, not {amount_usd!r}: write it as '5.00'")
    if isinstance(amount_usd, str) and not _AMOUNT.fullmatch(amount_usd):
        raise ValueError(f"not an amount in dollars: {amount_usd!r:.60} (write it as '5.00')")
    amount = Decimal(amount_usd)
    if not amount.is_finite() or amount < 0:
        raise ValueError(f"an amount in dollars is finite and not negative, not {amount_usd!r}")
    if amount and amount.adjusted() >= _MOST_DIGITS:
        raise ValueError(f"an amount in dollars is below 10^{_MOST_DIGITS}, not {amount_usd!r:.60}")
    return int(_UPWARDS.multiply(amount, Decimal(NANOUSD_PER_USD)).to_integral_value(ROUND_CEILING))


def usd(amount_nanousd: int) -> Decimal:
    """Dollars in an amount of nano-dollars, exactly."""
    return _UPWARDS.divide(Decimal(amount_nanousd), Decimal(NANOUSD_PER_USD))


def format_usd(amount_nanousd: int) -> str:
    """Dollars for people, exact, with at least two decimals: `$0.0042`, `$5.00`, `-$0.10`."""
    whole, fraction = divmod(abs(amount_nanousd), NANOUSD_PER_USD)
    digits = f"{fraction:09d}"
    return f"{'-' if amount_nanousd < 0 else ''}${whole}.{digits[:2]}{digits[2:].rstrip('0')}"


def ceil_div(numerator: int, denominator: int) -> int:
    """The quotient rounded up, in integers."""
    return -(-numerator // denominator)
