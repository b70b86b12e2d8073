"""Secrets are taken out of texts, however they are spelled there."""

from __future__ import annotations

import html
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmaas_backends.masking import masking

SECRET = "k-1/\"'\\\\<%&x"
SPELLED = {
    "plain": SECRET,
    "JSON": json.dumps(SECRET)[1:-1],
    "JSON in JSON": json.dumps(json.dumps(SECRET))[3:-3],
    "JSON with slashes": json.dumps(SECRET)[1:-1].replace("/", "\\/"),
    "escaped JSON": "".join(f"\\u{ord(character):04X}" for character in SECRET),
    "Python": repr(SECRET)[1:-1],
    "Python's bytes": repr(SECRET.encode())[2:-1],
    "Python in Python": repr(repr(SECRET))[3:-3],
    "URL": quote(SECRET, safe=""),
    "path": quote(SECRET),
    "HTML": html.escape(SECRET),
    "numbers in HTML": "".join(f"&#{ord(character)};" for character in SECRET),
}


@pytest.mark.parametrize("spelled", SPELLED.values(), ids=SPELLED)
def test_a_secret_is_masked_in_any_spelling(spelled: str) -> None:
    """And nothing else of the text is."""
    assert "Bearer ***, k-1" == masking(SECRET)(f"Bearer {spelled}, k-1")


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"]), min_size=1))
def test_any_secret_is_masked(secret: str) -> None:
    """Whatever printable characters it is of; JSON and URLs spell it in their own ways."""
    # Between them stands what no secret here has, or the frame itself might be one.
    spelled = (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], quote(secret, safe=""))
    assert "***\n***\n***" == masking(secret)("\n".join(spelled))


def test_several_secrets_are_masked_the_longest_first() -> None:
    """One may be the beginning of another; none are no secrets."""
    assert "***, ***, b" == masking("a", "ab", None, "")("ab, a, b")
    assert "a" == masking(None)("a")


def test_an_answer_of_backslashes_is_soon_searched() -> None:
    """The search tries no way twice."""
    text = "\\" * 200_000
    assert text == masking('"secret"')(text)
