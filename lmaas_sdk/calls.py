"""A call before it is sent: its query, its key, and the worst it may cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.prices import Price, Usage
from lmaas_sdk.accounting.spend import Purpose
from lmaas_sdk.backend import FeatureQuery, ModelCard, ScoreQuery
from lmaas_sdk.texts import TextSet

__all__ = ["Call", "Endpoint", "actual_amounts", "endpoint_for", "endpoint_of", "n_texts_of", "priced_call"]

Endpoint = Literal["score", "features"]


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One logical request.

    Args:
        query: What to ask.
        key: The idempotency key, the same for all attempts.
        purpose: What for.
        worst: The most that one attempt may cost.
    """

    query: ScoreQuery | FeatureQuery
    key: str
    purpose: Purpose
    worst: Amounts


def endpoint_of(query: ScoreQuery | FeatureQuery) -> Endpoint:
    """Which of the backend's calls answers a query."""
    return "features" if isinstance(query, FeatureQuery) else "score"


def endpoint_for(purpose: Purpose) -> Endpoint:
    """Where a run's calls of this purpose go."""
    return "features" if purpose == "features" else "score"


def n_texts_of(query: ScoreQuery | FeatureQuery) -> int | None:
    """Texts that a query asks about; None: those of a registered set, however many."""
    if query.rows is not None:
        return len(query.rows)
    return len(query.texts) if isinstance(query.texts, TextSet) else None


def priced_call(
    query: ScoreQuery | FeatureQuery,
    key: str,
    *,
    purpose: Purpose,
    token_counts: Sequence[int],
    of_texts: int | None,
    card: ModelCard,
) -> Call:
    """Prices a query by the tokens of each of its texts, under one candidate.

    Raises:
        ValueError: There is not one token count a text.
    """
    n_texts, n_counts = n_texts_of(query), len(token_counts)
    if not n_counts or n_counts != (n_counts if n_texts is None else n_texts):
        raise ValueError(f"a query of {n_texts or 'some'} texts has {n_counts} token counts: give one a text")
    candidates = query.n_candidates if isinstance(query, ScoreQuery) else 1
    tokens = candidates * sum(token_counts)
    evaluations: int | Fraction = 0
    if purpose == "train":
        evaluations = candidates if of_texts in {None, n_counts} else candidates * Fraction(n_counts, of_texts)
    return Call(query, key, purpose, Amounts(1, evaluations, tokens, _dearest(card.price, tokens)))


def actual_amounts(call: Call, usage: Usage, price: Price | None) -> Amounts:
    """What an answered attempt took."""
    return Amounts(1, call.worst.evaluations, usage.input_tokens + usage.output_tokens, _cost(price, usage))


def _dearest(price: Price | None, tokens: int) -> int:
    """The most that so many input tokens may cost: some providers charge more for what goes into their cache."""
    if price is None:
        return 0
    return max(price.cost_nanousd(Usage(tokens)), price.cost_nanousd(Usage(tokens, cached_tokens=tokens)))


def _cost(price: Price | None, usage: Usage) -> int:
    return 0 if price is None else price.cost_nanousd(usage)
