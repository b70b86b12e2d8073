"""Where the spend went: one line a purpose."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lmaas_sdk.accounting.amounts import Amounts

__all__ = ["Purpose", "Spend"]

Purpose = Literal["train", "dev", "test", "predict", "features"]


@dataclass(slots=True)
class Spend:
    """What was posted, by purpose, and how many attempts ended without a known outcome.

    Attributes:
        by_purpose: Amounts by purpose.
        by_key: What was posted under each idempotency key until somebody takes it; None: nobody will.
    """

    by_purpose: dict[str, Amounts] = field(default_factory=dict)
    by_key: dict[str, Amounts] | None = None
    _unknown: dict[str, tuple[Purpose, Amounts, str]] = field(default_factory=dict)

    @property
    def total(self) -> Amounts:
        return sum(self.by_purpose.values(), Amounts())

    @property
    def unknown_outcomes(self) -> int:
        """Attempts that are posted at the worst case, because nobody knows what they cost."""
        return len(self._unknown)

    def add(self, purpose: Purpose, amounts: Amounts, key: str = "") -> None:
        """Notes `amounts` under a purpose, and under the key of a call."""
        self.by_purpose[purpose] = self.by_purpose.get(purpose, Amounts()) + amounts
        if self.by_key is not None and key:
            self.by_key[key] = self.by_key.get(key, Amounts()) + amounts

    def add_unknown(self, transfer: str, purpose: Purpose, worst: Amounts, key: str = "") -> None:
        """Notes a transfer that may have cost this much."""
        self.add(purpose, worst, key)
        self._unknown[transfer] = purpose, worst, key

    def correct(self, transfer: str, actual: Amounts) -> None:
        """Puts right what was noted of an unknown outcome; one that others noted is theirs to put right."""
        noted = self._unknown.pop(transfer, None)
        if noted is not None:
            purpose, worst, key = noted
            self.add(purpose, actual - worst, key)

    def taken(self, key: str) -> Amounts:
        """What was posted under a key since it was taken last."""
        return Amounts() if self.by_key is None else self.by_key.pop(key, Amounts())

    def to_dict(self) -> dict[str, dict[str, int | float]]:
        """Plain numbers for JSON: {purpose: {unit: amount}}, with "total"."""
        rows = {purpose: self.by_purpose[purpose].to_dict() for purpose in sorted(self.by_purpose)}
        return rows | {"total": self.total.to_dict()}
