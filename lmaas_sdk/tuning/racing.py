"""Racing: candidates are scored on a part of the training rows first, and only those that may be good on the rest.

CMA-ES goes by ranks, and the worse half of a generation only needs to be known as that. So who is clearly behind the
mu-th best after some rows is dropped, and its other rows are never paid for (Maron & Moore 1994; with CMA-ES,
Heidrich-Meisner & Igel 2009). `strata.py` tells who is behind; `generation.py` asks, `scoreboard.py` keeps the answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import floor

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.accounting.amounts import Amounts
from lmaas_sdk.accounting.prices import Price
from lmaas_sdk.backend import Limits
from lmaas_sdk.seeding import permutation
from lmaas_sdk.tuning.objective import Objective, total
from lmaas_sdk.tuning.subspace import positive_number

__all__ = ["FEWEST_ROWS", "Racing", "can_drop", "compared", "pays", "rungs", "values"]

FEWEST_ROWS = 16  # with fewer, the first rung is hardly more than one row of each class
_MINUTES_A_DAY = 24 * 60
_EXPECTED_SHARE = Fraction(4, 5)  # of the tokens; benchmarks/racing.py measured .72 .. .81
_CHARGED = ("calls", "tokens", "nanousd")


@dataclass(frozen=True, slots=True)
class Racing:
    """How a generation is raced.

    Args:
        parts: Parts of the training rows after which candidates are dropped, rising to 1: (0.25, 0.5, 1.0) scores all
            on a quarter, those left on a second quarter, and those still left on the other half. Each takes a call.
        margin: Standard errors that a candidate must be behind to be dropped, above 0: the fewer, the more is saved and
            the more often one is dropped that would have come in among the best.

    Raises:
        ValueError: The parts do not rise to 1, or a number is out of its range.
        TypeError: One is no number.
    """

    parts: tuple[float, ...] = (0.25, 0.5, 1.0)
    margin: float = 1.0

    def __post_init__(self) -> None:
        parts = tuple(positive_number("a part of the rows", part) for part in self.parts)
        if len(parts) < 2 or parts[-1] != 1 or any(less >= more for less, more in pairwise(parts)):
            raise ValueError(f"parts are two or more that rise to 1, such as (0.25, 0.5, 1.0), not {self.parts!r:.80}")
        object.__setattr__(self, "parts", parts)
        object.__setattr__(self, "margin", positive_number("margin", self.margin))


def rungs(racing: Racing, labels: NDArray[np.int64], *, seed: int, generation: int) -> tuple[tuple[int, ...], ...]:
    """The rows that each rung adds: together all rows, each once, in rising order within a rung.

    Every class is in every rung in proportion, at least once while it has rows. The rows rotate with the generation, so
    that no few texts decide a whole search.

    Args:
        racing: Its parts; a rung without rows is left out.
        labels: (n_texts,) class indices.
        seed, generation: The same ones give the same rungs, on every machine.
    """
    order = permutation(seed, f"racing/1/{generation}", len(labels))
    of_classes = [order[labels[order] == label] for label in np.unique(labels)]
    ends = [_ends(racing.parts, len(rows)) for rows in of_classes]
    found = []
    for rung in range(len(racing.parts)):
        pieces = [rows[end[rung] : end[rung + 1]] for rows, end in zip(of_classes, ends, strict=True)]
        found.append(tuple(np.sort(np.concatenate(pieces)).tolist()))
    return tuple(rows for rows in found if rows)


def _ends(parts: tuple[float, ...], count: int) -> list[int]:
    """Where the rungs of a class of `count` rows begin and end: one row for each at least, while there are any."""
    ends = [0]
    for rung, part in enumerate(parts, start=1):
        least, left_for_others = min(ends[-1] + 1, count), len(parts) - rung
        ends.append(max(least, min(floor(part * count + 0.5), count - left_for_others)))
    return ends


def can_drop(racing: Racing, labels: NDArray[np.int64]) -> bool:
    """Whether a race can drop anybody: before the last rung there are more rows than classes, as variances need.

    With the usual parts that takes three rows of some class.

    Args:
        racing: Its parts.
        labels: (n_texts,) class indices, at least one.
    """
    *before, _ = rungs(racing, labels, seed=0, generation=0)  # how large rungs are is the same in all generations
    return sum(map(len, before)) > len(np.unique(labels))


def compared(objective: Objective, per_text: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """What candidates are compared by, from `text_losses`: losses; for `metric`, -1 where a text is right, else 0."""
    if objective != "metric":
        return per_text
    return np.where(np.isnan(per_text), np.nan, -(per_text == labels).astype(np.float64))


def values(
    objective: Objective, per_text: NDArray[np.float64], labels: NDArray[np.int64], *, metric: str
) -> NDArray[np.float64]:
    """A value for every candidate: its loss where all rows were scored; else one above all these.

    Those that were dropped are in the order of how many rows they were scored on, and then of their means on these.
    Their values are these means, raised by as little as puts them there.

    Args:
        objective, metric: As in `losses`.
        per_text: (n_candidates, n_texts) float64 from `text_losses`; NaN where nothing was scored.
        labels: (n_texts,) class indices.

    Returns:
        (n_candidates,) float64, finite where the losses are.

    Raises:
        ValueError: No candidate was scored on all rows.
    """
    counts = (~np.isnan(per_text)).sum(axis=1)
    ended = counts == len(labels)
    if not ended.any():
        raise ValueError("no candidate was scored on all rows")
    found: NDArray[np.float64] = np.nansum(compared(objective, per_text, labels), axis=1) / np.maximum(1, counts)
    found[ended] = total(objective, per_text[ended], labels, metric=metric)
    level = found[ended].max()
    for index in np.lexsort((found, -counts)):
        if not ended[index]:
            found[index] = level = max(found[index], np.nextafter(level, np.inf))
    return found


def pays(
    racing: Racing,
    *,
    objective: Objective,
    n_texts: int,
    generation: Amounts,
    free: Mapping[str, int | Fraction | None],
    limits: Limits,
    price: Price | None = None,
) -> bool:
    """Whether a run should race without being asked to: where tokens or money bind, and calls do not.

    A generation that is raced takes fewer tokens in more calls. It pays if then the budget reaches further or the
    quota lets generations come faster, and neither gets worse. Evaluations and time of one's own are no reason: where
    nobody charges for tokens, a run is left as it is. Never with few rows, nor with `metric`, where right and wrong
    tell less of a candidate, so that about half as much is saved.

    Args:
        racing: How it would be.
        objective: What is minimised.
        n_texts: Rows of the training set.
        generation: The most that a generation takes when all of it is scored.
        free: What is left of each unit (`Budget.least_free`); None, or not there: no limit.
        limits: The quotas of the endpoint that scores.
        price: What the model costs.
    """
    if n_texts < FEWEST_ROWS or objective == "metric":
        return False
    raced = _raced(generation, len(racing.parts), price)
    reach = _reach(raced, free) - _reach(generation, free)
    pace = _minutes(generation, limits) - _minutes(raced, limits)
    return min(reach, pace) >= 0 and max(reach, pace) > 0


def _raced(generation: Amounts, rungs: int, price: Price | None) -> Amounts:
    """What a generation can be expected to take when it is raced."""
    for_calls = generation.calls * price.call_nanousd if price else 0
    return Amounts(
        calls=generation.calls * rungs,
        tokens=round(generation.tokens * _EXPECTED_SHARE),
        nanousd=for_calls * rungs + round((generation.nanousd - for_calls) * _EXPECTED_SHARE),
    )


def _reach(generation: Amounts, free: Mapping[str, int | Fraction | None]) -> Fraction:
    """How many generations a budget pays for; without limits 0, as every other generation would have it, too."""
    left = {unit: amount for unit in _CHARGED if (amount := free.get(unit)) is not None and getattr(generation, unit)}
    return min((Fraction(amount) / getattr(generation, unit) for unit, amount in left.items()), default=Fraction(0))


def _minutes(generation: Amounts, limits: Limits) -> Fraction:
    """How long a generation has to wait for its quota; 0 without one."""
    of_calls, a_day = limits.requests_per_minute, limits.requests_per_day
    needed = (
        (generation.tokens, limits.tokens_per_minute),
        (generation.calls, of_calls),
        (generation.calls * _MINUTES_A_DAY, a_day),
    )
    return max((Fraction(taken, limit) for taken, limit in needed if limit), default=Fraction(0))
