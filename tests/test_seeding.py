"""Seeded words that never change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lmaas_sdk.seeding import bit_generator, permutation, raw_words, whole_number


def test_words_have_their_golden_values() -> None:
    """The first words of a stream are those that were written down."""
    assert raw_words(42, "golden", 3).tolist() == [12797573631363193612, 10484268132062756318, 9003981729909835232]


def test_streams_and_seeds_differ() -> None:
    """Another stream name or seed gives other words."""
    streams = [raw_words(1, "a", 4), raw_words(2, "a", 4), raw_words(1, "b", 4)]
    assert len({tuple(words.tolist()) for words in streams}) == 3


def test_permutation_is_one_and_depends_on_the_seed() -> None:
    """Every index comes once, in an order of the seed's."""
    assert sorted(permutation(7, "order", 100).tolist()) == list(range(100))
    assert permutation(7, "order", 100).tolist() != permutation(8, "order", 100).tolist()


def test_a_generator_is_its_callers_own() -> None:
    """Two generators of one stream do not share their position."""
    first, second = bit_generator(3, "own"), bit_generator(3, "own")
    first.random_raw(10)
    np.testing.assert_array_equal(second.random_raw(2), raw_words(3, "own", 2))


@pytest.mark.parametrize("seed", [1.0, 1.5, float("nan"), True, np.bool_(True), "1", None, [1]], ids=repr)
def test_a_seed_that_is_no_integer_is_refused(seed: Any) -> None:
    """Nothing is rounded or read from a string: 1.5 would otherwise be the seed 1."""
    with pytest.raises(TypeError, match="seed is a whole number, not"):
        bit_generator(seed, "any")


@pytest.mark.parametrize("seed", [np.int64(42), np.uint8(42), np.array(42)])
def test_numpys_integers_are_the_seeds_that_they_equal(seed: Any) -> None:
    """A seed that comes from an array draws the same words."""
    assert raw_words(seed, "golden", 3).tolist() == raw_words(42, "golden", 3).tolist()


def test_a_seed_has_any_sign_and_size() -> None:
    """Seeds beyond 64 bits differ from what they would wrap to."""
    seeds = [5, -5, 2**64 + 5, 5 - 2**64]
    assert len({raw_words(seed, "any", 1)[0] for seed in seeds}) == 4


def test_a_whole_number_has_a_least_value() -> None:
    """The message says which number it is and how small it may be."""
    assert whole_number("rows", np.int32(3), at_least=3) == 3
    with pytest.raises(ValueError, match="rows is a whole number of at least 3, not 2"):
        whole_number("rows", 2, at_least=3)
