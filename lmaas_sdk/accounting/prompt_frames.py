"""What stands around a text for the model: the prompt's positions, special tokens, and the mask's white space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lmaas_sdk.errors import InvalidQuery
from lmaas_sdk.texts import Piece, Text
from lmaas_sdk.tuning.subspace import Subspace

__all__ = ["FIRST_BASE_TOKEN", "PLAIN", "SPECIAL_TOKENS", "PromptFrame", "check_room", "segments"]

SPECIAL_TOKENS = 2  # one before a text and one after it
FIRST_BASE_TOKEN = 1000
# What the tokenizers library strips beside a mask: Unicode White_Space. str.strip() would also take U+001C .. U+001F.
_WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
# In `add` a full stop stands between the base tokens and the text (reference implementation of Sun et al. 2022).
_AFTER_BASE_TOKENS = Piece("template", " . ")


@dataclass(frozen=True, slots=True)
class PromptFrame:
    """The prompt around a text: none (`plain`), base tokens after `<s>` (`add`), or vectors before `<s>` (`cat`)."""

    layout: Literal["plain", "add", "cat"] = "plain"
    prompt_tokens: int = 0

    @classmethod
    def of(cls, subspace: Subspace | None) -> PromptFrame:
        """The frame of a subspace's prompt; None: the manual prompt's."""
        return PLAIN if subspace is None else cls(subspace.layout, subspace.prompt_tokens)

    @property
    def positions_before(self) -> int:
        """Positions in front of `<s>` that are no tokens."""
        return self.prompt_tokens if self.layout == "cat" else 0


PLAIN = PromptFrame()


def check_room(frame: PromptFrame, *, max_tokens: int, vocab_size: int) -> None:
    """Refuses a prompt that the model has no room or no vocabulary for.

    Args:
        frame: The prompt's.
        max_tokens: Most positions a text may take, prompt and special tokens included.
        vocab_size: Tokens in the model's vocabulary.

    Raises:
        InvalidQuery: The message says what would do.
    """
    if frame.layout == "add" and FIRST_BASE_TOKEN + frame.prompt_tokens > vocab_size:
        raise InvalidQuery(
            f"layout 'add' with {frame.prompt_tokens} prompt tokens stands on vocabulary ids {FIRST_BASE_TOKEN} .. "
            f"{FIRST_BASE_TOKEN + frame.prompt_tokens - 1}, but the vocabulary has {vocab_size}: take fewer prompt "
            "tokens or layout 'cat'"
        )
    if frame.prompt_tokens + SPECIAL_TOKENS >= max_tokens:
        raise InvalidQuery(
            f"a prompt of {frame.prompt_tokens} tokens leaves no room for text: this model takes {max_tokens} "
            f"positions, {SPECIAL_TOKENS} of them special tokens; take fewer prompt tokens"
        )


def segments(text: Text, frame: PromptFrame, *, strips: tuple[bool, bool]) -> list[str]:
    """The plain strings between a text's masks, one more than there are masks.

    Args:
        text: The text.
        frame: The prompt's.
        strips: Whether the mask swallows the white space before and after it.
    """
    parts = [""]
    for piece in (_AFTER_BASE_TOKENS, *text) if frame.layout == "add" else text:
        if piece.kind == "mask":
            parts.append("")
        else:
            parts[-1] += piece.text
    if strips[0]:
        parts[:-1] = [part.rstrip(_WHITE_SPACE) for part in parts[:-1]]
    if strips[1]:
        parts[1:] = [part.lstrip(_WHITE_SPACE) for part in parts[1:]]
    return parts
