"""The mock's tokenizer, and what its landscape sees of a text."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lmaas_sdk.errors import InvalidQuery
from lmaas_sdk.texts import LabelWords, Text

__all__ = ["N_FEATURES", "SPECIAL_TOKENS", "Encoded", "encode", "label_pieces", "place", "words_of"]

N_FEATURES = 64
SPECIAL_TOKENS = 2  # one before the text, one after it
_WORD = re.compile(r"\w+|[^\w\s]")
_LONGEST_WEIGHT = 8


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """A text set as the mock computes with it.

    Args:
        counts: (n_texts, N_FEATURES) float64, whole numbers: the hashed bag of words.
        norm: (n_texts,) float64, at least 1: what the counts are divided by.
        token_counts: (n_texts,) int64: positions of each text, prompt included.
        words: The user's words of each text that fit into the model, lower-cased.
        shortened: How many texts lost words.
    """

    counts: NDArray[np.float64]
    norm: NDArray[np.float64]
    token_counts: NDArray[np.int64]
    words: tuple[tuple[str, ...], ...]
    shortened: int


def words_of(text: str) -> list[str]:
    """The tokens of a stretch of text: words and single signs. `<mask>` is three of them."""
    return _WORD.findall(text)


def encode(texts: tuple[Text, ...], *, prompt_tokens: int, max_tokens: int) -> Encoded:
    """Tokenizes texts; one that is too long loses words of its longest field, from the end.

    Raises:
        InvalidQuery: Prompt, template and mask alone do not fit into `max_tokens`.
    """
    counts = np.zeros((len(texts), N_FEATURES))
    norm = np.ones(len(texts))
    token_counts = np.empty(len(texts), dtype=np.int64)
    kept, shortened = [], 0
    for row, text in enumerate(texts):
        fields = [words_of(piece.text) for piece in text if piece.kind == "field"]
        fixed = prompt_tokens + SPECIAL_TOKENS + _template_tokens(text)
        shortened += _shorten(fields, max_tokens - fixed, row=row, max_tokens=max_tokens)
        words = tuple(word.lower() for field in fields for word in field)
        norm[row] = _add_features(counts[row], words)
        token_counts[row] = fixed + len(words)
        kept.append(words)
    return Encoded(counts, norm, token_counts, tuple(kept), shortened)


def label_pieces(labels: LabelWords) -> tuple[tuple[str, ...], ...]:
    """The tokens that stand for each label, as `labels.pieces` says.

    Raises:
        InvalidQuery: There is no label, a word is empty or of several tokens, or two labels share their first token.
    """
    if not labels.words:
        raise InvalidQuery("a query needs at least one label word")
    pieces = [tuple(word.lower() for word in words_of(word)) for word in labels.words]
    for word, tokens in zip(labels.words, pieces, strict=True):
        if not tokens:
            raise InvalidQuery(f"the label word {word!r} has no token: give a word")
        if len(tokens) > 1 and labels.pieces == "whole":
            raise InvalidQuery(
                f"the label word {word!r} is {len(tokens)} tokens: choose another, or pieces 'first' or 'mean'"
            )
    if labels.pieces == "first":
        pieces = [tokens[:1] for tokens in pieces]
    if len(set(pieces)) < len(pieces):
        raise InvalidQuery(f"two labels share their tokens, so they cannot be told apart: {labels.words}")
    return tuple(pieces)


def _template_tokens(text: Text) -> int:
    return sum(1 if piece.kind == "mask" else len(words_of(piece.text)) for piece in text if piece.kind != "field")


def _shorten(fields: list[list[str]], room: int, *, row: int, max_tokens: int) -> bool:
    """Cuts `fields` in place until they fit into `room`; says whether it had to."""
    if room < 0:
        raise InvalidQuery(
            f"prompt, template and mask of text {row} take {max_tokens - room} tokens and the model {max_tokens}: "
            "use fewer prompt tokens or a shorter template"
        )
    excess = sum(map(len, fields)) - room
    for _ in range(excess):
        max(fields, key=len).pop()
    return excess > 0


def _add_features(counts: NDArray[np.float64], words: tuple[str, ...]) -> float:
    """Adds the words to one row of counts; returns the norm of their weights, at least 1.

    Long words weigh more: they tell more of what a text is about than `the` and `of`.
    """
    weights = 0
    for word in words:
        bucket, sign = place(word)
        weight = min(len(word), _LONGEST_WEIGHT)
        counts[bucket] += sign * weight
        weights += weight * weight
    return float(np.sqrt(max(weights, 1)))


@lru_cache(maxsize=1 << 16)
def place(word: str) -> tuple[int, int]:
    """A word's feature and its sign, by a hash that is the same in every process."""
    code = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return code[0] % N_FEATURES, 1 if code[1] & 1 else -1
