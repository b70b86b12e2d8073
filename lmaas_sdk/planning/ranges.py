"""What a quantity is likely to be: low, expected, high."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Range"]


@dataclass(frozen=True, slots=True)
class Range:
    """A quantity that is not known yet, in whatever unit its place says.

    Args:
        low, high: It lies between them with a chance of 90 %.
        expected: Its mean.

    Raises:
        ValueError: They are not in order, or one of them is no number.
    """

    low: float
    expected: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.expected <= self.high or math.isinf(self.low):
            raise ValueError(f"a range goes from low to high over what is expected, unlike {self}")

    @classmethod
    def exactly(cls, value: float) -> Range:
        """What cannot be anything else."""
        return cls(value, value, value)

    @property
    def is_exact(self) -> bool:
        """Whether it can be one value only."""
        return self.low == self.high

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def times(self, factor: float) -> Range:
        """All of it so many times as large.

        Raises:
            ValueError: The factor is negative.
        """
        if not factor >= 0:
            raise ValueError(f"a range is multiplied by a factor of at least 0, not {factor!r}")
        return Range(self.low * factor, self.expected * factor, self.high * factor)

    def to_dict(self) -> dict[str, float]:
        """Plain values for JSON."""
        return {"low": self.low, "expected": self.expected, "high": self.high}
