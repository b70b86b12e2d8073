"""What a call costs: integer prices, charged once a call and rounded up."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from itertools import pairwise

from lmaas_sdk.accounting.money import ceil_div
from lmaas_sdk.errors import UnknownPrice

__all__ = ["PRICE_KINDS", "Price", "PriceTier", "Usage"]

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
        tiers: What calls of fewer input tokens cost, shortest first. The other fields hold beyond them all and are the
            dearest, so whoever passes over the tiers asks for too much, never for too little.

    Raises:
        TypeError: An amount is not a whole number of nano-dollars.
        ValueError: An amount is negative, one batch price is given without the other, or a tier is dearer than what
            comes after it.
    """

    input_nanousd_per_mtok: int
    output_nanousd_per_mtok: int = 0
    cached_nanousd_per_mtok: int | None = None
    call_nanousd: int = 0
    effective: str = ""
    source: str = ""
    batch_input_nanousd_per_mtok: int | None = None
    batch_output_nanousd_per_mtok: int | None = None
    tiers: tuple[PriceTier, ...] = field(default=(), kw_only=True)

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
        self._check_tiers()

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
            TypeError, ValueError: The usage does not count tokens, or has more cached tokens than input tokens.
        """
        _check_counts(usage)
        if batch and self.batch_input_nanousd_per_mtok is None:
            raise UnknownPrice(f"there is no batch price ({self.source or 'no source'}): send the call by itself")
        price = self.at(usage.input_tokens)
        per_input, per_output, per_cached = price._batch_rates() if batch else price._rates()
        tokens = (
            (usage.input_tokens - usage.cached_tokens) * per_input
            + usage.cached_tokens * per_cached
            + usage.output_tokens * per_output
        )
        return price.call_nanousd + ceil_div(tokens, _TOKENS_PER_PRICE)

    def at(self, input_tokens: int) -> Price:
        """What holds for a call of so many input tokens: its tier's price, or this one beyond all tiers."""
        return next((tier.price for tier in self.tiers if input_tokens <= tier.up_to_input_tokens), self)

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON, under the names of the fields."""
        return asdict(self)

    def _rates(self) -> tuple[int, int, int]:
        """Of input, output and cached tokens."""
        per_input, per_cached = self.input_nanousd_per_mtok, self.cached_nanousd_per_mtok
        return per_input, self.output_nanousd_per_mtok, per_input if per_cached is None else per_cached

    def _batch_rates(self) -> tuple[int, int, int]:
        per_input, per_output = self.batch_input_nanousd_per_mtok or 0, self.batch_output_nanousd_per_mtok or 0
        return per_input, per_output, max(per_input, self.cached_nanousd_per_mtok or 0)

    def _check_tiers(self) -> None:
        # With prices that never fall, the cost of the most tokens a call may take is the most that it may cost.
        if any(shorter.up_to_input_tokens >= longer.up_to_input_tokens for shorter, longer in pairwise(self.tiers)):
            raise ValueError("tiers are given shortest first, each of other calls than the one before")
        for cheaper, dearer in pairwise([*(tier.price for tier in self.tiers), self]):
            if (cheaper.batch_input_nanousd_per_mtok is None) != (dearer.batch_input_nanousd_per_mtok is None):
                raise ValueError("a batch price is one of all tiers, or of none")
            if any(less > more for less, more in zip(cheaper._amounts(), dearer._amounts(), strict=True)):
                raise ValueError(f"a tier is dearer than what longer calls cost: {cheaper} and {dearer}")

    def _amounts(self) -> tuple[int, ...]:
        return (*self._rates(), *self._batch_rates(), self.call_nanousd)


@dataclass(frozen=True, slots=True)
class PriceTier:
    """What calls of at most so many input tokens cost; all of a call's tokens are of one tier.

    Args:
        up_to_input_tokens: The most input tokens of such a call, cached ones included.
        price: Its price, without tiers.

    Raises:
        ValueError: The number is negative, or the price has tiers.
    """

    up_to_input_tokens: int
    price: Price

    def __post_init__(self) -> None:
        if self.up_to_input_tokens < 0 or self.price.tiers:
            raise ValueError(f"a tier has a number of input tokens and a price without tiers, unlike {self}")


def _check_counts(usage: Usage) -> None:
    counts: tuple[object, ...] = (usage.input_tokens, usage.cached_tokens, usage.output_tokens)
    if not all(isinstance(count, int) for count in counts):
        raise TypeError(f"a usage counts tokens in whole numbers, unlike {usage}")
    if usage.output_tokens < 0 or not 0 <= usage.cached_tokens <= usage.input_tokens:
        raise ValueError(f"a usage counts tokens, with no more cached than sent, unlike {usage}")
