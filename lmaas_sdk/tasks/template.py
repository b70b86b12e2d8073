"""Templates: how a user's text becomes a cloze question with one mask."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lmaas_sdk.errors import TaskError
from lmaas_sdk.texts import MASK, Piece, Text

__all__ = ["Fields", "Template", "holds_half_a_pair"]

Fields = Mapping[str, str] | Sequence[str] | str
"""What fills a template: values by field name, values in the template's order, or the one value of a single field."""

_TOKEN = re.compile(r"(?P<mask><mask>)|(?P<brace>\{\{|\}\})|\{(?P<field>[^{}]*)\}|(?P<stray>[{}])")
_SURROGATE = re.compile("[\ud800-\udfff]")


def holds_half_a_pair(text: str) -> bool:
    """Whether half of a surrogate pair stands in a text: no encoding, and so no tokenizer, has a form for it."""
    return _SURROGATE.search(text) is not None


@dataclass(frozen=True, slots=True)
class Template:
    """Text with named fields and one mask: `Template("{S} . It was <mask> .")`.

    `{name}` is a field, `<mask>` the mask whatever the model's own mask is called, `{{` and `}}` are literal braces.
    Only the template is read this way: the same signs inside a field's value are plain text.

    Args:
        text: The template as written.

    Attributes:
        fields: Names of the fields, in the order they first appear.

    Raises:
        TaskError: There is no field, not exactly one mask, a field without a proper name, or a lone brace.
    """

    text: str
    fields: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _parts: tuple[Piece, ...] = field(init=False, repr=False, compare=False)  # a field piece holds its name here

    def __post_init__(self) -> None:
        parts = tuple(_merge_template_text(_parse(self.text)))
        _check(self.text, parts)
        names = dict.fromkeys(part.text for part in parts if part.kind == "field")
        object.__setattr__(self, "fields", tuple(names))
        object.__setattr__(self, "_parts", parts)

    def __str__(self) -> str:
        return self.text

    def render(self, fields: Fields) -> Text:
        """The text with its fields filled in; every value stays a piece of its own.

        Raises:
            TaskError: A field is missing, unknown or not a string.
        """
        values = dict(zip(self.fields, self.arrange(fields), strict=True))
        return tuple(Piece("field", values[part.text]) if part.kind == "field" else part for part in self._parts)

    def arrange(self, fields: Fields) -> tuple[str, ...]:
        """The values of the fields in the order of `Template.fields`.

        Raises:
            TaskError: A field is missing, unknown or not a string.
        """
        if isinstance(fields, str):
            values: tuple[object, ...] = (fields,)
        elif isinstance(fields, Mapping):
            values = self._by_name(fields)
        elif isinstance(fields, Sequence):
            values = tuple(fields)
        else:
            raise TaskError(f"the fields of {self.text!r} are a string, a sequence or a mapping, not {fields!r:.80}")
        if len(values) != len(self.fields):
            raise TaskError(f"{self.text!r} has the fields {_listed(self.fields)}: {len(values)} given: {values!r:.80}")
        for name, value in zip(self.fields, values, strict=True):
            if not isinstance(value, str):
                raise TaskError(f"field {name!r} of {self.text!r} is a string, not {value!r:.80}: convert it first")
            if holds_half_a_pair(value):
                raise TaskError(f"field {name!r} holds half a surrogate pair: {value!r:.80}; no tokenizer takes that")
        return values  # type: ignore[return-value]  # the loop above proved it

    def _by_name(self, fields: Mapping[str, str]) -> tuple[object, ...]:
        if missing := [name for name in self.fields if name not in fields]:
            raise TaskError(f"{self.text!r} needs {_listed(missing)}: the fields given are {_listed(fields)}")
        if unknown := [name for name in fields if name not in self.fields]:
            raise TaskError(f"{self.text!r} has no field {_listed(unknown)}: its fields are {_listed(self.fields)}")
        return tuple(fields[name] for name in self.fields)


def _parse(text: str) -> Iterator[Piece]:
    if not isinstance(text, str):
        raise TaskError(f"a template is a string such as '{{text}} It was <mask> .', not {text!r:.80}")
    start = 0
    for token in _TOKEN.finditer(text):
        yield Piece("template", text[start : token.start()])
        yield _piece(text, token)
        start = token.end()
    yield Piece("template", text[start:])


def _piece(text: str, token: re.Match[str]) -> Piece:
    if token["mask"]:
        return MASK
    if token["brace"]:
        return Piece("template", token["brace"][0])
    if token["stray"]:
        raise TaskError(
            f"lone {token['stray']!r} at position {token.start()} of {text!r}: write it twice to mean itself"
        )
    if not token["field"].isidentifier():
        raise TaskError(
            f"{token[0]!r} in {text!r} names no field: write a name of letters, digits and _ such as {{text}}, "
            "or {{ and }} to mean braces"
        )
    return Piece("field", token["field"])


def _merge_template_text(parts: Iterator[Piece]) -> Iterator[Piece]:
    """Joins neighbouring stretches of template text, so that equal texts have equal pieces."""
    pending = ""
    for part in parts:
        if part.kind == "template":
            pending += part.text
            continue
        if pending:
            yield Piece("template", pending)
        pending = ""
        yield part
    if pending:
        yield Piece("template", pending)


def _check(text: str, parts: tuple[Piece, ...]) -> None:
    masks = parts.count(MASK)
    if masks != 1:
        raise TaskError(f"a template has exactly one <mask>, {text!r} has {masks}: put it where the label word belongs")
    if not any(part.kind == "field" for part in parts):
        raise TaskError(f"{text!r} has no field: put one such as {{text}} where the user's text belongs")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names) or "none"
