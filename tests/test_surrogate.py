"""A surrogate fitted to points: what it tells, how good it says it is, and what it never promises."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from lmaas_sdk.planning import surrogate
from lmaas_sdk.planning.surrogate import MOST_EXACT, Points, fit_surrogate

D = 8


def bowl(Z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lowest, at 0.3, where every coordinate is 2."""
    values: NDArray[np.float64] = 0.3 + ((Z - 2.0) ** 2).mean(axis=1) / 8
    return values


def points(generations: int, *, noise: float = 0.0, seed: int = 0) -> Points:
    """A search on its way from 0 to 2, twenty candidates a generation."""
    generator = np.random.default_rng(seed)
    numbers = np.repeat(np.arange(generations, dtype=np.int64), 20)
    Z = 2.0 * (numbers / generations)[:, np.newaxis] + 0.5 * generator.standard_normal((len(numbers), D))
    return Points(Z, bowl(Z) + noise * generator.standard_normal(len(numbers)), numbers)


def test_a_smooth_loss_is_told_between_generations_and_beyond_them() -> None:
    """Within a generation too, which is what a search goes by; and hardly any noise is left."""
    found = fit_surrogate(points(30))
    assert found.quality.between.r2 > 0.999
    assert found.quality.between.rank_within > 0.99
    assert found.quality.beyond is not None
    assert found.quality.beyond.rank_within > 0.9
    assert found.noise < 0.01


@pytest.mark.parametrize("noise", [0.05, 0.2])
def test_noise_is_found(noise: float) -> None:
    """The deviation of what cannot be told is that which was put in."""
    assert noise == pytest.approx(fit_surrogate(points(40, noise=noise)).noise, rel=0.2)


def test_a_loss_that_means_nothing_is_called_so() -> None:
    """Nothing is explained where there is nothing to explain."""
    flat, generator = points(30), np.random.default_rng(1)
    found = fit_surrogate(Points(flat.Z, 1.0 + generator.standard_normal(len(flat)), flat.generations))
    assert found.quality.between.r2 < 0.1
    assert abs(found.quality.between.rank_within) < 0.2


def test_a_long_run_goes_by_some_of_its_points_and_learns_from_all() -> None:
    """More points than are solved exactly, with noise that a few of them could not average out."""
    many = points(MOST_EXACT // 20 + 25, noise=0.1)
    found = fit_surrogate(many)
    assert surrogate.INDUCING == len(found.regression.centres)
    Z = points(9, seed=5).Z
    errors = [found.loss(z) - value for z, value in zip(Z.astype(np.float32), bowl(Z).tolist(), strict=True)]
    assert float(np.sqrt(np.mean(np.square(errors)))) < 0.03


def test_nothing_lies_far_below_what_was_seen() -> None:
    """In whatever direction and however far, and with whatever draw of the noise; all is finite."""
    found = fit_surrogate(points(30, noise=0.02))
    generator = np.random.default_rng(2)
    for scale in (0.1, 1.0, 10.0, 1e3, 1e6):
        for z in scale * generator.standard_normal((50, D)).astype(np.float32):
            for draw in (-4.0, 0.0, 4.0):
                loss = found.loss(z, draw=draw)
                assert np.isfinite(loss)
                assert max(found.lowest - found.depth, found.lowest / 2) <= loss


def test_it_goes_on_falling_below_the_lowest() -> None:
    """So that a search there is not on a plain: a lower draw is a lower loss."""
    found = fit_surrogate(points(30, noise=0.02))
    z = np.full(D, 2.0, np.float32)
    losses = [found.loss(z, draw=draw) for draw in (0.0, -1.0, -2.0, -4.0, -8.0)]
    assert sorted(losses, reverse=True) == losses
    assert 5 == len(set(losses))


def test_the_same_points_have_the_same_surrogate() -> None:
    """Bit for bit."""
    first, again = (fit_surrogate(points(12, noise=0.05)) for _ in range(2))
    Z = points(3, seed=4).Z.astype(np.float32)
    assert [first.loss(z) for z in Z] == [again.loss(z) for z in Z]
    assert first.quality == again.quality


def test_few_generations_are_left_out_by_candidate() -> None:
    """Of a single generation nothing lies beyond, and its quality is known all the same."""
    found = fit_surrogate(points(2))
    assert found.quality.beyond is None
    assert 0 < found.noise
    assert {"between", "beyond"} == set(found.quality.to_dict())


@pytest.mark.parametrize(("count", "losses"), [(19, 1.0), (40, 0.0)])
def test_what_is_no_landscape_is_refused(count: int, losses: float) -> None:
    """Too few candidates, or all alike."""
    few = points(2).where(np.arange(count, dtype=np.int64))
    with pytest.raises(ValueError, match="at least 20 candidates of different losses"):
        fit_surrogate(Points(few.Z, losses * few.losses, few.generations))
