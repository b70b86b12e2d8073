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
    _unknown: dict[str, tuple[Purpose, Amounts]] = field(default_factory=dict)

    @property
    def total(self) -> Amounts:
        return sum(self.by_purpose.values(), Amounts())

    @property
    def unknown_outcomes(self) -> int:
        """Attempts that are posted at the worst case, because nobody knows what they cost."""
        return len(self._unknown)

    def add(self, purpose: Purpose, amounts: Amounts) -> None:
        """Notes `amounts` under a purpose."""
        self.by_purpose[purpose] = self.by_purpose.get(purpose, Amounts()) + amounts

    def add_unknown(self, transfer: str, purpose: Purpose, worst: Amounts) -> None:
        """Notes a transfer that may have cost this much."""
        self.add(purpose, worst)
        self._unknown[transfer] = purpose, worst

    def correct(self, transfer: str, actual: Amounts) -> None:
        """Puts right what was noted of an unknown outcome; one that others noted is theirs to put right."""
        noted = self._unknown.pop(transfer, None)
        if noted is not None:
            purpose, worst = noted
            self.add(purpose, actual - worst)

    def to_dict(self) -> dict[str, dict[str, int | float]]:
        """Plain numbers for JSON: {purpose: {unit: amount}}, with "total"."""
        rows = {purpose: self.by_purpose[purpose].to_dict() for purpose in sorted(self.by_purpose)}
        return rows | {"total": self.total.to_dict()}
