"""A loss worked out from the losses of a run: Gaussian-process regression in the space that it searched.

The covariance of two points is a rational quadratic of their distance, which is a mixture of length scales (Rasmussen &
Williams 2006, eq. 4.19, alpha 1/2), and a linear and a quadratic trend. Length scale and noise are those that
predict generations best that were left out. Beyond the data the trend is what is left, and nothing lies far below the
lowest loss that was seen. Above `MOST_EXACT` points it goes by `INDUCING` of them (deterministic training conditional,
Quiñonero-Candela & Rasmussen 2005, section 5), so that a long run takes seconds.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.tuning.blas import one_blas_thread

__all__ = ["INDUCING", "MOST_EXACT", "Agreement", "FitQuality", "Points", "Surrogate", "fit_surrogate"]

MOST_EXACT, INDUCING = 2000, 1000
_TRIED = 600  # points on each side when settings are compared
_LENGTHS = (0.3, 1.0, 3.0)
_TREND = 1.0  # its weight beside that of the rational quadratic
_NOISES = (1e-3, 1e-2, 1e-1)  # parts of the covariance of a point with itself
_LEFT_OUT = 5  # one generation in so many
_EARLY = 2 / 3
_FEWEST_GENERATIONS = 6
_FEWEST_OF_A_GENERATION = 4  # a rank correlation of fewer says nothing
_JITTER = 1e-8
_HIGHEST = 50.0
_STEP = 2.0**-30  # far below what matters, far above what a sum in another order changes

_Reals = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """What a run has seen.

    Args:
        Z: (n, d) float64.
        losses: (n,) float64.
        generations: (n,) int64, rising.
    """

    Z: _Reals
    losses: _Reals
    generations: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.losses)

    def where(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Points:
        """Some of them."""
        return Points(self.Z[rows], self.losses[rows], self.generations[rows])

    def thinned(self, most: int) -> Points:
        """At most so many, evenly over the run."""
        if len(self) <= most:
            return self
        return self.where(np.arange(most, dtype=np.int64) * len(self) // most)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How predicted losses agree with those seen, of generations that the fit did not see.

    Args:
        r2: Part of their variance that is explained; below 0 it would be better to say their mean.
        rank: Their rank correlation.
        rank_within: The mean of the rank correlations within a generation, which is what a search goes by; NaN where no
            generation has enough candidates.
        error: Root of the mean squared difference.
    """

    r2: float
    rank: float
    rank_within: float
    error: float

    def __str__(self) -> str:
        return f"R2 {self.r2:.2f}, rank correlation {self.rank:.2f}, within a generation {self.rank_within:.2f}"


@dataclass(frozen=True, slots=True)
class FitQuality:
    """How good a surrogate is, told by generations that were left out of the fit.

    Args:
        between: One generation in five was left out: how well it tells what lies along the way of the run.
        beyond: The last third was left out: how well it tells where a run goes that goes on; None: too few generations.
    """

    between: Agreement
    beyond: Agreement | None

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON; what is not known is None."""
        sides = {"between": self.between, "beyond": self.beyond}
        return {name: None if side is None else _plain(side) for name, side in sides.items()}


@dataclass(frozen=True, slots=True)
class _Settings:
    """Of the covariance: length scale in typical distances between points, and noise."""

    length: float
    noise: float


@dataclass(frozen=True, slots=True, eq=False)
class _Regression:
    """A fitted mean.

    Args:
        centres: (m, d) float64, as offsets from `origin` in units of `unit`.
        weights: (m,) float64.
        origin: (d,) float64: the middle of the points.
        unit: The typical distance between two of them.
        mean: What the covariances add to.
        settings: Of the covariance.
    """

    centres: _Reals
    weights: _Reals
    origin: _Reals
    unit: float
    mean: float
    settings: _Settings

    def losses(self, Z: _Reals) -> _Reals:
        """(n,) float64 of (n, d)."""
        offsets = (Z - self.origin) / self.unit
        return self.mean + _covariances(offsets, self.centres, self.settings) @ self.weights

    def error(self, points: Points) -> float:
        """Root of the mean squared difference."""
        return float(np.sqrt(((self.losses(points.Z) - points.losses) ** 2).mean()))


@dataclass(frozen=True, slots=True, eq=False)
class Surrogate:
    """A loss for every z.

    Args:
        regression: What it goes by.
        lowest: The lowest loss that the run saw.
        noise: Standard deviation of losses about their predictions, in generations that were left out.
        depth: The same of the lower half of the predictions: how far below the lowest one something may lie.
        quality: How good it is.
    """

    regression: _Regression = field(repr=False)
    lowest: float
    noise: float
    depth: float
    quality: FitQuality

    def loss(self, z: NDArray[np.float32], *, draw: float = 0.0) -> float:
        """The loss of a candidate: a function of it alone, whatever was asked before.

        Args:
            z: (d,).
            draw: How many standard deviations of the noise to add.
        """
        with one_blas_thread():
            expected = float(self.regression.losses(z[np.newaxis, :].astype(np.float64))[0])
        return self._bounded(expected + draw * self.noise)

    def _bounded(self, loss: float) -> float:
        """Below the lowest loss seen it goes on falling, but never by more than the depth, nor to zero."""
        below = self.lowest - loss
        if below > 0:
            room = min(self.depth, self.lowest / 2)
            loss = self.lowest - (room * below / (room + below) if room > 0 else 0.0)
        return round(min(loss, _HIGHEST) / _STEP) * _STEP


def fit_surrogate(points: Points) -> Surrogate:
    """Fits, and sees how good it is; deterministic, in a few seconds for 8000 points in 500 dimensions.

    Raises:
        ValueError: There are fewer than 20 points, or all have the same loss.
    """
    if len(points) < 20 or not float(np.ptp(points.losses)) > 0:
        raise ValueError(f"a landscape needs at least 20 candidates of different losses, not {len(points)}")
    with one_blas_thread():
        left_out = _left_out(points)
        seen, unseen = _fitted(points.where(~left_out)), points.where(left_out)
        between, depth = _agreement(seen, unseen), _depth(seen, unseen)
        early = points.generations <= points.generations[0] + _EARLY * np.ptp(points.generations)
        beyond = None
        if len(np.unique(points.generations)) >= _FEWEST_GENERATIONS:
            beyond = _agreement(_fitted(points.where(early)), points.where(~early))
        whole = _fitted(points)
    return Surrogate(whole, float(points.losses.min()), between.error, depth, FitQuality(between, beyond))


def _depth(regression: _Regression, points: Points) -> float:
    predicted = regression.losses(points.Z)
    return regression.error(points.where(predicted <= np.median(predicted)))


def _left_out(points: Points) -> NDArray[np.bool_]:
    """One generation in five, or one candidate where there are not as many."""
    generations, numbers = np.unique(points.generations, return_inverse=True)
    if len(generations) < _LEFT_OUT:
        numbers = np.arange(len(points), dtype=np.int64)
    is_left_out: NDArray[np.bool_] = numbers % _LEFT_OUT == _LEFT_OUT // 2
    return is_left_out


def _fitted(points: Points) -> _Regression:
    """With the settings that predict best what they have not seen."""
    left_out = _left_out(points)
    seen, unseen = points.where(~left_out).thinned(_TRIED), points.where(left_out).thinned(_TRIED)
    tried = [_Settings(*values) for values in itertools.product(_LENGTHS, _NOISES)]
    errors = [_solved(seen, settings).error(unseen) for settings in tried]
    return _solved(points, tried[int(np.argmin(errors))])


def _solved(points: Points, settings: _Settings) -> _Regression:
    origin, mean = points.Z.mean(axis=0), float(points.losses.mean())
    unit = math.sqrt(2.0 * float(((points.Z - origin) ** 2).sum(axis=1).mean())) or 1.0
    X, y = (points.Z - origin) / unit, points.losses - mean
    if len(points) <= MOST_EXACT:
        centres = X
        K = _covariances(X, X, settings)
        weights = _solution(K + settings.noise * np.eye(len(X)), y)
    else:
        centres = Points(X, y, points.generations).thinned(INDUCING).Z
        weights = _conditional_weights(X, y, centres, settings)
    return _Regression(centres, weights, origin, unit, mean, settings)


def _conditional_weights(X: _Reals, y: _Reals, centres: _Reals, settings: _Settings) -> _Reals:
    """Of the deterministic training conditional, worked out through the factor of the centres' covariance."""
    own = _covariances(centres, centres, settings)
    factor: _Reals = np.linalg.cholesky(own + _JITTER * len(centres) * np.eye(len(centres))).astype(np.float64)
    whitened = _solution(factor, _covariances(centres, X, settings))
    inner = whitened @ whitened.T + settings.noise * np.eye(len(centres))
    return _solution(factor.T, _solution(inner, whitened @ y))


def _solution(A: _Reals, b: _Reals) -> _Reals:
    found: _Reals = np.linalg.solve(A, b).astype(np.float64)
    return found


def _covariances(X: _Reals, centres: _Reals, settings: _Settings) -> _Reals:
    """(n, m) float64."""
    products = X @ centres.T
    norms, norms_of_centres = (X**2).sum(axis=1)[:, np.newaxis], (centres**2).sum(axis=1)
    distances = np.maximum(norms + norms_of_centres - 2.0 * products, 0.0)
    trend = _TREND * (products + (norms - 0.5) * (norms_of_centres - 0.5))  # 0.5 is the mean of the norms
    covariances: _Reals = 1.0 / np.sqrt(1.0 + distances / settings.length**2) + trend
    return covariances


def _agreement(regression: _Regression, points: Points) -> Agreement:
    predicted, seen = regression.losses(points.Z), points.losses
    groups = [points.generations == generation for generation in np.unique(points.generations)]
    within = [
        _rank_correlation(predicted[rows], seen[rows]) for rows in groups if rows.sum() >= _FEWEST_OF_A_GENERATION
    ]
    variance = float(seen.var())
    error = regression.error(points)
    return Agreement(
        r2=1.0 - error**2 / variance if variance > 0 else math.nan,
        rank=_rank_correlation(predicted, seen),
        rank_within=float(np.mean(within)) if within else math.nan,
        error=error,
    )


def _rank_correlation(a: _Reals, b: _Reals) -> float:
    """Spearman's; ties are broken by place."""
    first, second = (np.argsort(np.argsort(values, kind="stable"), kind="stable") for values in (a, b))
    middle, count = (len(a) - 1) / 2, len(a)
    return float(((first - middle) * (second - middle)).sum() / (count * (count * count - 1) / 12))


def _plain(side: Agreement) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in asdict(side).items()}
