"""How far values of the same candidate lie apart."""

from __future__ import annotations

import numpy as np
import pytest

from lmaas_sdk.tuning.noise import Noise


def noise(*pairs: tuple[float, float]) -> Noise:
    found = Noise()
    for first, second in pairs:
        found.saw_pair(first, second)
    return found


def test_nothing_measured_nothing_known() -> None:
    """Before the first pair there is no deviation, and no noise to reckon with."""
    found = noise()
    assert (found.pairs, found.deviation, found.is_there) == (0, None, False)


def test_values_that_agree_have_no_noise() -> None:
    """Measured, and 0."""
    found = noise((0.5, 0.5), (-0.25, -0.25))
    assert (found.pairs, found.deviation, found.is_there) == (2, 0.0, False)


def test_the_variance_is_half_the_mean_square_of_the_differences() -> None:
    """Differences 3 and -4: (9 + 16) / (2 * 2), whatever the values themselves."""
    found = noise((10.0, 7.0), (-2.0, 2.0))
    assert (found.pairs, found.deviation, found.is_there) == (2, 2.5, True)


def test_the_smallest_difference_is_noise() -> None:
    """One whose square is no number any more, too."""
    found = noise((1e-300, 0.0))
    assert found.is_there
    assert found.deviation == pytest.approx(1e-300 / np.sqrt(2))


def test_the_estimate_is_near_the_truth() -> None:
    """2,000 pairs of candidates whose true values differ by far more than the noise; of 1.6 % is its own deviation."""
    normal = np.random.Generator(np.random.Philox(1))
    truth = 100 * normal.standard_normal(2000)
    values = truth[:, None] + 0.1 * normal.standard_normal((2000, 2))
    found = noise(*map(tuple, values.tolist()))
    assert found.deviation == pytest.approx(0.1, rel=0.065)  # four of its deviations
