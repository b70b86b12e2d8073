"""Tests of lmaas_sdk.tasks.verbalizer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lmaas_sdk.errors import VerbalizerError
from lmaas_sdk.tasks import Verbalizer
from lmaas_sdk.tasks.verbalizer import words_by_class
from lmaas_sdk.texts import LabelWords


def test_words_get_a_leading_space() -> None:
    """By default a word is the one inside a sentence."""
    assert LabelWords((" bad", " great"), "whole") == Verbalizer(["bad", "great"]).label_words


def test_words_may_stand_as_written() -> None:
    """Without leading_space every word says for itself whether it has one."""
    assert LabelWords(("bad", " great"), "first") == Verbalizer(["bad", " great"], False, "first").label_words


def test_a_mapping_gives_the_words_in_its_order() -> None:
    """The labels of a mapping are in the order of the classes."""
    assert ("bad", "great") == Verbalizer({"negative": "bad", "positive": "great"}).words


@pytest.mark.parametrize("verbalizer", [Verbalizer(["a", "b"]), Verbalizer([" a", "b", "c"], False, "mean")])
def test_the_wire_form_reads_back(verbalizer: Verbalizer) -> None:
    """A verbalizer goes through JSON and comes back equal."""
    assert verbalizer == Verbalizer.from_wire(json.loads(json.dumps(verbalizer.to_wire())))


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["bad", ""], "label 1 has no word"),
        (["bad", "  "], "label 1 has no word"),
        ({"negative": "bad", "positive": None}, "label 'positive' has no word"),
        (["bad", "bad"], "labels 0 and 1 share the word 'bad'"),
        (["bad", " great"], "stray spaces: write 'great'"),
        (["bad", "great "], "stray spaces"),
        (["bad"], "at least two words"),
        ("bad", "not the single string 'bad'"),
        (b"bad", "not the single string b'bad'"),
        ({"bad", "great"}, "not {.*} of set"),
        (frozenset({"bad", "great"}), "of frozenset"),
        ({"negative": "bad", "positive": "great"}.values(), "of dict_values"),
        (None, "not None of NoneType"),
        (2, "not 2 of int"),
    ],
)
def test_unusable_words_are_refused(words: Any, complaint: str) -> None:
    """The message names the label and the word."""
    with pytest.raises(VerbalizerError, match=complaint):
        Verbalizer(words)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"pieces": "last"}, "one of whole, first, mean, not 'last'"),
        ({"leading_space": "no"}, "True or False, not 'no'"),
    ],
)
def test_unknown_options_are_refused(options: Any, complaint: str) -> None:
    """The message lists what an option may be."""
    with pytest.raises(VerbalizerError, match=complaint):
        Verbalizer(["bad", "great"], **options)


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"words": ["a", "b"]},
        Verbalizer(["a", "b"]).to_wire() | {"extra": 1},
        {"words": "ab", "pieces": "whole"},
    ],
)
def test_another_wire_form_is_refused(value: object) -> None:
    """Missing, further and mistyped keys are errors."""
    with pytest.raises(VerbalizerError, match="words, leading_space and pieces"):
        Verbalizer.from_wire(value)


@pytest.mark.parametrize("words", [["bad", "great"], {"positive": "great", "negative": "bad"}])
def test_words_are_put_in_the_order_of_the_classes(words: Any) -> None:
    """A mapping in any order gives each class its own word."""
    expected = [("negative", "bad"), ("positive", "great")]

    assert expected == list(words_by_class(["negative", "positive"], words).items())


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["bad"], "no word for 'positive'"),
        ({"positive": "great"}, "no word for 'negative'"),
        ({"positive": "great", "negative": "bad", "neutral": "fine"}, r"unknown labels \['neutral'\]"),
        (["bad", "great", "fine"], "3 words .* for 2 labels"),
        ("ab", "not the single string"),
        ({"bad", "great"}, "of set"),
        (None, "not None"),
    ],
)
def test_words_that_do_not_fit_the_labels_are_refused(words: Any, complaint: str) -> None:
    """The message names the label without a word, or the word without a label."""
    with pytest.raises(VerbalizerError, match=complaint):
        words_by_class(["negative", "positive"], words)
