"""Where the spend went: one line a purpose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from lmaas_sdk.accounting.amounts import Amounts

__all__ = ["Purpose", "Spend", "Taken", "check_purpose"]

Purpose = Literal["train", "dev", "test", "predict", "features", "probe"]


def check_purpose(purpose: object) -> None:
    """Refuses what no call is booked as.

    Raises:
        ValueError: It is none of the purposes.
    """
    if purpose not in get_args(Purpose):
        raise ValueError(f"purpose is one of {', '.join(get_args(Purpose))}, not {purpose!r:.80}")


@dataclass(frozen=True, slots=True)
class Taken:
    """What was posted under some keys since somebody asked last.

    Args:
        by_purpose: Amounts by purpose.
        unknown: Of all that was ever posted under each of the keys, the attempts that nobody knows the cost of.
    """

    by_purpose: Mapping[str, Amounts]
    unknown: Mapping[str, list[Amounts]]

    def to_record(self) -> dict[str, Any]:
        """For a file; what is empty is left out."""
        paid = {purpose: amounts.to_exact() for purpose, amounts in self.by_purpose.items()}
        unknown = {key: [amounts.to_exact() for amounts in rows] for key, rows in self.unknown.items()}
        return ({"paid": paid} if paid else {}) | ({"unknown": unknown} if unknown else {})


@dataclass(slots=True)
class Spend:
    """What was posted, by purpose, and how many attempts ended without a known outcome.

    Attributes:
        by_purpose: Amounts by purpose.
        by_key: What was posted under each idempotency key, and for what, until somebody takes it; None: nobody will.
        attempts: Requests that this process has sent, those that nobody took and 429s included.
    """

    by_purpose: dict[str, Amounts] = field(default_factory=dict)
    by_key: dict[str, tuple[Purpose, Amounts]] | None = None
    attempts: int = 0
    _unknown: dict[str, tuple[Purpose, Amounts, str]] = field(default_factory=dict)

    @classmethod
    def together(cls, spends: Iterable[Spend]) -> Spend:
        """What several came to by now, each counted once however often it is given."""
        sum_of = cls()
        for spend in {id(spend): spend for spend in spends}.values():
            sum_of.attempts += spend.attempts
            sum_of._unknown |= spend._unknown
            sum_of.add_all(spend)
        return sum_of

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
            before = self.by_key.get(key)
            self.by_key[key] = purpose, amounts if before is None else before[1] + amounts

    def add_all(self, other: Spend) -> None:
        """Notes all that another has by now."""
        for purpose, amounts in other.by_purpose.items():
            self.by_purpose[purpose] = self.by_purpose.get(purpose, Amounts()) + amounts

    def add_unknown(self, transfer: str, purpose: Purpose, worst: Amounts, key: str = "") -> None:
        """Notes a transfer that may have cost this much."""
        self.add(purpose, worst, key)
        self.know_unknown(transfer, purpose, worst, key)

    def know_unknown(self, transfer: str, purpose: Purpose, worst: Amounts, key: str = "") -> None:
        """Notes that what was added before of this transfer is a worst case."""
        self._unknown[transfer] = purpose, worst, key

    def correct(self, transfer: str, actual: Amounts) -> None:
        """Puts right what was noted of an unknown outcome; one that others noted is theirs to put right."""
        noted = self._unknown.pop(transfer, None)
        if noted is not None:
            purpose, worst, key = noted
            self.add(purpose, actual - worst, key)

    @property
    def settled_keys(self) -> list[str]:
        """Keys, of those that nobody took yet, under which a whole answer was billed."""
        unknown = {key for _, _, key in self._unknown.values()}
        return [key for key, (_, amounts) in (self.by_key or {}).items() if amounts.tokens and key not in unknown]

    def taken(self, keys: Iterable[str]) -> Taken:
        """What was posted under these keys since it was taken last."""
        by_key, asked = self.by_key or {}, set(keys)
        by_purpose: dict[str, Amounts] = {}
        for key in asked & by_key.keys():
            purpose, amounts = by_key.pop(key)
            by_purpose[purpose] = by_purpose.get(purpose, Amounts()) + amounts
        unknown: dict[str, list[Amounts]] = {}
        for _, worst, key in self._unknown.values():
            if key in asked:
                unknown.setdefault(key, []).append(worst)
        return Taken(by_purpose, unknown)

    def to_dict(self) -> dict[str, dict[str, int | float]]:
        """Plain numbers for JSON: {purpose: {unit: amount}}, with "total"."""
        rows = {purpose: self.by_purpose[purpose].to_dict() for purpose in sorted(self.by_purpose)}
        return rows | {"total": self.total.to_dict()}
