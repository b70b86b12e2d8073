"""Who is clearly behind, by some of the rows of a small training set.

A paired test: candidates are compared text by text, as a text that is hard for one is hard for all, and within classes,
as most of what differs between candidates is how much they lean to one class. The rows come from a finite set without
replacement, so only those still out are uncertain. No bound for all distributions (Hoeffding's) would do: cross entropy
has no upper end.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["survivors"]


def survivors(
    per_text: NDArray[np.float64],
    labels: NDArray[np.int64],
    *,
    margin: float,
    alive: tuple[int, ...],
    keep: int,
    must_keep: Set[int] = frozenset(),
) -> tuple[int, ...]:
    """Who goes on: all but those that are clearly behind the `keep`-th best of the rows so far.

    Args:
        per_text: (n_candidates, n_texts) float64, smaller is better; NaN where nothing was scored.
        labels: (n_texts,) class indices.
        margin: Standard errors of the difference that a candidate may be behind.
        alive: Candidates still in the race, all scored on the same rows, of every class some.
        keep: Fewest that go on.
        must_keep: Candidates that go on however bad they are.

    Returns:
        Some of `alive`, in its order; all of them while the rows are too few to tell.
    """
    indices = np.array(alive)
    rows = np.flatnonzero(~np.isnan(per_text[indices]).any(axis=0))
    strata = _Strata.of(labels, rows)
    if len(alive) <= keep or strata.freedom < 1:
        return alive
    seen = per_text[np.ix_(indices, rows)]
    means = strata.means(seen)
    reference = int(np.argsort(means, kind="stable")[keep - 1])
    variances = strata.variances(seen - seen[reference])
    # few rows may happen to agree: no difference is taken to vary less than they usually do
    variances = np.maximum(variances, np.median(variances))
    goes_on = means - means[reference] <= margin * np.sqrt(variances * strata.error)
    return tuple(index for index, stays in zip(alive, goes_on.tolist(), strict=True) if stays or index in must_keep)


@dataclass(frozen=True, slots=True, eq=False)
class _Strata:
    """Rows of a finite set, drawn class by class (Cochran 1977, chapter 5).

    Args:
        classes: (n_rows,) index of each row's class.
        sizes: (n_classes,) rows of each class in the whole set.
        counts: (n_classes,) of them drawn.
    """

    classes: NDArray[np.int64]
    sizes: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, labels: NDArray[np.int64], rows: NDArray[np.int64]) -> _Strata:
        _, classes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        return cls(classes[rows], sizes, np.bincount(classes[rows], minlength=len(sizes)))

    @property
    def freedom(self) -> int:
        """Degrees of freedom of a variance within classes."""
        return len(self.classes) - len(self.sizes)

    @property
    def error(self) -> float:
        """The squared standard error of an estimated mean whose variance is 1: what is drawn already is certain."""
        shares = self.sizes / self.sizes.sum()
        return float((shares**2 * (1 - self.counts / self.sizes) / self.counts).sum())

    def means(self, seen: NDArray[np.float64]) -> NDArray[np.float64]:
        """Estimates over the whole set of (n, n_rows): (n,)."""
        weights = self.sizes / self.sizes.sum() / self.counts
        found: NDArray[np.float64] = (seen * weights[self.classes]).sum(axis=1)
        return found

    def variances(self, seen: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of (n, n_rows), within classes: (n,)."""
        squares = np.zeros(len(seen))
        for stratum, count in enumerate(self.counts):
            squares += seen[:, self.classes == stratum].var(axis=1) * count
        found: NDArray[np.float64] = squares / self.freedom
        return found
