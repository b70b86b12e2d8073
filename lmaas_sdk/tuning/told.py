"""What became of a generation: the values that the optimiser is told, and why some are missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

__all__ = ["Fate", "Told"]

Fate = Literal["failed", "abandoned", "imputed", "dropped"]


@dataclass(frozen=True, slots=True)
class Told:
    """The outcome of one generation, with every decision that was taken about it.

    Args:
        values: The value of each candidate that the optimiser is told, by its index.
        fates: What happened to those without a value of their own: `failed` (no usable answer), `abandoned` (too slow),
            `imputed` (failed, and told as some value), `dropped` (clearly worse in a race, and told as such).
        evaluations: Candidates scored, those scored on part of the texts as that part.
        asked: Digest of the candidates that the search had asked for, by which a journal is held to its search.
    """

    values: Mapping[int, float]
    fates: Mapping[int, Fate] = field(default_factory=dict)
    evaluations: int | Fraction = 0
    asked: str = ""

    @property
    def scored(self) -> dict[int, float]:
        """The values that are losses over the whole training set; nothing made up."""
        return {index: value for index, value in self.values.items() if index not in self.fates}

    def to_record(self) -> dict[str, Any]:
        """For the journal."""
        return {
            "values": [[index, value] for index, value in self.values.items()],
            "fates": [[index, fate] for index, fate in self.fates.items()],
            "evaluations": str(self.evaluations),
            "asked": self.asked,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Told:
        """What `to_record` made."""
        evaluations = Fraction(record["evaluations"])
        return cls(
            {int(index): float(value) for index, value in record["values"]},
            dict(record["fates"]),
            int(evaluations) if evaluations.denominator == 1 else evaluations,
            str(record["asked"]),
        )
