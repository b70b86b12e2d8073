"""Which part of a text that is too long goes: the end of its longest fields, at the border of a character."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace

from lmaas_sdk.errors import InvalidQuery
from lmaas_sdk.texts import Text

__all__ = ["cut_before", "kept_tokens", "shorter_text"]

_JOINER = "\u200d"
_SKIN_TONES = range(0x1F3FB, 0x1F400)


def shorter_text(
    text: Text, positions: int, *, most: int, index: int, starts_of: Callable[[list[str]], Sequence[Sequence[int]]]
) -> Text:
    """A text that does not fit, with about as many tokens less in its fields as it has too many.

    Args:
        text: The text.
        positions: What it takes.
        most: What it may take.
        index: The text's, for the message.
        starts_of: The character that each token of some strings starts at, as the model's tokenizer tells it.

    Raises:
        InvalidQuery: Its fields are empty already.
    """
    shorter = _without(text, positions - most, starts_of)
    if shorter == text:
        raise InvalidQuery(
            f"text {index} takes {positions} positions without its fields, above the model's {most}: only fields are "
            "shortened, so shorten the template or the prompt"
        )
    return shorter


def _without(text: Text, excess: int, starts_of: Callable[[list[str]], Sequence[Sequence[int]]]) -> Text:
    fields = [index for index, piece in enumerate(text) if piece.kind == "field"]
    starts = starts_of([text[index].text for index in fields])
    kept = kept_tokens([len(found) for found in starts], excess)
    pieces = list(text)
    for index, found, tokens in zip(fields, starts, kept, strict=True):
        if tokens < len(found) or not tokens:
            # A field of no tokens (white space to this tokenizer) may still cost some beside its neighbours.
            left = cut_before(text[index].text, found[tokens]) if tokens else ""
            pieces[index] = replace(text[index], text=left)
    return tuple(pieces)


def kept_tokens(lengths: Sequence[int], excess: int) -> list[int]:
    """How many tokens each field keeps when `excess` must go: the longest gives first, so long ones end up level.

    Of fields of the same length the later ones give first.
    """
    if excess >= sum(lengths):
        return [0] * len(lengths)
    # The highest level that takes at least `excess`: it takes less the higher it is.
    levels = range(max(lengths) + 1)
    level = bisect_right(levels, -excess, key=lambda level: -sum(max(0, length - level) for length in lengths)) - 1
    kept = [min(length, level) for length in lengths]
    spare = sum(lengths) - sum(kept) - excess
    for index in [index for index, length in enumerate(lengths) if length > level][:spare]:
        kept[index] += 1
    return kept


def cut_before(text: str, start: int) -> str:
    """What stays of a text whose token at character `start` is the first to go, without white space at the end.

    A character that several tokens spell, a letter with its combining marks, and an emoji sequence go whole.
    """
    # A token may cover no character of its own, so at least one character goes wherever it is said to start.
    end = max(0, min(start, len(text) - 1))
    while end > 0 and _continues(text, end):
        end -= 1
    return text[:end].rstrip()


def _continues(text: str, index: int) -> bool:
    """Whether the character at `index` belongs to the one before it."""
    character = text[index]
    if unicodedata.category(character).startswith("M") or ord(character) in _SKIN_TONES:
        return True
    return _JOINER in (character, text[index - 1])
