"""Where the spend went: one line a purpose."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lmaas_sdk.accounting.amounts import Amounts

__all__ = ["Purpose", "Spend"]

Purpose = Literal["train", "dev", "test", "predict", "features"]


@dataclass(slots=True)
class Spend:
    """What was posted, by purpose, and how many attempts ended without a known outcome."""

    by_purpose: dict[str, Amounts] = field(default_factory=dict)
    unknown_outcomes: int = 0

    @property
    def total(self) -> Amounts:
        return sum(self.by_purpose.values(), Amounts())

    def add(self, purpose: Purpose, amounts: Amounts) -> None:
        """Books `amounts` (negative for a correction) under a purpose."""
        self.by_purpose[purpose] = self.by_purpose.get(purpose, Amounts()) + amounts

    def to_dict(self) -> dict[str, dict[str, int | float]]:
        """Plain numbers for JSON: {purpose: {unit: amount}}, with "total"."""
        rows = {purpose: self.by_purpose[purpose].to_dict() for purpose in sorted(self.by_purpose)}
        return rows | {"total": self.total.to_dict()}
