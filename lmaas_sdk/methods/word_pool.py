"""Which words tell classes apart at the mask, and which of them do it best together; numbers alone, no calls.

A word speaks for a class as much as its mean logit there is above that elsewhere: a likelihood ratio (Schick et al.
2020, "Automatically Identifying Words That Can Serve as Labels", arXiv:2010.13641), since what a text's logits have in
common falls out between words. Combinations are compared by what they are for, as Gao et al. 2021 ("Making Pre-trained
Language Models Better Few-shot Learners", arXiv:2012.15723) do.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Combination", "best_together", "distinguishing", "margins", "usable_words"]

_MOST_AT_ONCE = 10_000
_ROUNDS = 20
_Logits = NDArray[np.float32]
Combination = tuple[int, ...]
"""A word for each class, by index."""


def usable_words(spelled: Iterable[str], like: str) -> list[str]:
    """Those that may be label words, in their order: whole words of letters, with a space before them or without.

    Args:
        spelled: Words as the model spells them.
        like: A label word as the model is asked for it. Where it begins with a space only words that do are whole
            ones, unless this model spells none so (WordPiece has no spaces); else only those that do not.
    """
    listed = list(dict.fromkeys(spelled))
    space = " " if like.startswith(" ") and any(word.startswith(" ") for word in listed) else ""
    return [word for word in listed if word.startswith(space) and word[len(space) :].isalpha()]


def distinguishing(
    words: Sequence[Sequence[str]], logits: _Logits, labels: NDArray[np.int64], usable: Sequence[str], most: int
) -> list[str]:
    """Of the words at the mask, `most` for each class that are likelier there than elsewhere.

    Args:
        words, logits: The likeliest of each text, (n_texts, k), largest first. One that is not among them is taken to
            be as likely as the last.
        labels: (n_texts,).
        usable: Words to choose from.
        most: For each class.
    """
    places = {word: place for place, word in enumerate(usable)}
    found = np.repeat(logits[:, -1:], len(places), axis=1)
    for row, (spelled, values) in enumerate(zip(words, logits, strict=True)):
        for word, value in zip(spelled, values, strict=True):
            if word in places:
                found[row, places[word]] = value
    best = np.argsort(-margins(found, labels), axis=1, kind="stable")[:, :most]
    return [usable[place] for place in dict.fromkeys(best.ravel().tolist())]


def margins(logits: _Logits, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """How far each word's mean logit over the texts of a class is above that over the others.

    Args:
        logits: (n_texts, n_words).
        labels: (n_texts,); each class has texts.

    Returns:
        (n_classes, n_words) float64.
    """
    exact = logits.astype(np.float64)
    of_class = [labels == label for label in range(int(labels.max()) + 1)]
    return np.stack([exact[own].mean(axis=0) - exact[~own].mean(axis=0) for own in of_class])


def best_together(
    logits: _Logits, labels: NDArray[np.int64], candidates: Sequence[Sequence[int]], most: int
) -> list[tuple[Combination, float]]:
    """Combinations of one word a class with the lowest cross entropy, and that; the lowest first.

    All are looked at where these are few; else, from the first candidate of each class, one class's word is exchanged
    at a time for the best, until none gets better.

    Args:
        logits: (n_texts, n_words).
        labels: (n_texts,).
        candidates: For each class: indices of words.
        most: How many to give.
    """
    if math.prod(map(len, candidates)) <= _MOST_AT_ONCE:
        tried = _scored(logits, labels, itertools.product(*candidates))
    else:
        tried = dict(itertools.chain.from_iterable(_exchanged(logits, labels, candidates)))
    return sorted(tried.items(), key=lambda item: item[1])[:most]


def _exchanged(
    logits: _Logits, labels: NDArray[np.int64], candidates: Sequence[Sequence[int]]
) -> Iterator[Iterable[tuple[Combination, float]]]:
    now = _first_distinct(candidates)
    for _ in range(_ROUNDS):
        before = now
        for place, words in enumerate(candidates):
            tried = _scored(logits, labels, ((*now[:place], word, *now[place + 1 :]) for word in (now[place], *words)))
            now = min(tried, key=lambda combination: tried[combination])
            yield tried.items()
        if now == before:
            return


def _first_distinct(candidates: Sequence[Sequence[int]]) -> Combination:
    taken: list[int] = []
    for words in candidates:
        taken.append(next(word for word in words if word not in taken))
    return tuple(taken)


def _scored(
    logits: _Logits, labels: NDArray[np.int64], combinations: Iterable[Combination]
) -> dict[Combination, float]:
    """The cross entropy of each combination in which no two classes share a word."""
    listed = list(dict.fromkeys(one for one in combinations if len(set(one)) == len(one)))
    chosen = logits.astype(np.float64)[:, np.array(listed, dtype=np.int64)]
    top = chosen.max(axis=2)
    sums = top + np.log(np.exp(chosen - top[:, :, None]).sum(axis=2))
    right = chosen[np.arange(len(labels)), :, labels]
    return dict(zip(listed, (sums - right).mean(axis=0).tolist(), strict=True))
