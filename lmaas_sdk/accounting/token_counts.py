"""What counting tokens has for an answer, and what all counters share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lmaas_sdk.errors import InvalidQuery
from lmaas_sdk.texts import Text
from lmaas_sdk.tuning.subspace import Subspace

__all__ = ["QUICK_CHARACTERS", "TextCounter", "TokenCounts", "check_characters"]

QUICK_CHARACTERS = 4096  # tokenizing more than this takes milliseconds, which the event loop does not have
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Token counts of texts.

    Args:
        counts: Positions of each text as it is billed for one candidate, prompt and special tokens included.
        exact: False: an upper bound.
        method: How they were counted, in words.
        shortened: How many texts lose words to fit the model; 0 where that is not known.
    """

    counts: tuple[int, ...]
    exact: bool
    method: str
    shortened: int = 0


class TextCounter(Protocol):
    """Counts the tokens of texts for one model."""

    async def count(self, texts: Sequence[Text], subspace: Subspace | None = None) -> TokenCounts:
        """Counts texts.

        Args:
            texts: The texts.
            subspace: Count as under soft prompts of this subspace; None: under the manual prompt.

        Raises:
            InvalidQuery: The model could not take them; the message names the text by its index.
        """
        ...


def check_characters(text: Text, index: int) -> None:
    """Refuses what is no Unicode text.

    Raises:
        InvalidQuery: A lone surrogate; the message names the text by its index.
    """
    for piece in text:
        if found := _SURROGATE.search(piece.text):
            raise InvalidQuery(
                f"text {index} holds the lone surrogate U+{ord(found.group()):04X}, which is half a character: remove "
                "it, or read the text again with the right encoding"
            )
