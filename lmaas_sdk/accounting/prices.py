"""What a call costs: integer prices, charged once a call and rounded up."""

from __future__ import annotations

from dataclasses import dataclass, fields

from lmaas_sdk.accounting.money import ceil_div
from lmaas_sdk.errors import UnknownPrice

__all__ = ["PRICE_KINDS", "Price", "Usage"]

_TOKENS_PER_PRICE = 1_000_000
# What is charged, and the field of `Price` that says how much.
PRICE_KINDS = {
    "input": "input_nanousd_per_mtok",
    "output": "output_nanousd_per_mtok",
    "cached": "cached_nanousd_per_mtok",
    "batch input": "batch_input_nanousd_per_mtok",
    "batch output": "batch_output_nanousd_per_mtok",
    "call": "call_nanousd",
}
_MAY_BE_MISSING = ("cached_nanousd_per_mtok", "batch_input_nanousd_per_mtok", "batch_output_nanousd_per_mtok")


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
        effective: The date the price holds from (ISO 8601); "": not known.
        source: Where it was read.
        batch_input_nanousd_per_mtok, batch_output_nanousd_per_mtok: The same for calls that wait in a batch; both None:
            there is no such offer.

    Raises:
        TypeError: An amount is not a whole number of nano-dollars.
        ValueError: An amount is negative, or one batch price is given without the other.
    """

    input_nanousd_per_mtok: int
    output_nanousd_per_mtok: int = 0
    cached_nanousd_per_mtok: int | None = None
    call_nanousd: int = 0
    effective: str = ""
    source: str = ""
    batch_input_nanousd_per_mtok: int | None = None
    batch_output_nanousd_per_mtok: int | None = None

    def __post_init__(self) -> None:
        for name in PRICE_KINDS.values():
            amount: object = getattr(self, name)
            if amount is None and name in _MAY_BE_MISSING:
                continue
            if isinstance(amount, bool) or not isinstance(amount, int):
                raise TypeError(
                    f"{name} is a whole number of nano-dollars, not {amount!r}: `nanousd('0.40')` makes one"
                )
            if amount < 0:
                raise ValueError(f"a price is not negative: {name} is {amount}")
        if (self.batch_input_nanousd_per_mtok is None) != (self.batch_output_nanousd_per_mtok is None):
            raise ValueError("a batch price has both batch_input_nanousd_per_mtok and batch_output_nanousd_per_mtok")

    def of(self, kind: str) -> int | None:
        """The price of one of `PRICE_KINDS`; None: cached tokens cost as others, or there is no batch offer.

        Raises:
            ValueError: There is no such kind.
        """
        if kind not in PRICE_KINDS:
            raise ValueError(f"a kind of price is one of {', '.join(PRICE_KINDS)}, not {kind!r}")
        amount: int | None = getattr(self, PRICE_KINDS[kind])
        return amount

    def cost_nanousd(self, usage: Usage, *, batch: bool = False) -> int:
        """The charge for one call, rounded up to a whole nano-dollar.

        Args:
            usage: Its tokens.
            batch: It waits in a batch. Its cached tokens then cost the dearer of the two prices that they may have,
                for providers differ.

        Raises:
            UnknownPrice: There is no batch offer.
        """
        per_input, per_output = self._per_mtok(batch=batch)
        per_cached = self.cached_nanousd_per_mtok
        if per_cached is None:
            per_cached = per_input
        elif batch:
            per_cached = max(per_cached, per_input)
        tokens = (
            (usage.input_tokens - usage.cached_tokens) * per_input
            + usage.cached_tokens * per_cached
            + usage.output_tokens * per_output
        )
        return self.call_nanousd + ceil_div(tokens, _TOKENS_PER_PRICE)

    def _per_mtok(self, *, batch: bool) -> tuple[int, int]:
        if not batch:
            return self.input_nanousd_per_mtok, self.output_nanousd_per_mtok
        if self.batch_input_nanousd_per_mtok is None or self.batch_output_nanousd_per_mtok is None:
            raise UnknownPrice(f"there is no batch price ({self.source or 'no source'}): send the call by itself")
        return self.batch_input_nanousd_per_mtok, self.batch_output_nanousd_per_mtok

    def to_dict(self) -> dict[str, int | str | None]:
        """Plain values for JSON, under the names of the fields."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
