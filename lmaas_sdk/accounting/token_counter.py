"""Exact token counts for a served model of byte-level BPE, the same that its server bills."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from lmaas_sdk.accounting.prompt_frames import SPECIAL_TOKENS, PromptFrame, check_room, segments
from lmaas_sdk.accounting.shortening import shorter_text
from lmaas_sdk.accounting.token_counts import QUICK_CHARACTERS, TokenCounts, check_characters
from lmaas_sdk.accounting.token_encodings import ByteLevelBpe
from lmaas_sdk.accounting.token_memory import TokenMemory
from lmaas_sdk.backend import ModelCard
from lmaas_sdk.errors import Unsupported
from lmaas_sdk.texts import Text
from lmaas_sdk.tuning.subspace import Subspace

__all__ = ["TokenCounter"]

_FEW_TEXTS = 256  # as many are looked up in a millisecond or two


class TokenCounter:
    """Counts exactly what a server of a byte-level-BPE model bills; a text that was counted is remembered.

    Args:
        tokenizer: The model's.
        card: The model's; its mask, `max_tokens` and `vocab_size` are used.
        remembered_characters: Of texts in memory, as their length; the texts used longest ago go first.

    Raises:
        Unsupported: The card's mask is no special token of the tokenizer.
    """

    def __init__(self, tokenizer: ByteLevelBpe, card: ModelCard, *, remembered_characters: int = 16 << 20) -> None:
        if card.mask not in tokenizer.sides:
            raise Unsupported(f"the tokenizer of {card.name} has no special token {card.mask!r}, which is its mask")
        self._tokenizer, self._card = tokenizer, card
        self._strips = tokenizer.sides[card.mask]
        self._memory = TokenMemory(remembered_characters)

    async def count(self, texts: Sequence[Text], subspace: Subspace | None = None) -> TokenCounts:
        """Counts texts; many, or much that is new, on another thread.

        Args:
            texts: The texts.
            subspace: Count as under soft prompts of this subspace; None: under the manual prompt.

        Raises:
            InvalidQuery: The model could not take them; the message names the text by its index.
        """
        frame = PromptFrame.of(subspace)
        check_room(frame, max_tokens=self._card.max_tokens, vocab_size=self._card.vocab_size)
        if self._is_quick(texts, frame):
            return self._count_now(texts, frame)
        return await asyncio.to_thread(self._count_now, texts, frame)

    def _is_quick(self, texts: Sequence[Text], frame: PromptFrame) -> bool:
        if len(texts) > _FEW_TEXTS:
            return False
        new = (text for text in texts if self._memory.get(text, frame) is None)
        return sum(len(piece.text) for text in new for piece in text) <= QUICK_CHARACTERS

    def _count_now(self, texts: Sequence[Text], frame: PromptFrame) -> TokenCounts:
        found = {text: self._memory.get(text, frame) for text in texts}
        missing: dict[Text, int] = {}
        for index, text in enumerate(texts):
            if found[text] is None:
                missing.setdefault(text, index)
        counted = self._count_all(missing, frame)
        for text, positions in counted.items():
            self._memory.put(text, frame, positions)
        known = [counted.get(text) or found[text] for text in texts]
        counts = [positions for positions in known if positions is not None]
        shortened = sum(is_shorter for _, is_shorter in counts)
        return TokenCounts(tuple(count for count, _ in counts), True, "the model's own byte-level BPE", shortened)

    def _count_all(self, index_of: dict[Text, int], frame: PromptFrame) -> dict[Text, tuple[int, bool]]:
        for text, index in index_of.items():
            check_characters(text, index)
        return {text: self._fitted(text, frame, index=index) for text, index in index_of.items()}

    def _positions(self, text: Text, frame: PromptFrame) -> int:
        parts = segments(text, frame, strips=self._strips)
        masks = len(parts) - 1
        return SPECIAL_TOKENS + frame.prompt_tokens + masks + sum(map(self._tokenizer.count, parts))

    def _fitted(self, text: Text, frame: PromptFrame, *, index: int) -> tuple[int, bool]:
        """The positions a text takes once it fits, and whether it lost words for that."""
        most, whole = self._card.max_tokens, text
        while (positions := self._positions(text, frame)) > most:
            text = shorter_text(text, positions, most=most, index=index, starts_of=self._starts)
        return positions, text is not whole

    def _starts(self, fields: list[str]) -> list[list[int]]:
        return [self._tokenizer.starts(field) for field in fields]
