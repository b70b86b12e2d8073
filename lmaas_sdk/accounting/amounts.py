"""The four units that a budget limits, added and compared together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

__all__ = ["UNITS", "Amounts"]

UNITS = ("calls", "evaluations", "tokens", "nanousd")


@dataclass(frozen=True, slots=True)
class Amounts:
    """What a call takes, or took.

    Args:
        calls: Attempts that may have reached the backend.
        evaluations: Candidates scored over the training set; one scored on part of it counts as that fraction.
        tokens: Billed input and output tokens.
        nanousd: Money, in nano-dollars.
    """

    calls: int = 0
    evaluations: int | Fraction = 0
    tokens: int = 0
    nanousd: int = 0

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(
            self.calls + other.calls,
            self.evaluations + other.evaluations,
            self.tokens + other.tokens,
            self.nanousd + other.nanousd,
        )

    def __sub__(self, other: Amounts) -> Amounts:
        return self + other.times(-1)

    def times(self, count: int) -> Amounts:
        """The amounts of `count` equal calls."""
        return Amounts(self.calls * count, self.evaluations * count, self.tokens * count, self.nanousd * count)

    def at_most(self, other: Amounts) -> Amounts:
        """The smaller of the two, unit by unit."""
        return Amounts(
            min(self.calls, other.calls),
            min(self.evaluations, other.evaluations),
            min(self.tokens, other.tokens),
            min(self.nanousd, other.nanousd),
        )

    def above(self, other: Amounts) -> Amounts:
        """How much more than `other` this is, unit by unit; nothing where it is less."""
        return self - self.at_most(other)

    def evaluations_only(self) -> Amounts:
        """The evaluations, without what they cost: of an answer that nobody has to pay for again."""
        return Amounts(evaluations=self.evaluations)

    @property
    def is_negative(self) -> bool:
        """Whether any unit is below 0."""
        return self.calls < 0 or self.evaluations < 0 or self.tokens < 0 or self.nanousd < 0

    def is_over(self, most: Amounts) -> bool:
        """Whether any unit is above that of `most`."""
        return (
            self.calls > most.calls
            or self.evaluations > most.evaluations
            or self.tokens > most.tokens
            or self.nanousd > most.nanousd
        )

    def to_exact(self) -> list[int | str]:
        """The four units for a file, to the last part of an evaluation; `from_exact` reads them."""
        return [self.calls, str(self.evaluations), self.tokens, self.nanousd]

    @classmethod
    def from_exact(cls, row: Sequence[int | str]) -> Amounts:
        """What `to_exact` wrote."""
        calls, evaluations, tokens, nanousd = row
        whole = Fraction(evaluations)
        return cls(int(calls), int(whole) if whole.denominator == 1 else whole, int(tokens), int(nanousd))

    def to_dict(self) -> dict[str, int | float]:
        """Plain numbers for JSON; money stays in whole nano-dollars."""
        evaluations = int(self.evaluations) if self.evaluations == int(self.evaluations) else float(self.evaluations)
        return {"calls": self.calls, "evaluations": evaluations, "tokens": self.tokens, "nanousd": self.nanousd}
