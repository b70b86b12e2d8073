"""Texts as pieces: nothing a user writes becomes a mask."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaas_sdk.texts import MASK, LabelWords, Piece, TextSet

PIECES = st.builds(Piece, st.sampled_from(["field", "template"]), st.text()) | st.just(MASK)


@given(PIECES)
def test_wire_form_reads_back(piece: Piece) -> None:
    """A piece that has been through its wire form is equal, whatever its text says."""
    assert Piece.from_wire(piece.to_wire()) == piece


@pytest.mark.parametrize("wire", [3, None, {}, {"mask": 1}, {"template": 5}, {"mask": True, "template": "x"}, ["a"]])
def test_other_forms_are_refused(wire: object) -> None:
    """What is no piece is refused with its value."""
    with pytest.raises(ValueError, match="a piece is"):
        Piece.from_wire(wire)


def test_digest_is_of_texts_and_label_words() -> None:
    """Sets that differ in a text, in who wrote it, or in the label words have different digests."""
    words = LabelWords((" bad", " great"))
    sets = [
        TextSet(((Piece("field", "a"), MASK),), words),
        TextSet(((Piece("template", "a"), MASK),), words),
        TextSet(((Piece("field", "a"), MASK),), LabelWords((" bad", " great"), "first")),
        TextSet(((Piece("field", "a"), MASK),)),
    ]
    assert len({texts.digest for texts in sets}) == 4
