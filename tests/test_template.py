"""Tests of lmaas_sdk.tasks.template."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmaas_sdk.errors import TaskError
from lmaas_sdk.tasks import Template
from lmaas_sdk.texts import MASK, Piece

PAIR = Template("{S1} ? <mask> , {S2}")
PLAIN_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def field(text: str) -> Piece:
    return Piece("field", text)


def template(text: str) -> Piece:
    return Piece("template", text)


def test_a_rendered_text_keeps_field_template_and_mask_apart() -> None:
    """Every part of the template becomes one piece, spaces included."""
    expected = (field("so good"), template(" . It was "), MASK, template(" ."))

    assert expected == Template("{S} . It was <mask> .").render("so good")


def test_a_mask_may_open_the_text() -> None:
    """A template that begins with the mask has no empty piece before it."""
    assert (MASK, template(" News: "), field("Rain")) == Template("<mask> News: {S}").render("Rain")


def test_fields_are_listed_in_the_order_they_first_appear() -> None:
    """A field used twice is one field, and both places get its value."""
    twice = Template("{b} {a} <mask> {b}")

    assert ("b", "a") == twice.fields
    assert (field("x"), template(" "), field("y"), template(" "), MASK, template(" "), field("x")) == twice.render(
        ["x", "y"]
    )


@pytest.mark.parametrize("fields", [("one", "two"), ["one", "two"], {"S2": "two", "S1": "one"}])
def test_fields_come_by_order_or_by_name(fields: object) -> None:
    """A tuple, a list and a mapping in any order fill the same fields."""
    assert (field("one"), template(" ? "), MASK, template(" , "), field("two")) == PAIR.render(fields)  # type: ignore[arg-type]


def test_doubled_braces_are_literal() -> None:
    """`{{` and `}}` stand for one brace each, also around a field."""
    braced = Template("{{S}} {{{S}}} <mask>")

    assert (template("{S} {"), field("x"), template("} "), MASK) == braced.render("x")


@pytest.mark.parametrize("text", ["<mask>", "</s>", "{S}", "{{", "}", "<s> {S2} <mask> </s>", ""])
def test_signs_in_a_users_text_are_plain_text(text: str) -> None:
    """Whatever a user writes stays one field piece with the same characters."""
    assert (field(text), template(" "), MASK) == Template("{S} <mask>").render(text)


@settings(deadline=None, derandomize=True)
@given(st.lists(PLAIN_TEXT.filter(lambda text: "<mask>" not in text), min_size=3, max_size=3), PLAIN_TEXT)
def test_any_text_can_be_written_as_a_template(around: list[str], value: str) -> None:
    """Braces doubled, any surroundings render to themselves with the value and the mask in place."""
    before, between, after = around
    written = [text.replace("{", "{{").replace("}", "}}") for text in (before, between, after)]

    rendered = Template(f"{written[0]}{{S}}{written[1]}<mask>{written[2]}").render(value)

    spoken = "".join("<mask>" if piece == MASK else piece.text for piece in rendered)
    assert before + value + between + "<mask>" + after == spoken
    assert [field(value)] == [piece for piece in rendered if piece.kind == "field"]
    assert 1 == rendered.count(MASK)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{S} was good", "exactly one <mask>.*has 0"),
        ("{S} <mask> <mask>", "exactly one <mask>.*has 2"),
        ("It was <mask> .", "no field"),
        ("{{S}} <mask>", "no field"),
        ("{} <mask>", "names no field"),
        ("{S!r} <mask>", "names no field"),
        ("{two words} <mask>", "names no field"),
        ("{S <mask>", "lone '{' at position 0"),
        ("S} {S} <mask>", "lone '}' at position 1"),
        ("", "exactly one <mask>"),
        (None, "a template is a string"),
    ],
)
def test_an_unusable_template_is_refused(text: str, complaint: str) -> None:
    """The message says what is wrong with the template."""
    with pytest.raises(TaskError, match=complaint):
        Template(text)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ("one", "1 given"),
        (("one", "two", "three"), "3 given"),
        ({"S1": "one"}, "needs 'S2'.*given are 'S1'"),
        ({"S1": "one", "S2": "two", "S3": "three"}, "no field 'S3'.*'S1', 'S2'"),
        (("one", None), "field 'S2'.*not None"),
        (("one", 2), "field 'S2'.*not 2"),
        (("one", "\ud83d"), "half a surrogate pair"),
        (7, "a string, a sequence or a mapping, not 7"),
    ],
)
def test_unusable_fields_are_refused(fields: object, complaint: str) -> None:
    """The message names the field that is missing, unknown or no text."""
    with pytest.raises(TaskError, match=complaint):
        PAIR.render(fields)  # type: ignore[arg-type]


def test_a_template_is_a_value() -> None:
    """Equal text makes equal templates, which print as written."""
    assert Template("{S} <mask>") == Template("{S} <mask>")
    assert hash(Template("{S} <mask>")) == hash(Template("{S} <mask>"))
    assert Template("{S} <mask>") != Template("{S}  <mask>")
    assert "{S} <mask>" == str(Template("{S} <mask>"))
    assert "Template(text='{S} <mask>')" == repr(Template("{S} <mask>"))
