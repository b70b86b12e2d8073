"""Seeded words that never change."""

from __future__ import annotations

import numpy as np

from lmaas_sdk.seeding import bit_generator, permutation, raw_words


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
