"""Label words become tokens, or are refused with what to do."""

from __future__ import annotations

from typing import Any

import pytest

from lmaas_backends.roberta.label_words import label_token_ids
from lmaas_sdk.errors import VerbalizerError
from lmaas_sdk.texts import LabelWords


def ids(reference: Any, *words: str, pieces: Any = "whole") -> tuple[tuple[int, ...], ...]:
    return label_token_ids(LabelWords(words, pieces), reference.loaded.vocabulary)


def own(reference: Any, word: str) -> tuple[int, ...]:
    return tuple(reference.tokenizer(word, add_special_tokens=False)["input_ids"])


def test_whole_words_are_the_tokenizers_own_tokens(roberta: Any) -> None:
    """One token a word, leading space included."""
    assert ids(roberta, " bad", " great") == (own(roberta, " bad"), own(roberta, " great"))


def test_a_word_of_several_tokens_is_refused_with_its_pieces_and_the_ways_out(roberta: Any) -> None:
    """The message names the word, its pieces and both alternatives."""
    with pytest.raises(
        VerbalizerError, match=r"' un.*' is \d+ tokens of this model, \[.*pieces='first'.*pieces='mean'"
    ):
        ids(roberta, " bad", " unquestionablyodd")


def test_a_missing_leading_space_is_pointed_out(roberta: Any) -> None:
    """Where the word with a space would be one token, the message says so."""
    word = next(w for w in ("enjoyable", "excellent", "terrible", "boring") if len(own(roberta, w)) > 1)
    with pytest.raises(VerbalizerError, match=rf"' {word}' is one token: was the leading space meant\?"):
        ids(roberta, " bad", word)


def test_first_takes_the_first_piece(roberta: Any) -> None:
    """`first` keeps one token of a split word."""
    assert ids(roberta, " bad", " unquestionablyodd", pieces="first")[1] == own(roberta, " unquestionablyodd")[:1]


def test_first_refuses_a_shared_piece(roberta: Any) -> None:
    """Two labels with the same first token cannot be told apart."""
    with pytest.raises(VerbalizerError, match="cannot be told apart"):
        ids(roberta, " unquestionablyodd", " unquestionablyold", pieces="first")


def test_mean_keeps_all_pieces(roberta: Any) -> None:
    """`mean` keeps every token of a split word."""
    assert ids(roberta, " bad", " unquestionablyodd", pieces="mean")[1] == own(roberta, " unquestionablyodd")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "no label words"),
        (("",), "label 0 has the empty word"),
        ((" bad", "  "), "label 1 has the empty word"),
        ((" bad", " bad"), "labels 0 and 1 have the same word"),
    ],
)
def test_unusable_words_are_refused(roberta: Any, words: tuple[str, ...], message: str) -> None:
    """Empty and repeated words are refused by label."""
    with pytest.raises(VerbalizerError, match=message):
        ids(roberta, *words)


def test_an_unknown_word_is_refused(bert: Any) -> None:
    """A word that WordPiece cannot spell is not scored as [UNK]."""
    with pytest.raises(VerbalizerError, match="'☃' is not in this model's vocabulary"):
        ids(bert, "bad", "☃")


def test_words_that_normalise_to_the_same_token_are_refused(bert: Any) -> None:
    """An uncased model cannot tell `Great` from `great`."""
    with pytest.raises(VerbalizerError, match="cannot be told apart"):
        ids(bert, "great", "Great")
