"""What the provider counted and billed: the other side of a client's ledger."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction

__all__ = ["Book"]


@dataclass(slots=True)
class Book:
    """The mock's own books, kept apart from anything a client believes.

    Args:
        received: Requests that arrived, the refused and the rate-limited included.
        refused: Requests turned away before any work, for whatever reason but a rate limit.
        limited: Requests answered with 429.
        attempts: Requests that were taken up: all but the refused and the limited.
        replayed: Attempts answered from the store of an earlier one under the same key; not billed again.
        computed: Attempts that were computed and billed.
        evaluations: Candidates computed; one scored on part of the texts counts as that fraction.
        candidate_texts: Pairs of candidate and text computed.
        tokens: Tokens billed.
        nanousd: Nano-dollars billed.
        in_flight, max_in_flight: Attempts being worked on now, and the most there ever were at once.
        by_key: Requests received under each idempotency key; its size is the number of calls.
    """

    received: int = 0
    refused: int = 0
    limited: int = 0
    attempts: int = 0
    replayed: int = 0
    computed: int = 0
    evaluations: Fraction = Fraction(0)
    candidate_texts: int = 0
    tokens: int = 0
    nanousd: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    by_key: Counter[str] = field(default_factory=Counter)

    @property
    def calls(self) -> int:
        """Logical calls seen: distinct idempotency keys."""
        return len(self.by_key)
