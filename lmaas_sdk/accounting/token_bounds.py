"""Upper bounds of token counts, where no exact count can be had."""

from __future__ import annotations

import asyncio
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from lmaas_sdk.accounting.token_counts import QUICK_CHARACTERS, TokenCounts, check_characters
from lmaas_sdk.backend import ModelCard
from lmaas_sdk.texts import Text
from lmaas_sdk.tuning.subspace import Subspace

if TYPE_CHECKING:
    import tiktoken

__all__ = ["ByteBound", "WrittenOut", "upper_bound_counts"]

_AROUND_A_TEXT = 4  # a generous allowance for special tokens and separators where nobody counts exactly
_AROUND_A_MESSAGE = 8  # the same for a message to a chat model: role, separators and the start of the answer make 7
_DECOMPOSED: tuple[Literal["NFD", "NFKD"], ...] = ("NFD", "NFKD")


class WrittenOut:
    """Bounds what an OpenAI model bills by its own vocabulary: the text written out, and an allowance around it.

    Args:
        encoding: The model's.
        card: The model's.
    """

    def __init__(self, encoding: tiktoken.Encoding, card: ModelCard) -> None:
        self._encoding, self._card = encoding, card

    async def count(self, texts: Sequence[Text], subspace: Subspace | None = None) -> TokenCounts:
        """Counts texts; many on another thread. How a text is wrapped is the backend's, so this is a bound.

        Raises:
            InvalidQuery: A text holds a lone surrogate.
        """
        for index, text in enumerate(texts):
            check_characters(text, index)
        written = [self._written(text) for text in texts]
        if sum(map(len, written)) > QUICK_CHARACTERS:
            tokens = await asyncio.to_thread(self._count_all, written)
        else:
            tokens = self._count_all(written)
        extra = _AROUND_A_MESSAGE + (0 if subspace is None else subspace.prompt_tokens)
        counts = tuple(min(count + extra, self._card.max_tokens) for count in tokens)
        return TokenCounts(counts, False, f"tiktoken's {self._encoding.name}, {_AROUND_A_MESSAGE} more a text")

    def _written(self, text: Text) -> str:
        return "".join(self._card.mask if piece.kind == "mask" else piece.text for piece in text)

    def _count_all(self, texts: Sequence[str]) -> list[int]:
        return [len(self._encoding.encode_ordinary(text)) for text in texts]


class ByteBound:
    """Bounds the tokens of any model by UTF-8 bytes.

    Args:
        card: The model's.
    """

    def __init__(self, card: ModelCard) -> None:
        self._card = card

    async def count(self, texts: Sequence[Text], subspace: Subspace | None = None) -> TokenCounts:
        """Counts bytes, of much text on another thread; see `upper_bound_counts`."""
        most = (texts, 0 if subspace is None else subspace.prompt_tokens, self._card.max_tokens)
        if sum(len(piece.text) for text in texts for piece in text) > QUICK_CHARACTERS:
            counts = await asyncio.to_thread(upper_bound_counts, *most)
        else:
            counts = upper_bound_counts(*most)
        return TokenCounts(counts, False, "an upper bound by UTF-8 bytes")


def upper_bound_counts(texts: Sequence[Text], prompt_tokens: int, max_tokens: int) -> tuple[int, ...]:
    """The most positions texts can take: no tokenizer makes more tokens than there are UTF-8 bytes in what it splits.

    That is the text, or what it becomes by Unicode normalization (NFC, NFD, NFKC, NFKD) and casefolding: SentencePiece
    and WordPiece models normalize first, and one character may become 18.

    Args:
        texts: The texts.
        prompt_tokens: L, of the prompt around each.
        max_tokens: Most positions a text may take.
    """
    extra = _AROUND_A_TEXT + prompt_tokens
    return tuple(min(_most_tokens(text) + extra, max_tokens) for text in texts)


def _most_tokens(text: Text) -> int:
    """A text's bytes, and a token for its mask."""
    return sum(1 if piece.kind == "mask" else _most_bytes(piece.text) for piece in text)


def _most_bytes(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(count * _most_bytes_of(character) for character, count in Counter(text).items())


@lru_cache(maxsize=4096)
def _most_bytes_of(character: str) -> int:
    """The most UTF-8 bytes of a character in any normal form; a lone surrogate has the three that replace it."""
    # The composed forms need no look: two characters never compose to one of more bytes than both have.
    forms = [character, *(unicodedata.normalize(form, character) for form in _DECOMPOSED)]
    folded = [form.casefold() for form in forms]
    forms += [*folded, *(unicodedata.normalize(form, one) for form in _DECOMPOSED for one in folded)]
    return max(len(form.encode("utf-8", "surrogatepass")) for form in forms)
