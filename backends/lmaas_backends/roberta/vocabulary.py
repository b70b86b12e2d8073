"""A model's tokenizer, reduced to what turns plain text into ids, and the ids that mean something special."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Encoding, Tokenizer

from lmaas_sdk.canonical import digest
from lmaas_sdk.errors import InvalidQuery

__all__ = ["Vocabulary", "check_characters", "plain_tokenizer"]

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """What is known of a tokenizer.

    Args:
        tokenizer: Encodes plain text only: `<mask>` or `</s>` in it is spelled out, never a special token.
        tokenizer_json: The bytes of tokenizer.json.
        size: Rows of the model's word embeddings.
        cls_id, sep_id, mask_id: The tokens before a text, after it, and at the blank.
        unk_id: What stands for unknown words, if this kind of tokenizer has such.
        special_ids: All ids with a meaning of their own.
        mask: How the mask reads.
        strips_before_mask, strips_after_mask: Whether the mask swallows the white space before and after it.
    """

    tokenizer: Tokenizer
    tokenizer_json: bytes
    size: int
    cls_id: int
    sep_id: int
    mask_id: int
    unk_id: int | None
    special_ids: frozenset[int]
    mask: str
    strips_before_mask: bool
    strips_after_mask: bool

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        """Tokens of plain texts, without special tokens around them.

        Raises:
            InvalidQuery: A text holds half a surrogate pair, which is no character and has no UTF-8 form.
        """
        for text in texts:
            check_characters(text, where="a text")
        return self.tokenizer.encode_batch(list(texts), add_special_tokens=False)

    def digest(self) -> str:
        """SHA-256, in hex, over all that decides which ids a text becomes and which tokens are special."""
        special = [self.size, self.cls_id, self.sep_id, self.mask_id, self.unk_id, *sorted(self.special_ids)]
        mask = [self.mask, self.strips_before_mask, self.strips_after_mask]
        # The file alone is not enough: transformers may change what it reads there by tokenizer_config.json.
        return digest([hashlib.sha256(self.tokenizer_json).hexdigest(), self.tokenizer.to_str(), special, mask])

    def word(self, token_id: int) -> str:
        """A token as text, with its leading space where it has one."""
        return str(self.tokenizer.decode([token_id], skip_special_tokens=False))


def plain_tokenizer(serialized: str) -> Tokenizer:
    """A tokenizer of its own, from the JSON of another, that takes special tokens in a text for plain text."""
    tokenizer = Tokenizer.from_str(serialized)
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def check_characters(text: str, *, where: str) -> None:
    """Refuses what is no Unicode text; `where` names it.

    Raises:
        InvalidQuery: A lone surrogate; the message names it and its position.
    """
    found = _SURROGATE.search(text)
    if found is None:
        return
    start = found.start()
    near = ascii(text[max(0, start - 10) : start + 10])
    raise InvalidQuery(
        f"{where} holds the lone surrogate U+{ord(found.group()):04X} at character {start} (near {near}), which is "
        "half a character: remove it, or read the text again with the right encoding"
    )
