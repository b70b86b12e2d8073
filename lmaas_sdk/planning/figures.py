"""From draws of a run to the ranges of an estimate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lmaas_sdk.accounting.money import usd
from lmaas_sdk.accounting.prices import Price, Usage
from lmaas_sdk.planning.played import Played
from lmaas_sdk.planning.ranges import Range
from lmaas_sdk.planning.spread import range_of
from lmaas_sdk.planning.work import Ask

__all__ = ["Figures", "OfPurpose", "between", "figures_of"]


@dataclass(frozen=True, slots=True)
class OfPurpose:
    """What the calls of one purpose come to; as of `Estimate`."""

    calls: Range
    attempts: Range
    tokens: Range
    cost_usd: Range | None

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        named = {name: getattr(self, name) for name in self.__slots__}
        return {name: None if found is None else found.to_dict() for name, found in named.items()}


@dataclass(frozen=True, slots=True)
class Figures:
    """The quantities of an estimate; as there. `charged` are the evaluations that a budget counts: those of attempts
    that were lost, too."""

    total: OfPurpose
    by_purpose: dict[str, OfPurpose]
    evaluations: Range
    charged: Range
    generations: Range
    wall_s: Range


def figures_of(draws: Sequence[Played], price: Price | None) -> Figures:
    """The ranges that draws of a run span.

    Args:
        draws: One, where nothing is up to chance.
        price: What the model costs; None: nobody knows.
    """
    purposes = sorted({purpose for draw in draws for purpose in draw.tally.attempts})
    return Figures(
        total=_of_purpose(draws, price, None),
        by_purpose={name: _of_purpose(draws, price, name) for name in purposes},
        evaluations=range_of([_plain(draw.evaluations) for draw in draws]),
        charged=range_of([_charged(draw) for draw in draws]),
        generations=range_of([draw.generations for draw in draws], is_whole=True),
        wall_s=range_of([draw.wall_s for draw in draws]),
    )


def between(early: Figures, found: Figures, *, part: float) -> Figures:
    """Those of a run that may end early.

    Args:
        early: If it ends as early as it may.
        found: If its budget ends it.
        part: How far from the one to the other the end is that can be expected, from 0 to 1.
    """

    def of(low: Range, high: Range) -> Range:
        expected = low.expected + part * (high.expected - low.expected)
        least, most = min(low.low, high.low), max(low.high, high.high)
        return Range(least, min(max(expected, least), most), most)

    def of_purpose(low: OfPurpose, high: OfPurpose) -> OfPurpose:
        cost = None if low.cost_usd is None or high.cost_usd is None else of(low.cost_usd, high.cost_usd)
        calls, attempts = of(low.calls, high.calls), of(low.attempts, high.attempts)
        return OfPurpose(calls, attempts, of(low.tokens, high.tokens), cost)

    return Figures(
        total=of_purpose(early.total, found.total),
        by_purpose={name: of_purpose(early.by_purpose.get(name, one), one) for name, one in found.by_purpose.items()},
        evaluations=of(early.evaluations, found.evaluations),
        charged=of(early.charged, found.charged),
        generations=of(early.generations, found.generations),
        wall_s=of(early.wall_s, found.wall_s),
    )


def _of_purpose(draws: Sequence[Played], price: Price | None, only: str | None) -> OfPurpose:
    calls, attempts, tokens = [], [], []
    for draw in draws:
        billed, tally = _billed(draw, only), draw.tally
        bare = sum(count for purpose, count in tally.bare.items() if only in (None, purpose))
        calls.append(sum(billed.values()) + bare)
        attempts.append(sum(count for purpose, count in tally.attempts.items() if only in (None, purpose)))
        tokens.append(sum(ask.worst.tokens * count for ask, count in billed.items()))
    return OfPurpose(
        calls=range_of(calls, is_whole=True),
        attempts=range_of(attempts, is_whole=True),
        tokens=range_of(tokens, is_whole=True),
        cost_usd=None if price is None else _cost_usd(draws, price, only),
    )


def _cost_usd(draws: Sequence[Played], price: Price, only: str | None) -> Range:
    """Between what it costs where all is cached and where nothing is, if that makes a difference."""
    ends = []
    for cost in (_as_usual, _as_cached):
        of_calls: dict[int, int] = {}
        ends.append(range_of([_usd(_billed(draw, only), price, cost, of_calls) for draw in draws]))
    usual, cached = ends
    return Range(min(usual.low, cached.low), usual.expected, max(usual.high, cached.high))


def _usd(billed: dict[Ask, int], price: Price, cost: Callable[[Price, int], int], of_calls: dict[int, int]) -> float:
    total = 0
    for ask, count in billed.items():
        tokens = ask.worst.tokens
        if tokens not in of_calls:
            of_calls[tokens] = cost(price, tokens)
        total += of_calls[tokens] * count
    return float(usd(total))


def _as_usual(price: Price, tokens: int) -> int:
    return price.cost_nanousd(Usage(tokens))


def _as_cached(price: Price, tokens: int) -> int:
    return price.cost_nanousd(Usage(tokens, cached_tokens=tokens))


def _billed(draw: Played, only: str | None) -> dict[Ask, int]:
    return {ask: count for ask, count in draw.tally.billed.items() if only in (None, ask.purpose)}


def _charged(draw: Played) -> float:
    return float(sum(ask.worst.evaluations * count for ask, count in draw.tally.billed.items()))


def _plain(evaluations: float) -> float:
    return int(evaluations) if math.isfinite(evaluations) and evaluations == int(evaluations) else evaluations
