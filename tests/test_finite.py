"""What may be computed with."""

from __future__ import annotations

import numpy as np
import pytest

from lmaas_sdk.finite import all_finite


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_value_is_enough(dtype: str, bad: float) -> None:
    """Wherever it stands, in an array of any shape and layout."""
    values = np.ones((3, 4, 5), dtype)
    assert all_finite(values)
    for at in ((0, 0, 0), (1, 2, 3), (2, 3, 4)):
        wrong = values.copy()
        wrong[at] = bad
        assert (False, False) == (all_finite(wrong), all_finite(wrong.transpose(2, 0, 1)[::-1]))


def test_the_largest_numbers_and_nothing_at_all_are_finite() -> None:
    """Their sum would overflow, which says nothing about them."""
    largest = np.finfo(np.float32).max
    assert all_finite(np.full(4, largest, np.float32))
    assert all_finite(np.zeros((0, 3), np.float32))
    assert all_finite(np.arange(4))
