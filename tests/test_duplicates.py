"""Candidates that are equal in the bits that are sent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lmaas_sdk.tuning.duplicates import Duplicates, Twins
from lmaas_sdk.tuning.told import Told


def candidates(*values: float) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Of one number each."""
    return np.array(values, np.float32)[:, None]


def learnt(values: Sequence[float], told: Told, *, deterministic: bool = True) -> Duplicates:
    """What is remembered of a generation."""
    duplicates = Duplicates(deterministic=deterministic)
    duplicates.learn(candidates(*values), told)
    return duplicates


def test_equal_candidates_of_a_generation_are_sent_once() -> None:
    """The first of them is sent, the others are its twins."""
    asked, twins = Duplicates(deterministic=True).apart(candidates(1, 2, 1, 1, 3), 5)
    assert ([0, 1, 4], Twins({}, {2: 0, 3: 0})) == (asked, twins)


def test_what_was_scored_before_is_known() -> None:
    """Its loss comes from the earlier generation, the values made up for others do not."""
    told = Told({0: 0.5, 1: 0.7, 2: 0.9}, {1: "imputed", 2: "dropped"})
    asked, twins = learnt([1, 2, 3], told).apart(candidates(3, 1, 2, 1), 5)
    assert ([0, 2], Twins({1: 0.5, 3: 0.5}, {})) == (asked, twins)


def test_only_equal_bits_are_equal() -> None:
    """Zeros of two signs are different bits to send; a difference that float32 does not hold is none."""
    asked, _ = Duplicates(deterministic=True).apart(candidates(0.0, -0.0), 2)
    assert [0, 1] == asked
    close = np.array([[1.0], [1.0 + 1e-12]]).astype(np.float32)
    assert [0] == Duplicates(deterministic=True).apart(close, 2)[0]


def test_nothing_is_remembered_of_a_backend_that_does_not_repeat_itself() -> None:
    """It tells something new each time."""
    duplicates = learnt([1, 2], Told({0: 0.5, 1: 0.7}), deterministic=False)
    assert ([0, 1, 2], Twins()) == duplicates.apart(candidates(1, 1, 2), 5)
