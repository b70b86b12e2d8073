"""From the words that stand for labels to rows of the language-model head."""

from __future__ import annotations

from collections.abc import Sequence

from lmaas_backends.roberta.vocabulary import Vocabulary
from lmaas_sdk.errors import VerbalizerError
from lmaas_sdk.texts import LabelWords

__all__ = ["label_token_ids"]


def label_token_ids(words: LabelWords, vocabulary: Vocabulary) -> tuple[tuple[int, ...], ...]:
    """The token ids of each label's word, by class index: one id a label, or all its pieces with `mean`.

    Raises:
        VerbalizerError: A word is empty, given twice, unknown to the vocabulary, of several tokens (`whole`), or shares
            its first token with another (`first`).
    """
    _check_words(words.words)
    ids = [_token_ids(word, vocabulary) for word in words.words]
    if words.pieces == "whole":
        for word, pieces in zip(words.words, ids, strict=True):
            _check_whole(word, pieces, vocabulary)
    if words.pieces == "first":
        ids = [pieces[:1] for pieces in ids]
    _check_distinct(words, ids, vocabulary)
    return tuple(ids)


def _check_words(words: Sequence[str]) -> None:
    if not words:
        raise VerbalizerError("no label words: give one word a label, such as (' bad', ' great')")
    for label, word in enumerate(words):
        if not word.strip():
            raise VerbalizerError(f"label {label} has the empty word {word!r}: give it a word, such as ' great'")
        if words.index(word) != label:
            raise VerbalizerError(f"labels {words.index(word)} and {label} have the same word {word!r}")


def _token_ids(word: str, vocabulary: Vocabulary) -> tuple[int, ...]:
    ids = tuple(vocabulary.encode([word])[0].ids)
    if not ids or vocabulary.unk_id in ids:
        raise VerbalizerError(f"the label word {word!r} is not in this model's vocabulary: choose another word")
    return ids


def _check_whole(word: str, ids: tuple[int, ...], vocabulary: Vocabulary) -> None:
    if len(ids) == 1:
        return
    pieces = [vocabulary.word(token_id) for token_id in ids]
    other = word[1:] if word.startswith(" ") else f" {word}"
    hint = ""
    if len(vocabulary.encode([other])[0].ids) == 1:
        hint = f" {other!r} is one token: was the leading space {'meant' if other.startswith(' ') else 'not meant'}?"
    raise VerbalizerError(
        f"the label word {word!r} is {len(ids)} tokens of this model, {pieces}, not one.{hint} Choose another word, or "
        "pieces='first' (its first token) or pieces='mean' (the mean logit of its tokens)"
    )


def _check_distinct(words: LabelWords, ids: Sequence[tuple[int, ...]], vocabulary: Vocabulary) -> None:
    for label, pieces in enumerate(ids):
        other = ids.index(pieces)
        if other != label:
            raise VerbalizerError(
                f"the label words {words.words[other]!r} and {words.words[label]!r} both become "
                f"{[vocabulary.word(token_id) for token_id in pieces]} with pieces={words.pieces!r}, so the labels "
                "cannot be told apart: change one of them"
            )
