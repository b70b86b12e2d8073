"""What is sent to a backend: texts made of pieces, and the words a label may be.

A text is not one string: the user's words, the template around them and the mask are kept apart until the server turns
them into tokens. So `<mask>` or `</s>` inside a user's words is plain text, and a text that is too long loses only
words of the user's, never template or mask.
"""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from lmaas_sdk.canonical import digest

__all__ = ["MASK", "LabelWords", "Piece", "Text", "TextSet"]

PieceKind = Literal["field", "template", "mask"]
PieceRule = Literal["whole", "first", "mean"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a text: the user's words (`field`, may be shortened), `template` (kept whole) or the `mask`."""

    kind: PieceKind
    text: str = ""

    def to_wire(self) -> object:
        """A bare string is a field; template and mask are objects, so no user text can pretend to be one."""
        if self.kind == "field":
            return self.text
        return {"mask": True} if self.kind == "mask" else {"template": self.text}

    @classmethod
    def from_wire(cls, value: object) -> Piece:
        """Reads what `to_wire` wrote.

        Raises:
            ValueError: `value` is neither a string, `{"template": string}` nor `{"mask": true}`.
        """
        match value:
            case str():
                return cls("field", value)
            case {"template": str(text), **rest} if not rest:
                return cls("template", text)
            case {"mask": True, **rest} if not rest:
                return MASK
        # `repr` itself goes as deep as the value does, and may fail
        raise ValueError(f"a piece is a string, {{'template': string}} or {{'mask': true}}, not {reprlib.repr(value)}")


MASK = Piece("mask")
Text = tuple[Piece, ...]
"""A text for a model: its pieces, in order."""


@dataclass(frozen=True, slots=True)
class LabelWords:
    """The word at the mask that stands for each label, by class index.

    Args:
        words: One word a label, with its leading space where it has one (`" great"`).
        pieces: What to do with a word of several tokens: `whole` refuses it, `first` takes its first token (refused
            when two labels then share it), `mean` averages the logits of all its tokens.
    """

    words: tuple[str, ...]
    pieces: PieceRule = "whole"

    def to_wire(self) -> dict[str, object]:
        return {"words": list(self.words), "pieces": self.pieces}


@dataclass(frozen=True)
class TextSet:
    """Texts with the label words they are scored on: what a server registers once, under its content digest."""

    texts: tuple[Text, ...]
    label_words: LabelWords | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def to_wire(self) -> dict[str, object]:
        words = None if self.label_words is None else self.label_words.to_wire()
        return {"texts": [[piece.to_wire() for piece in text] for text in self.texts], "label_words": words}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content, in hex."""
        return digest(self.to_wire())
