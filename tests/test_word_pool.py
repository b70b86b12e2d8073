"""Which words tell classes apart, by numbers alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lmaas_sdk.methods.word_pool import best_together, distinguishing, margins, usable_words
from lmaas_sdk.tuning.objective import cross_entropy

LABELS = np.array([0, 1, 0, 1, 2, 2], dtype=np.int64)


def random_logits(words: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(len(LABELS), words)).astype(np.float32)


@pytest.mark.parametrize(
    ("spelled", "like", "usable"),
    [
        ([" good", "good", " go od", " 3", "<mask>", " good", " Bad"], " great", [" good", " Bad"]),
        (["good", "##ly", "[UNK]", "bad", "3"], " great", ["good", "bad"]),  # WordPiece spells no spaces
        ([" good", "good", "."], "great", ["good"]),
        ([], " great", []),
    ],
)
def test_label_words_are_whole_words_of_letters(spelled: list[str], like: str, usable: list[str]) -> None:
    """As the task asks for its own, each once, in their order."""
    assert usable_words(spelled, like) == usable


def test_margins_are_means_within_less_means_without() -> None:
    """Of each class and word."""
    logits = random_logits(4)
    found = margins(logits, LABELS)
    assert found.shape == (3, 4)
    expected = logits[4:, 2].astype(np.float64).mean() - logits[:4, 2].astype(np.float64).mean()
    assert found[2, 2] == pytest.approx(expected)


def test_words_of_a_class_are_those_that_are_likelier_there() -> None:
    """A word that is not told of a text is taken to be as likely as the last that is."""
    words = [(" good", " the"), (" bad", " the"), (" good", " the"), (" the", " bad")]
    logits = np.array([[5, 4], [7, 4], [6, 4], [4, 2]], dtype=np.float32)
    labels = np.array([1, 0, 1, 0], dtype=np.int64)
    assert distinguishing(words, logits, labels, [" good", " the", " bad"], 1) == [" bad", " good"]
    assert distinguishing(words, logits, labels, [], 1) == []


def test_few_combinations_are_all_compared() -> None:
    """By cross entropy, the lowest first, and no word stands for two classes."""
    logits = random_logits(5)
    found = best_together(logits, LABELS, [range(5)] * 3, 100)
    expected = {words: cross_entropy(logits[:, list(words)], LABELS) for words in itertools.permutations(range(5), 3)}
    assert dict(found) == pytest.approx(expected)
    assert [loss for _, loss in found] == sorted(loss for _, loss in found)


def test_of_many_combinations_one_word_is_exchanged_at_a_time() -> None:
    """Until no exchange is better: what is found is no worse than any that differs from it by one word."""
    logits = random_logits(60)
    (best, loss), *_ = best_together(logits, LABELS, [range(60)] * 3, 5)
    assert loss == pytest.approx(cross_entropy(logits[:, list(best)], LABELS))
    for place, word in itertools.product(range(3), range(60)):
        other = [*best[:place], word, *best[place + 1 :]]
        if len(set(other)) == 3:
            assert cross_entropy(logits[:, other], LABELS) >= loss - 1e-9


def test_more_classes_than_a_product_can_hold_are_searched() -> None:
    """Each gets a word of its own, the first of all taken by one."""
    labels = np.arange(14, dtype=np.int64)
    logits = np.eye(14, 20, dtype=np.float32) * 9
    (best, _), *_ = best_together(logits, labels, [range(20)] * 14, 1)
    assert best == tuple(range(14))
