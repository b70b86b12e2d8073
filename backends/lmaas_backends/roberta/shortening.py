"""Which part of a text that is too long goes: the end of its longest fields, at the border of a character."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from tokenizers import Encoding

__all__ = ["cut_after", "kept_tokens"]

_JOINERS = ("\u200d",)
_SKIN_TONES = range(0x1F3FB, 0x1F400)


def kept_tokens(lengths: Sequence[int], excess: int) -> list[int]:
    """How many tokens each field keeps when `excess` must go: always the longest gives, so long ones end up level.

    Of fields of the same length the later ones give first.
    """
    if excess >= sum(lengths):
        return [0] * len(lengths)
    low, high = 0, max(lengths)
    while low < high:
        level = (low + high + 1) // 2
        if sum(max(0, length - level) for length in lengths) >= excess:
            low = level
        else:
            high = level - 1
    kept = [min(length, low) for length in lengths]
    spare = sum(lengths) - sum(kept) - excess
    for index in [i for i, length in enumerate(lengths) if length > low][:spare]:
        kept[index] += 1
    return kept


def cut_after(text: str, encoding: Encoding, tokens: int) -> str:
    """The start of `text` that its first `tokens` tokens cover, without white space at the end.

    A character that several tokens spell, a letter with its combining marks, and an emoji sequence go whole.
    """
    if tokens >= len(encoding.ids):
        return text
    # A token may cover no character of its own, so at least one character goes whatever the offsets say.
    end = max(0, min(encoding.offsets[tokens][0], len(text) - 1))
    while end > 0 and _continues(text, end):
        end -= 1
    return text[:end].rstrip()


def _continues(text: str, index: int) -> bool:
    """Whether the character at `index` belongs to the one before it."""
    character = text[index]
    if unicodedata.category(character).startswith("M") or ord(character) in _SKIN_TONES:
        return True
    return character in _JOINERS or text[index - 1] in _JOINERS
