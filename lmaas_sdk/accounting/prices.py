"""What a call costs: integer prices, charged once a call and rounded up."""

from __future__ import annotations

from dataclasses import dataclass

from lmaas_sdk.accounting.money import ceil_div

__all__ = ["Price", "Usage"]

_TOKENS_PER_PRICE = 1_000_000


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call. `input_tokens` counts every position computed without padding, `cached_tokens` of them
    included."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.output_tokens + other.output_tokens,
        )


@dataclass(frozen=True, slots=True)
class Price:
    """A model's price in nano-dollars per 1,000,000 tokens, and per call.

    Args:
        input_nanousd_per_mtok, output_nanousd_per_mtok: Nano-dollars per 1,000,000 tokens.
        cached_nanousd_per_mtok: The same for cached input tokens; None: as other input tokens.
        call_nanousd: Nano-dollars a call.
        effective: The date the price holds from (ISO 8601).
        source: Where it was read.

    Raises:
        TypeError: An amount is not a whole number of nano-dollars.
        ValueError: An amount is negative.
    """

    input_nanousd_per_mtok: int
    output_nanousd_per_mtok: int = 0
    cached_nanousd_per_mtok: int | None = None
    call_nanousd: int = 0
    effective: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        for name in ("input_nanousd_per_mtok", "output_nanousd_per_mtok", "cached_nanousd_per_mtok", "call_nanousd"):
            amount = getattr(self, name)
            if amount is None and name == "cached_nanousd_per_mtok":
                continue
            if isinstance(amount, bool) or not isinstance(amount, int):
                raise TypeError(
                    f"{name} is a whole number of nano-dollars, not {amount!r}: `nanousd('0.40')` makes one"
                )
            if amount < 0:
                raise ValueError(f"a price is not negative: {name} is {amount}")

    def cost_nanousd(self, usage: Usage) -> int:
        """The charge for one call, rounded up to a whole nano-dollar."""
        cached_price = (
            self.input_nanousd_per_mtok if self.cached_nanousd_per_mtok is None else self.cached_nanousd_per_mtok
        )
        tokens = (
            (usage.input_tokens - usage.cached_tokens) * self.input_nanousd_per_mtok
            + usage.cached_tokens * cached_price
            + usage.output_tokens * self.output_nanousd_per_mtok
        )
        return self.call_nanousd + ceil_div(tokens, _TOKENS_PER_PRICE)
