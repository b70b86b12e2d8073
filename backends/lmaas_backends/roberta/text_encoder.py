"""From the pieces of a text to the token ids a model reads, with room for the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lmaas_backends.roberta.vocabulary import Vocabulary, check_characters
from lmaas_sdk.accounting.prompt_frames import FIRST_BASE_TOKEN, PLAIN, check_room, segments
from lmaas_sdk.accounting.prompt_frames import PromptFrame as Frame
from lmaas_sdk.accounting.shortening import shorter_text
from lmaas_sdk.texts import Text

__all__ = ["FIRST_BASE_TOKEN", "PLAIN", "EncodedText", "Frame", "TextEncoder"]


@dataclass(frozen=True, slots=True)
class EncodedText:
    """A text as a model reads it.

    Args:
        ids: Token ids, special tokens and base tokens included.
        masks: Indices of the mask in `ids`.
        positions: Positions computed for it: `ids`, and in `cat` the prompt's vectors. This is what is billed.
        shortened: Whether it lost words to fit the model.
    """

    ids: tuple[int, ...]
    masks: tuple[int, ...]
    positions: int
    shortened: bool = False


@dataclass(frozen=True, slots=True)
class TextEncoder:
    """Encodes texts exactly as the model's own tokenizer encodes them written out, special tokens in user text apart.

    Args:
        vocabulary: The model's.
        max_tokens: Most positions a text may take, prompt and special tokens included.
    """

    vocabulary: Vocabulary
    max_tokens: int

    def encode(self, texts: Sequence[Text], frame: Frame = PLAIN) -> tuple[EncodedText, ...]:
        """Encodes texts under a prompt's frame; one that is too long loses the end of its longest field.

        Raises:
            InvalidQuery: The prompt leaves no room or needs a larger vocabulary, a text is too long even without its
                fields, or holds a lone surrogate. The message names the text by its index.
        """
        check_room(frame, max_tokens=self.max_tokens, vocab_size=self.vocabulary.size)
        for index, text in enumerate(texts):
            check_characters("".join(piece.text for piece in text), where=f"text {index}")
        split = [self._segments(text, frame) for text in texts]
        encodings = iter(self.vocabulary.encode([segment for parts in split for segment in parts]))
        encoded = [self._assemble([next(encodings).ids for _ in parts], frame) for parts in split]
        return tuple(
            one if one.positions <= self.max_tokens else self._shorten(texts[index], frame, index=index)
            for index, one in enumerate(encoded)
        )

    def _segments(self, text: Text, frame: Frame) -> list[str]:
        strips = (self.vocabulary.strips_before_mask, self.vocabulary.strips_after_mask)
        return segments(text, frame, strips=strips)

    def _assemble(self, parts: list[list[int]], frame: Frame) -> EncodedText:
        ids = [self.vocabulary.cls_id]
        if frame.layout == "add":
            ids += range(FIRST_BASE_TOKEN, FIRST_BASE_TOKEN + frame.prompt_tokens)
        masks = []
        for index, part in enumerate(parts):
            if index > 0:
                masks.append(len(ids))
                ids.append(self.vocabulary.mask_id)
            ids += part
        ids.append(self.vocabulary.sep_id)
        return EncodedText(tuple(ids), tuple(masks), len(ids) + frame.positions_before)

    def _encode_one(self, text: Text, frame: Frame) -> EncodedText:
        return self._assemble([encoding.ids for encoding in self.vocabulary.encode(self._segments(text, frame))], frame)

    def _shorten(self, text: Text, frame: Frame, *, index: int) -> EncodedText:
        encoded = self._encode_one(text, frame)
        while encoded.positions > self.max_tokens:
            text = shorter_text(text, encoded.positions, most=self.max_tokens, index=index, starts_of=self._starts)
            encoded = self._encode_one(text, frame)
        return replace(encoded, shortened=True)

    def _starts(self, fields: list[str]) -> list[list[int]]:
        return [[start for start, _ in encoding.offsets] for encoding in self.vocabulary.encode(fields)]
