"""Which part of a text that is too long goes: the end of its longest fields, at the border of a character."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Sequence

__all__ = ["cut_before", "kept_tokens"]

_JOINER = "\u200d"
_SKIN_TONES = range(0x1F3FB, 0x1F400)


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
